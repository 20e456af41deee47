//! A service in trouble: a raw TCP server that does wrong what a service can do wrong, until it is told
//! to be well.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
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
    /// It answers 503.
    Storm,
    /// It answers 500.
    Error,
    /// It answers something that is no HTTP: what a server without TLS says to one who speaks it.
    Garbage,
}

/// A service in trouble; it ends with the test's runtime.
pub struct Faulty {
    /// Where it is.
    pub address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    /// A port that is taken and refuses connections, until it is to be well.
    refusing: Mutex<Option<TcpSocket>>,
}

/// What it says when it is well: a streamed completion.
pub const WELL: &str = "data: {\"choices\":[{\"index\":0,\"text\":\"well\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

impl Faulty {
    /// A service with this fault, on a port of its own.
    pub async fn start(fault: Fault) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).expect("a port is free");
        let address = socket.local_addr().expect("a bound socket has an address");
        let faulty = Self {
            address,
            fault: Arc::new(Mutex::new(fault)),
            refusing: Mutex::new(Some(socket)),
        };
        if fault != Fault::Refused {
            faulty.listen();
        }
        faulty
    }

    /// Its address as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what is wrong.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        self.listen();
    }

    fn listen(&self) {
        let socket = self
            .refusing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(socket) = socket else { return };
        let listener = socket.listen(1024).expect("a bound socket can listen");
        tokio::spawn(serve(listener, Arc::clone(&self.fault)));
    }
}

async fn serve(listener: TcpListener, fault: Arc<Mutex<Fault>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let fault = Arc::clone(&fault);
        tokio::spawn(async move {
            // A client that gives up is what many of these tests are about.
            let _ = answer(stream, &fault).await;
        });
    }
}

/// Answers one request and closes the connection.
async fn answer(mut stream: TcpStream, fault: &Mutex<Fault>) -> std::io::Result<()> {
    let now = || *fault.lock().unwrap_or_else(PoisonError::into_inner);
    if now() == Fault::Garbage {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await?;
        return stream.shutdown().await;
    }
    read_request(&mut stream).await?;
    let head = |status: &str, length: usize| {
        let kind = "content-type: text/event-stream\r\nconnection: close";
        format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {length}\r\n\r\n")
    };
    let ok = head("200 OK", WELL.len());
    match now() {
        Fault::Silent => std::future::pending().await,
        Fault::Slow => {
            stream.write_all(ok.as_bytes()).await?;
            for byte in WELL.bytes() {
                sleep(Duration::from_secs(1)).await;
                stream.write_all(&[byte]).await?;
            }
        }
        Fault::Reset => {
            stream.write_all(ok.as_bytes()).await?;
            stream.write_all(&WELL.as_bytes()[..20]).await?;
            stream.flush().await?;
            // Closing at once, with what the client has not read yet thrown away, is a reset.
            stream.set_zero_linger()?;
        }
        Fault::WrongLength => {
            let more = head("200 OK", WELL.len() + 100);
            stream.write_all(more.as_bytes()).await?;
            stream.write_all(&WELL.as_bytes()[..20]).await?;
            stream.shutdown().await?;
        }
        fault @ (Fault::Storm | Fault::Error) => {
            let body = r#"{"error": {"message": "out of memory"}}"#;
            let status = match fault {
                Fault::Storm => "503 Service Unavailable",
                _ => "500 Internal Server Error",
            };
            let answer = head(status, body.len()) + body;
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
        }
        Fault::None | Fault::Refused | Fault::Garbage => {
            stream.write_all((ok + WELL).as_bytes()).await?;
            stream.shutdown().await?;
        }
    }
    Ok(())
}

/// Reads a request to its end.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap_or(0));
        if body.len() >= length {
            return Ok(());
        }
    }
}
