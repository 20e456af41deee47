//! What comes out: errors with their status, and streams.

use super::*;

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
    // Before anything was sent, it is a response as any other failure.
    let at_once = post(server.public, "/deep/ask", accept, r#"{"prompt": "fail!"}"#).await;
    assert!(at_once.starts_with("HTTP/1.1 500 "), "{at_once}");
    assert!(at_once.contains("application/problem+json"), "{at_once}");
    assert!(
        at_once.contains(r#""detail":"lost the thread""#),
        "{at_once}"
    );
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
