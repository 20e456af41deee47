//! Wrong ways in: methods, routes, framing, and senders that never end.

use super::*;

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
