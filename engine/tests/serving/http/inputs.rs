//! What goes in: bodies that fit a declaration, and those that do not.

use super::*;

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
