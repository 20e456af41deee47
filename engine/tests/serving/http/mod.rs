//! The public and the admin face over loopback sockets, byte by byte.

mod answers;
mod inputs;
mod service;
mod ways_in;

use crate::kit::{Scripted, program};
use engine::{
    ingress::{Connections, Doorways, Front, serve},
    metrics::Metrics,
    topology::Topology,
};
use expect_test::{Expect, expect};
use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

const FILE: &str = r#"
server { max-body "1KiB"; graceful-shutdown-timeout "5s" }
model m { source "file:m" }
graph echo {
    input {
        text   type=string  min-length=1 max-length=20
        top-k  type=integer default=20 min=1 max=100
        mode   type=string  default="fast" { one-of "fast" "good" }
        tags   type=list of=string optional=#true
    }
    template t { text "{{ input.text }}" }
    output { text "{{ t }}"; top-k "{{ input.top_k }}"; mode "{{ input.mode }}"; tags "{{ input.tags }}" }
}
graph ask route="/deep/ask" timeout="10s" {
    input { prompt type=string }
    generate answer { model m; prompt "{{ input.prompt }}"; max-ongoing-requests 1; max-queued-requests 1 }
    output { answer "{{ answer }}"; words "{{ answer | split | length }}" }
}
graph lora {
    input { text type=string default="x" }
    template t { text "{{ header.x_lora_id | default('none') }}" }
    output { adapter "{{ t }}" }
}
"#;

struct Server {
    public: SocketAddr,
    admin: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<usize>,
    catalog: Scripted,
}

async fn serving(file: &str) -> Server {
    let catalog = Scripted::default();
    let metrics = Arc::new(Metrics::new());
    let topology = Topology::start(1, program(file), catalog.shared(), &metrics)
        .await
        .unwrap();
    let front = Front::new(topology, metrics).with_body_timeout(Duration::from_millis(300));
    let listeners = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let (public, admin) = (
        listeners.0.local_addr().unwrap(),
        listeners.1.local_addr().unwrap(),
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let connections = Connections {
        header_timeout: Duration::from_millis(300),
        ..Connections::default()
    };
    let task = tokio::spawn(async move {
        let stopped = async { stopped.await.unwrap_or_default() };
        serve(
            Doorways::of(listeners.0, listeners.1),
            Arc::new(front),
            connections,
            stopped,
        )
        .await
    });
    Server {
        public,
        admin,
        stop,
        task,
        catalog,
    }
}

/// Sends bytes and reads to the end of the connection.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is no news.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: r1\r\n\
         content-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    raw(address, request.as_bytes()).await
}

async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    raw(address, request.as_bytes()).await
}

/// The status line and the headers that say something, then the body.
fn shown(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines = head.lines();
    let mut shown = format!("{}\n", lines.next().unwrap_or("closed"));
    for line in lines {
        if ["retry-after", "allow", "www-", "x-request-id"]
            .iter()
            .any(|name| line.starts_with(name))
        {
            let _ = writeln!(shown, "{line}");
        }
    }
    let body = match serde_json::from_str::<serde_json::Value>(body) {
        Ok(json) if json.get("type").is_some() => serde_json::to_string_pretty(&json).unwrap(),
        _ => body.to_owned(),
    };
    shown + &body + "\n"
}

async fn check(path: &str, headers: &str, body: &str, expect: Expect) {
    let server = serving(FILE).await;
    expect.assert_eq(&shown(&post(server.public, path, headers, body).await));
}
