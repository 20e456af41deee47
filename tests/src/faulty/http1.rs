//! HTTP/1.1 by hand: one request, one answer, right or wrong.

use super::{Fault, well};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

/// Answers one request and closes the connection.
pub(super) async fn answer(mut stream: TcpStream, fault: Fault) -> std::io::Result<()> {
    let path = read_request(&mut stream).await?;
    let (kind, text) = well(&path);
    let head = |status: &str, length: usize| {
        let kind = format!("content-type: {kind}\r\nconnection: close");
        format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {length}\r\n\r\n")
    };
    let ok = head("200 OK", text.len());
    match fault {
        Fault::Silent => std::future::pending().await,
        Fault::Slow => {
            stream.write_all(ok.as_bytes()).await?;
            for byte in text.bytes() {
                sleep(Duration::from_secs(1)).await;
                stream.write_all(&[byte]).await?;
            }
        }
        Fault::Reset => {
            stream.write_all(ok.as_bytes()).await?;
            stream.write_all(&text.as_bytes()[..10]).await?;
            stream.flush().await?;
        }
        Fault::WrongLength => {
            let more = head("200 OK", text.len() + 100);
            stream.write_all(more.as_bytes()).await?;
            stream.write_all(&text.as_bytes()[..10]).await?;
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
        _ => {
            stream.write_all((ok + text).as_bytes()).await?;
            stream.shutdown().await?;
        }
    }
    Ok(())
}

/// Reads a request to its end and gives its path.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            line.to_lowercase()
                .strip_prefix("content-length:")
                .map(str::to_owned)
        });
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap_or(0));
        if body.len() >= length {
            return Ok(head.split(' ').nth(1).unwrap_or_default().to_owned());
        }
    }
}
