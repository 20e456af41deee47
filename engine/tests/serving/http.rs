//! The public and the admin face over loopback sockets, byte by byte.

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

#[tokio::test]
async fn json_in_and_json_out() {
    check(
        "/echo",
        "",
        r#"{"text": "hi"}"#,
        expect![[r#"
        HTTP/1.1 200 OK
        x-request-id: r1
        {"text":"hi","top_k":20,"mode":"fast","tags":null}
    "#]],
    )
    .await;
    check(
        "/echo/",
        "",
        r#"{"text": "hi", "top-k": 3, "mode": "good", "tags": ["a"]}"#,
        expect![[r#"
        HTTP/1.1 200 OK
        x-request-id: r1
        {"text":"hi","top_k":3,"mode":"good","tags":["a"]}
    "#]],
    )
    .await;
    check(
        "/lora",
        "x-lora-id: legal\r\n",
        "",
        expect![[r#"
        HTTP/1.1 200 OK
        x-request-id: r1
        {"adapter":"legal"}
    "#]],
    )
    .await;
    check(
        "/lora",
        "",
        "",
        expect![[r#"
        HTTP/1.1 200 OK
        x-request-id: r1
        {"adapter":"none"}
    "#]],
    )
    .await;
}

#[tokio::test]
async fn timings_and_ids_come_back() {
    let server = serving(FILE).await;
    let answer = post(server.public, "/deep/ask", "", r#"{"prompt": "a b"}"#).await;
    let timing = answer
        .lines()
        .find(|line| line.starts_with("server-timing: "))
        .unwrap();
    assert!(
        timing.contains("answer;dur=") && timing.contains(", total;dur="),
        "{timing}"
    );
    assert!(answer.contains("x-request-id: r1\r\n"), "{answer}");
    let made = get(server.public, "/nowhere").await;
    let id = made
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "));
    assert_eq!(id.map(str::len), Some(16), "{made}");
}

#[tokio::test]
async fn every_misfit_of_an_input_is_said_at_once() {
    check(
        "/echo",
        "",
        r#"{"text": "", "top_k": 1000, "mode": "best", "tags": ["a", 2], "limit": 1, "topk": 2}"#,
        expect![[r#"
            HTTP/1.1 400 Bad Request
            x-request-id: r1
            {
              "type": "urn:engine:problem:invalid-input",
              "title": "Bad Request",
              "status": 400,
              "detail": "6 fields do not fit the graph's input",
              "graph": "echo",
              "request_id": "r1",
              "errors": [
                {
                  "field": "text",
                  "reason": "must have at least 1 character, has 0"
                },
                {
                  "field": "top_k",
                  "reason": "must be at most 100"
                },
                {
                  "field": "mode",
                  "reason": "must be one of `fast`, `good`"
                },
                {
                  "field": "tags[1]",
                  "reason": "expected text, got integer"
                },
                {
                  "field": "limit",
                  "reason": "is not a field of the input, which has `text`, `top_k`, `mode`, `tags`"
                },
                {
                  "field": "topk",
                  "reason": "is not a field of the input, which has `text`, `top_k`, `mode`, `tags`"
                }
              ]
            }
        "#]],
    )
    .await;
    check(
        "/echo",
        "",
        r#"{"top_k": 2.5, "text": null}"#,
        expect![[r#"
            HTTP/1.1 400 Bad Request
            x-request-id: r1
            {
              "type": "urn:engine:problem:invalid-input",
              "title": "Bad Request",
              "status": 400,
              "detail": "2 fields do not fit the graph's input",
              "graph": "echo",
              "request_id": "r1",
              "errors": [
                {
                  "field": "text",
                  "reason": "must not be null"
                },
                {
                  "field": "top_k",
                  "reason": "expected integer, got number"
                }
              ]
            }
        "#]],
    )
    .await;
    check(
        "/echo",
        "",
        r#"{"top_k": 2, "top-k": 3, "text": "x"}"#,
        expect![[r#"
            HTTP/1.1 400 Bad Request
            x-request-id: r1
            {
              "type": "urn:engine:problem:invalid-input",
              "title": "Bad Request",
              "status": 400,
              "detail": "one field does not fit the graph's input",
              "graph": "echo",
              "request_id": "r1",
              "errors": [
                {
                  "field": "top_k",
                  "reason": "is given twice"
                }
              ]
            }
        "#]],
    )
    .await;
    check(
        "/echo",
        "",
        r#"["text"]"#,
        expect![[r#"
            HTTP/1.1 400 Bad Request
            x-request-id: r1
            {
              "type": "urn:engine:problem:invalid-input",
              "title": "Bad Request",
              "status": 400,
              "detail": "one field does not fit the graph's input",
              "graph": "echo",
              "request_id": "r1",
              "errors": [
                {
                  "field": "",
                  "reason": "expected an object, got list"
                }
              ]
            }
        "#]],
    )
    .await;
}

#[tokio::test]
async fn hostile_bodies_are_refused() {
    check(
        "/echo",
        "",
        r#"{"text": "a", "text": "b"}"#,
        expect![[r#"
            HTTP/1.1 400 Bad Request
            x-request-id: r1
            {
              "type": "urn:engine:problem:invalid-json",
              "title": "Bad Request",
              "status": 400,
              "detail": "the body is not valid JSON: the key \"text\" comes twice at line 1 column 20",
              "graph": "echo",
              "request_id": "r1"
            }
        "#]],
    )
    .await;
    check(
        "/echo",
        "",
        r#"{"text": NaN}"#,
        expect![[r#"
            HTTP/1.1 400 Bad Request
            x-request-id: r1
            {
              "type": "urn:engine:problem:invalid-json",
              "title": "Bad Request",
              "status": 400,
              "detail": "the body is not valid JSON: expected value at line 1 column 10",
              "graph": "echo",
              "request_id": "r1"
            }
        "#]],
    )
    .await;
    check(
        "/echo",
        "",
        r#"{"text": "a""#,
        expect![[r#"
            HTTP/1.1 400 Bad Request
            x-request-id: r1
            {
              "type": "urn:engine:problem:invalid-json",
              "title": "Bad Request",
              "status": 400,
              "detail": "the body is not valid JSON: EOF while parsing an object at line 1 column 12",
              "graph": "echo",
              "request_id": "r1"
            }
        "#]],
    )
    .await;
    check(
        "/echo",
        "",
        &format!("{{\"text\": \"{}\"}}", "x".repeat(2000)),
        expect![[r#"
            HTTP/1.1 413 Payload Too Large
            x-request-id: r1
            {
              "type": "urn:engine:problem:too-large",
              "title": "Payload Too Large",
              "status": 413,
              "detail": "the body has more than 1KiB",
              "graph": "echo",
              "request_id": "r1"
            }
        "#]],
    )
    .await;
    check(
        "/lora",
        "content-encoding: gzip\r\n",
        "\u{1f}",
        expect![[r#"
            HTTP/1.1 415 Unsupported Media Type
            x-request-id: r1
            {
              "type": "urn:engine:problem:content-encoding",
              "title": "Unsupported Media Type",
              "status": 415,
              "detail": "send the body without a `content-encoding`",
              "graph": "lora",
              "request_id": "r1"
            }
        "#]],
    )
    .await;

    let big = FILE.replace("1KiB", "1MiB");
    let server = serving(&big).await;
    let deep = format!("{{\"text\": {}", "[".repeat(10_000));
    expect![[r#"
        HTTP/1.1 400 Bad Request
        x-request-id: r1
        {
          "type": "urn:engine:problem:invalid-json",
          "title": "Bad Request",
          "status": 400,
          "detail": "the body is not valid JSON: recursion limit exceeded at line 1 column 136",
          "graph": "echo",
          "request_id": "r1"
        }
    "#]]
    .assert_eq(&shown(&post(server.public, "/echo", "", &deep).await));
}

#[tokio::test]
async fn a_chunked_body_is_bounded_too() {
    let server = serving(FILE).await;
    let mut request = "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: r1\r\n\
        content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_owned();
    for _ in 0..20 {
        request += &format!("64\r\n{}\r\n", "x".repeat(100));
    }
    request += "0\r\n\r\n";
    expect![[r#"
        HTTP/1.1 413 Payload Too Large
        x-request-id: r1
        {
          "type": "urn:engine:problem:too-large",
          "title": "Payload Too Large",
          "status": 413,
          "detail": "the body has more than 1KiB",
          "graph": "echo",
          "request_id": "r1"
        }
    "#]]
    .assert_eq(&shown(&raw(server.public, request.as_bytes()).await));
}

#[tokio::test]
async fn wrong_ways_in_are_explained() {
    let server = serving(FILE).await;
    let form = "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: r1\r\n\
        content-type: application/x-www-form-urlencoded\r\ncontent-length: 3\r\n\r\na=b";
    let with_id = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: r1\r\n\r\n"
        )
    };
    let mut shown_all = String::new();
    for request in [
        form.to_owned(),
        with_id("GET", "/echo"),
        with_id("POST", "/nothing"),
        with_id("POST", "/-/routes"),
    ] {
        shown_all += &shown(&raw(server.public, request.as_bytes()).await);
    }
    expect![[r#"
        HTTP/1.1 415 Unsupported Media Type
        x-request-id: r1
        {
          "type": "urn:engine:problem:content-type",
          "title": "Unsupported Media Type",
          "status": 415,
          "detail": "send JSON with `content-type: application/json`",
          "graph": "echo",
          "request_id": "r1"
        }
        HTTP/1.1 405 Method Not Allowed
        allow: POST
        x-request-id: r1
        {
          "type": "urn:engine:problem:method",
          "title": "Method Not Allowed",
          "status": 405,
          "detail": "send a POST request",
          "request_id": "r1"
        }
        HTTP/1.1 404 Not Found
        x-request-id: r1
        {
          "type": "urn:engine:problem:no-route",
          "title": "Not Found",
          "status": 404,
          "detail": "nothing is served at /nothing; /-/routes lists what is",
          "request_id": "r1"
        }
        HTTP/1.1 405 Method Not Allowed
        allow: GET
        {
          "type": "urn:engine:problem:method",
          "title": "Method Not Allowed",
          "status": 405,
          "detail": "send a GET request"
        }
    "#]]
    .assert_eq(&shown_all);
    check(
        "/echo",
        "x-request-timeout-seconds: soon\r\n",
        r#"{"text": "x"}"#,
        expect![[r#"
            HTTP/1.1 400 Bad Request
            x-request-id: r1
            {
              "type": "urn:engine:problem:invalid-header",
              "title": "Bad Request",
              "status": 400,
              "detail": "the header `x-request-timeout-seconds` must be a positive number of seconds",
              "graph": "echo",
              "request_id": "r1"
            }
        "#]],
    )
    .await;
}

#[tokio::test]
async fn slow_and_endless_senders_are_cut() {
    let server = serving(FILE).await;
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\nx-request-id: r1\r\n\
        content-type: application/json\r\ncontent-length: 30\r\n\r\n{\"te";
    let begun = Instant::now();
    let answer = shown(&raw(server.public, head.as_bytes()).await);
    expect![[r#"
        HTTP/1.1 408 Request Timeout
        x-request-id: r1
        {
          "type": "urn:engine:problem:slow-body",
          "title": "Request Timeout",
          "status": 408,
          "detail": "the body did not arrive within 300ms",
          "graph": "echo",
          "request_id": "r1"
        }
    "#]]
    .assert_eq(&answer);
    for silent in [
        "",
        "P",
        "PRI * HT",
        "POST /echo HTTP/1.1\r\nhost: x\r\nx-a: ",
    ] {
        let answer = timeout(
            Duration::from_secs(5),
            raw(server.public, silent.as_bytes()),
        );
        let answer = answer
            .await
            .unwrap_or_else(|_| panic!("{silent:?} is never cut"));
        assert!(!answer.contains("200 OK"), "{silent:?}: {answer}");
    }
    // One that is idle after an answer is closed too.
    let idle = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = timeout(Duration::from_secs(5), raw(server.public, idle.as_bytes())).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    let long = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx-a: {}\r\n\r\n",
        "a".repeat(100_000)
    );
    assert!(
        raw(server.public, long.as_bytes())
            .await
            .starts_with("HTTP/1.1 431")
    );
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    assert!(
        raw(server.public, many.as_bytes())
            .await
            .starts_with("HTTP/1.1 431")
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn node_errors_have_their_status() {
    check(
        "/deep/ask",
        "",
        r#"{"prompt": "fail for good"}"#,
        expect![[r#"
            HTTP/1.1 500 Internal Server Error
            x-request-id: r1
            {
              "type": "urn:engine:problem:failed",
              "title": "Internal Server Error",
              "status": 500,
              "detail": "for good",
              "graph": "ask",
              "node": "answer",
              "request_id": "r1"
            }
        "#]],
    )
    .await;
    check(
        "/deep/ask",
        "",
        r#"{"prompt": "down for now"}"#,
        expect![[r#"
            HTTP/1.1 503 Service Unavailable
            retry-after: 1
            x-request-id: r1
            {
              "type": "urn:engine:problem:unavailable",
              "title": "Service Unavailable",
              "status": 503,
              "detail": "for now",
              "graph": "ask",
              "node": "answer",
              "request_id": "r1"
            }
        "#]],
    )
    .await;
    check(
        "/deep/ask",
        "x-request-timeout-seconds: 0.05\r\n",
        r#"{"prompt": "hang"}"#,
        expect![[r#"
            HTTP/1.1 504 Gateway Timeout
            x-request-id: r1
            {
              "type": "urn:engine:problem:timeout",
              "title": "Gateway Timeout",
              "status": 504,
              "detail": "took longer than 50ms",
              "graph": "ask",
              "node": "answer",
              "request_id": "r1"
            }
        "#]],
    )
    .await;
    let server = serving(FILE).await;
    let body = r#"{"prompt": "sleep 100 x"}"#;
    let many = (0..3).map(|_| post(server.public, "/deep/ask", "", body));
    let mut answers = futures::future::join_all(many).await;
    answers.sort();
    expect![[r#"
        HTTP/1.1 503 Service Unavailable
        retry-after: 1
        x-request-id: r1
        {
          "type": "urn:engine:problem:full",
          "title": "Service Unavailable",
          "status": 503,
          "detail": "too many requests are waiting",
          "graph": "ask",
          "node": "answer",
          "request_id": "r1"
        }
    "#]]
    .assert_eq(&shown(&answers[2]));
    let (first, second) = (&answers[0], &answers[1]);
    assert!(first.starts_with("HTTP/1.1 200") && second.starts_with("HTTP/1.1 200"));

    let refused = FILE.replace(
        "max-queued-requests 1",
        "max-queued-requests 0; when-full too-many-requests",
    );
    let server = serving(&refused).await;
    let many = (0..2).map(|_| post(server.public, "/deep/ask", "", body));
    let answers = futures::future::join_all(many).await;
    assert!(
        answers
            .iter()
            .any(|answer| answer.starts_with("HTTP/1.1 429")),
        "{answers:?}"
    );
}

/// The events of a streamed answer, without the chunks' lengths and what differs from run to run.
fn events(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let mut lines = String::new();
    for line in body
        .lines()
        .filter(|line| line.starts_with("event: ") || line.starts_with("data: "))
    {
        let line = line.split(r#","milliseconds""#).next().unwrap();
        lines += &format!("{line}\n");
    }
    lines
}

#[tokio::test]
async fn an_answer_streams_as_events() {
    let server = serving(FILE).await;
    let accept = "accept: text/event-stream\r\n";
    let answer = post(
        server.public,
        "/deep/ask",
        accept,
        r#"{"prompt": "one two\nlines"}"#,
    )
    .await;
    assert!(
        answer.contains("content-type: text/event-stream"),
        "{answer}"
    );
    expect![[r#"
        event: delta
        data: {"field":"answer","text":"one "}
        event: delta
        data: {"field":"answer","text":"two\nlines"}
        event: output
        data: {"answer":"one two\nlines","words":3}
        event: done
        data: {"request_id":"r1"
    "#]]
    .assert_eq(&events(&answer));
    let broken = post(
        server.public,
        "/deep/ask",
        accept,
        r#"{"prompt": "one fail! two"}"#,
    )
    .await;
    expect![[r#"
        event: delta
        data: {"field":"answer","text":"one "}
        event: error
        data: {"type":"urn:engine:problem:failed","title":"Internal Server Error","status":500,"detail":"lost the thread","graph":"ask","node":"answer","request_id":"r1"}
    "#]].assert_eq(&events(&broken));
    let plain = post(server.public, "/echo", accept, r#"{"text": "x"}"#).await;
    expect![[r#"
        event: output
        data: {"text":"x","top_k":20,"mode":"fast","tags":null}
        event: done
        data: {"request_id":"r1"
    "#]]
    .assert_eq(&events(&plain));
}

#[tokio::test]
async fn pieces_arrive_as_they_are_made() {
    let server = serving(FILE).await;
    let mut stream = TcpStream::connect(server.public).await.unwrap();
    let body = r#"{"prompt": "sleep 150 a b c d e f g h i j k l m n o p"}"#;
    let request = format!(
        "POST /deep/ask HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains(r#""text":"c ""#) {
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece).await.unwrap();
        seen += std::str::from_utf8(&piece[..count]).unwrap();
    }
    assert!(!seen.contains("event: output"), "{seen}");
    // The client leaves in the middle: the node stops and its slot is free.
    drop(stream);
    for _ in 0..100 {
        sleep(Duration::from_millis(10)).await;
        let status = get(server.admin, "/status").await;
        if status.contains(r#""queued":0,"ongoing":0"#) {
            return;
        }
    }
    panic!("the slot is still taken");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_work() {
    use std::sync::atomic::Ordering::SeqCst;
    let server = serving(FILE).await;
    let mut stream = TcpStream::connect(server.public).await.unwrap();
    let body = r#"{"prompt": "hang"}"#;
    let request = format!(
        "POST /deep/ask HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let seen = &server.catalog.seen;
    while seen.running.load(SeqCst) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let begun = Instant::now();
    drop(stream);
    while seen.dropped.load(SeqCst) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "not by the deadline"
    );
    let metrics = get(server.admin, "/metrics").await;
    assert!(
        metrics.contains(r#"engine_requests_total{graph="ask",code="499"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn keys_guard_the_graphs() {
    let file = FILE.replace("server {", "server { api-key \"k-1\"; api-key \"k-2\"; ");
    let server = serving(&file).await;
    let ask = |headers: &'static str| post(server.public, "/echo", headers, r#"{"text": "x"}"#);
    expect![[r#"
        HTTP/1.1 401 Unauthorized
        www-authenticate: Bearer
        x-request-id: r1
        {
          "type": "urn:engine:problem:unauthorized",
          "title": "Unauthorized",
          "status": 401,
          "detail": "send a valid key as `authorization: Bearer KEY`",
          "request_id": "r1"
        }
    "#]]
    .assert_eq(&shown(&ask("").await));
    assert!(
        ask("authorization: Bearer k-3\r\n")
            .await
            .starts_with("HTTP/1.1 401")
    );
    assert!(
        ask("authorization: Bearer k-2\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );
    for closed in ["/openapi.json", "/-/routes", "/nothing"] {
        assert!(
            get(server.public, closed).await.starts_with("HTTP/1.1 401"),
            "{closed}"
        );
    }
    for open in ["/-/healthz", "/-/readyz", "/health", "/docs"] {
        assert!(
            get(server.public, open).await.starts_with("HTTP/1.1 200"),
            "{open}"
        );
    }
}

#[tokio::test]
async fn the_engine_says_what_it_serves() {
    let server = serving(FILE).await;
    expect![[r#"
        HTTP/1.1 200 OK
        {"/echo":"echo","/deep/ask":"ask","/lora":"lora"}
    "#]]
    .assert_eq(&shown(&get(server.public, "/-/routes").await));
    let body = |answer: String| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    let openapi = body(get(server.public, "/openapi.json").await);
    let openapi: serde_json::Value = serde_json::from_str(&openapi).unwrap();
    let input = &openapi["paths"]["/echo"]["post"]["requestBody"]["content"]["application/json"];
    expect![[r#"
        {
          "type": "object",
          "properties": {
            "text": {
              "type": "string",
              "minLength": 1,
              "maxLength": 20
            },
            "top_k": {
              "type": "integer",
              "default": 20,
              "minimum": 1,
              "maximum": 100
            },
            "mode": {
              "type": "string",
              "default": "fast",
              "enum": [
                "fast",
                "good"
              ]
            },
            "tags": {
              "anyOf": [
                {
                  "type": "array",
                  "items": {
                    "type": "string"
                  }
                },
                {
                  "type": "null"
                }
              ]
            }
          },
          "required": [
            "text"
          ],
          "additionalProperties": false
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&input["schema"]).unwrap());
    let docs = get(server.public, "/docs").await;
    assert!(
        !docs.contains("http://") && !docs.contains("https://"),
        "loads nothing from elsewhere"
    );

    post(server.public, "/deep/ask", "", r#"{"prompt": "a b"}"#).await;
    let status = body(get(server.admin, "/status").await);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    expect![[r#"[{"node":"answer","kind":"generate","pool":{"replicas":1,"target":1,"starting":0,"healthy":true,"queued":0,"ongoing":0,"answered":1,"startup_ms":0}}]"#]].assert_eq(&serde_json::to_string(&status["graphs"][1]["nodes"]).unwrap());
    let metrics = get(server.admin, "/metrics").await;
    for line in [
        r#"engine_requests_total{graph="ask",code="200"} 1"#,
        r#"engine_tokens_total{graph="ask",node="answer",type="completion"} 2"#,
        r#"engine_ttft_seconds_count{graph="ask",node="answer"} 1"#,
        r#"engine_node_ongoing_requests{graph="ask",node="answer"} 0"#,
        "engine_config_generation 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(
        get(server.public, "/metrics")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(get(server.admin, "/echo").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_node_that_cannot_answer_is_not_ready_until_it_can() {
    let server = serving(FILE).await;
    let ready = async || get(server.public, "/-/readyz").await;
    assert!(ready().await.starts_with("HTTP/1.1 200"));
    let answer = post(server.public, "/deep/ask", "", r#"{"prompt": "break"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    expect![[r#"
        HTTP/1.1 503 Service Unavailable
        {"status":"unhealthy","nodes":["ask.answer"]}
    "#]]
    .assert_eq(&shown(&ready().await));
    let alive = get(server.public, "/-/healthz").await;
    assert!(alive.starts_with("HTTP/1.1 200"));

    server.catalog.seen.broken.store(false, SeqCst);
    while !ready().await.starts_with("HTTP/1.1 200") {
        sleep(Duration::from_millis(20)).await;
    }
    let answer = post(server.public, "/deep/ask", "", r#"{"prompt": "well"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_stop_lets_running_requests_finish() {
    let server = serving(FILE).await;
    let public = server.public;
    let running = tokio::spawn(async move {
        post(public, "/deep/ask", "", r#"{"prompt": "sleep 500 done"}"#).await
    });
    sleep(Duration::from_millis(50)).await;
    server.stop.send(()).unwrap();
    sleep(Duration::from_millis(50)).await;
    assert!(
        TcpStream::connect(public).await.is_err(),
        "no new connections"
    );
    assert!(
        get(server.admin, "/-/readyz")
            .await
            .starts_with("HTTP/1.1 503")
    );
    let answer = running.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(r#""answer":"done""#),
        "{answer}"
    );
    assert_eq!(server.task.await.unwrap(), 0);
}

#[tokio::test]
async fn a_stop_cuts_what_does_not_finish() {
    let server = serving(&FILE.replace("10s", "60s").replace("\"5s\"", "\"200ms\"")).await;
    let public = server.public;
    let running =
        tokio::spawn(async move { post(public, "/deep/ask", "", r#"{"prompt": "hang"}"#).await });
    sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    server.stop.send(()).unwrap();
    assert_eq!(server.task.await.unwrap(), 1);
    assert!((200..5000).contains(&begun.elapsed().as_millis()));
    assert_eq!(running.await.unwrap(), "");
}
