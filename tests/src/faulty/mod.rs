//! A service in trouble: a server that does wrong what a service can do wrong, until it is told to be
//! well. It speaks HTTP/1.1 over a bare socket, gRPC, or HTTP/2 over TLS, and answers what each kind of
//! node that calls services asks.

mod http1;
mod http2;
mod tls;

pub use tls::trusted;

use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::sleep,
};

/// What is wrong with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Connections are refused.
    Refused,
    /// The connection is reset in the middle of the body.
    Reset,
    /// It takes the request and says nothing.
    Silent,
    /// It sends a byte a second.
    Slow,
    /// It promises more bytes than it sends.
    WrongLength,
    /// It answers 503, UNAVAILABLE in gRPC.
    Storm,
    /// It answers 500, INTERNAL in gRPC.
    Error,
    /// It answers something that is neither HTTP nor TLS.
    Garbage,
    /// Over HTTP/2, it says goodbye when it is asked.
    GoAway,
    /// Over TLS, it shows a certificate of which nobody has heard.
    Unknown,
}

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1; a connection takes one request.
    Http,
    /// HTTP/2 without TLS: gRPC.
    Grpc,
    /// HTTP/2 over TLS, with a certificate that [`trusted`] has.
    Tls,
}

/// A service in trouble; it ends with the test's runtime.
pub struct Faulty {
    /// Where it is.
    pub address: SocketAddr,
    fault: watch::Sender<Fault>,
}

/// What it completes when it is well, as a stream of events.
const WELL: &str = "data: {\"choices\":[{\"index\":0,\"text\":\"well\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

impl Faulty {
    /// A service of HTTP/1.1 with this fault, on a port of its own.
    pub async fn start(fault: Fault) -> Self {
        Self::speaking(Wire::Http, fault).await
    }

    /// A service with this fault, on a port of its own.
    pub async fn speaking(wire: Wire, fault: Fault) -> Self {
        // Taken without listening at first, which refuses connections.
        let socket = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = socket.local_addr().expect("a bound socket has an address");
        let (sender, receiver) = watch::channel(fault);
        tokio::spawn(serve(socket, address, wire, receiver));
        let faulty = Self {
            address,
            fault: sender,
        };
        faulty.settled(fault).await;
        faulty
    }

    /// Its address over HTTP as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what is wrong. Connections that there are end.
    pub async fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
        self.settled(fault).await;
    }

    /// Waits until connections are taken or refused as they should be.
    async fn settled(&self, fault: Fault) {
        while TcpStream::connect(self.address).await.is_ok() == (fault == Fault::Refused) {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    // Connections that have ended hold a port for a while.
    socket.set_reuseaddr(true).expect("a socket has options");
    socket.bind(address).expect("the port is free");
    socket
}

async fn serve(
    mut socket: TcpSocket,
    address: SocketAddr,
    wire: Wire,
    mut fault: watch::Receiver<Fault>,
) {
    loop {
        let now = *fault.borrow_and_update();
        if now == Fault::Refused {
            if fault.changed().await.is_err() {
                return;
            }
            continue;
        }
        let listener = socket.listen(1024).expect("a bound socket can listen");
        if accept(&listener, wire, now, &mut fault).await.is_none() {
            return;
        }
        drop(listener);
        socket = bound(address);
    }
}

/// Takes connections until the fault is another; none if nobody can change it any more.
async fn accept(
    listener: &TcpListener,
    wire: Wire,
    now: Fault,
    fault: &mut watch::Receiver<Fault>,
) -> Option<()> {
    loop {
        tokio::select! {
            changed = fault.changed() => return changed.ok(),
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let mut fault = fault.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        // A client that gives up is what many of these tests are about.
                        _ = speak(stream, wire, now) => {}
                        _ = fault.changed() => {}
                    }
                });
            }
        }
    }
}

async fn speak(mut stream: TcpStream, wire: Wire, fault: Fault) -> std::io::Result<()> {
    if fault == Fault::Garbage {
        // What a server says that speaks another protocol.
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await?;
        return stream.shutdown().await;
    }
    if fault == Fault::Reset {
        // Closing with what the client has not read yet thrown away is a reset.
        stream.set_zero_linger()?;
    }
    match wire {
        Wire::Http => http1::answer(stream, fault).await,
        Wire::Grpc => http2::answer(stream, fault).await,
        Wire::Tls => http2::answer(tls::accept(stream, fault).await?, fault).await,
    }
}

/// What is asked at a path when the service is well: its kind and its text.
fn well(path: &str) -> (&'static str, &'static str) {
    let json = "application/json";
    match path {
        "/json" => (json, r#"{"text": "well"}"#),
        "/v2" => (
            json,
            r#"{"name": "faulty", "version": "1", "extensions": []}"#,
        ),
        "/v2/models/m" => (
            json,
            r#"{"name": "m", "inputs": [{"name": "X", "datatype": "FP32", "shape": [1]}], "outputs": [{"name": "Y", "datatype": "BYTES", "shape": [1]}]}"#,
        ),
        "/v2/models/m/infer" => (
            json,
            r#"{"outputs": [{"name": "Y", "datatype": "BYTES", "shape": [1], "data": ["well"]}]}"#,
        ),
        _ => ("text/event-stream", WELL),
    }
}
