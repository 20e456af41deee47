//! A wire that can be cut: a relay of TCP connections to one server, which counts what comes back and
//! breaks off when it is told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
};

/// A relay; it ends with the test's runtime.
pub struct Relay {
    /// Its address as a URL without a path.
    pub url: String,
    counts: Arc<Counts>,
}

struct Counts {
    /// How many bytes may still come back.
    left: AtomicU64,
    came: AtomicU64,
}

impl Relay {
    /// A relay to the server at `http://HOST:PORT`.
    pub async fn start(to: &str) -> Self {
        let to: SocketAddr = to
            .trim_start_matches("http://")
            .parse()
            .expect("the server has an address");
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("a listener knows its address");
        let counts = Arc::new(Counts {
            left: AtomicU64::new(u64::MAX),
            came: AtomicU64::new(0),
        });
        let relay = Self {
            url: format!("http://{address}"),
            counts: Arc::clone(&counts),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, to, Arc::clone(&counts)));
            }
        });
        relay
    }

    /// Lets so many bytes come back, and then breaks every connection off.
    pub fn cut_after(&self, bytes: u64) {
        self.counts.left.store(bytes, SeqCst);
    }

    /// Lets everything through again, and counts from 0.
    pub fn mend(&self) {
        self.counts.came.store(0, SeqCst);
        self.counts.left.store(u64::MAX, SeqCst);
    }

    /// How many bytes came back since it was mended.
    pub fn came(&self) -> u64 {
        self.counts.came.load(SeqCst)
    }
}

async fn connection(client: TcpStream, to: SocketAddr, counts: Arc<Counts>) {
    let Ok(server) = TcpStream::connect(to).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
        let left = counts.left.load(SeqCst);
        let passes = (count as u64).min(left) as usize;
        if left != u64::MAX {
            counts.left.fetch_sub(passes as u64, SeqCst);
        }
        counts.came.fetch_add(passes as u64, SeqCst);
        let sent = to_client.write_all(&buffer[..passes]).await;
        if passes < count || sent.is_err() {
            break;
        }
    }
    there.abort();
}
