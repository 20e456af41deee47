//! What the engine costs over a bare HTTP server: an echo graph against an axum handler that does
//! the same, in one process, with the same client, in turns. The goal is 0.7 of its throughput.

mod support;

use axum::{Json, Router, routing::post};
use engine::{
    ingress::{Connections, Doorways, Front, serve},
    metrics::Metrics,
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

const CLIENTS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

const FILE: &str = r#"
graph echo {
    input { text type=string min-length=1 }
    template reply { text "{{ input.text }}" }
    output { text "{{ reply }}" }
}"#;

#[derive(Deserialize, Serialize)]
struct Echo {
    text: String,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be built").block_on(async {
        let engine = engine().await;
        let bare = bare().await;
        let (mut engines, mut bares) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bares.push(throughput(bare, "/echo").await);
            engines.push(throughput(engine, "/echo").await);
        }
        for rates in [&mut engines, &mut bares] {
            rates.sort_by(f64::total_cmp);
        }
        let (engine, bare) = (engines[ROUNDS / 2], bares[ROUNDS / 2]);
        println!("{CLIENTS} clients, median of {ROUNDS} rounds of {ROUND:?} each");
        println!("bare axum handler  {bare:>10.0} requests/s");
        println!("echo graph         {engine:>10.0} requests/s");
        println!(
            "ratio              {:>10.3} (goal: at least 0.7)",
            engine / bare
        );
    });
}

async fn engine() -> SocketAddr {
    let front = Front::new(support::start(FILE).await, Arc::new(Metrics::new()));
    let public = listener().await;
    let address = public.local_addr().expect("a bound socket has an address");
    let admin = listener().await;
    let forever = std::future::pending();
    tokio::spawn(async move {
        serve(
            Doorways::of(public, admin),
            Arc::new(front),
            Connections::default(),
            forever,
        )
        .await
    });
    address
}

async fn bare() -> SocketAddr {
    let echo = |Json(echo): Json<Echo>| async move { Json(echo) };
    let router: Router = Router::new().route("/echo", post(echo));
    let listener = listener().await;
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    listener.expect("a loopback socket can be bound")
}

/// Requests per second of all clients together, each with one connection and one request at a time.
async fn throughput(server: SocketAddr, path: &str) -> f64 {
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(server, path.to_owned(), begun + ROUND)))
        .collect();
    let mut answered = 0;
    for client in clients {
        answered += client.await.expect("a client does not panic");
    }
    answered as f64 / begun.elapsed().as_secs_f64()
}

async fn client(server: SocketAddr, path: String, until: Instant) -> u64 {
    let body = r#"{"text":"a text of an ordinary length, as a person might send it"}"#;
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let stream = TcpStream::connect(server).await;
    let mut stream = stream.expect("the server listens");
    stream.set_nodelay(true).expect("a socket has the option");
    let mut answer = Vec::with_capacity(4096);
    let mut answered = 0;
    while Instant::now() < until {
        stream
            .write_all(request.as_bytes())
            .await
            .expect("the server reads");
        answer.clear();
        while !is_whole(&answer) {
            let read = stream.read_buf(&mut answer).await;
            assert_ne!(read.expect("the server answers"), 0, "the server closed");
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        answered += 1;
    }
    answered
}

/// Whether a response with a `content-length` is there to its end.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(&answer[..head]);
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    answer.len() >= head + 4 + length
}
