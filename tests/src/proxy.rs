//! A proxy in front of a real server, which does to its connections what a network and a server in trouble
//! do, also to those that are open already.

use crate::faulty::Fault;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::sleep,
};

/// A proxy; it ends with the test's runtime.
pub struct Proxy {
    /// Where it is.
    pub address: SocketAddr,
    fault: watch::Sender<Fault>,
}

impl Proxy {
    /// A proxy that is well, in front of a server on this port of the loopback address.
    pub async fn before(port: u16) -> Self {
        let (fault, watched) = watch::channel(Fault::None);
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        tokio::spawn(serve(listener, address, port, watched));
        Self { address, fault }
    }

    /// Changes what is wrong, with open connections too. Of [`Fault`], those that a network can have are
    /// known: none, refused, reset, silent, slow, and garbage.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    port: u16,
    mut fault: watch::Receiver<Fault>,
) {
    let mut listener = Some(listener);
    loop {
        let now = *fault.borrow_and_update();
        match (&listener, now) {
            (_, Fault::Refused) => {
                // The port is free for a moment; nothing else is given it that soon.
                listener = None;
                if fault.changed().await.is_err() {
                    return;
                }
            }
            (None, _) => {
                let socket = TcpSocket::new_v4().expect("a socket can be made");
                socket
                    .set_reuseaddr(true)
                    .expect("an address can be used again");
                socket.bind(address).expect("the port is still free");
                listener = Some(socket.listen(64).expect("a bound socket can listen"));
            }
            (Some(open), _) => tokio::select! {
                accepted = open.accept() => {
                    let Ok((client, _)) = accepted else { return };
                    tokio::spawn(carry(client, port, fault.clone()));
                }
                changed = fault.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            },
        }
    }
}

/// Carries one connection until it ends or is ended.
async fn carry(mut client: TcpStream, port: u16, mut fault: watch::Receiver<Fault>) {
    let now = *fault.borrow_and_update();
    if now == Fault::Garbage {
        let _ = client.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    // Closing at once, with what was not sent thrown away, is a reset.
    let _ = (client.set_zero_linger(), client.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut ways = JoinSet::new();
    ways.spawn(one_way(from_client, to_server, fault.clone()));
    ways.spawn(one_way(from_server, to_client, fault));
    // The first that ends ends the other.
    ways.join_next().await;
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let now = *fault.borrow_and_update();
        match now {
            Fault::Refused | Fault::Reset | Fault::Garbage => return,
            Fault::Silent => {
                if fault.changed().await.is_err() {
                    return;
                }
                continue;
            }
            _ => {}
        }
        let most = if now == Fault::Slow { 1 } else { bytes.len() };
        let read = tokio::select! {
            read = from.read(&mut bytes[..most]) => read,
            _ = fault.changed() => continue,
        };
        match read {
            Ok(count) if count > 0 => {
                if now == Fault::Slow {
                    sleep(Duration::from_secs(1)).await;
                }
                if *fault.borrow() == Fault::Silent {
                    // Kept back until it is well again.
                    let well = fault.wait_for(|fault| *fault != Fault::Silent);
                    if well.await.is_err() {
                        return;
                    }
                }
                if to.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
