//! The service around the graphs: keys, descriptions, readiness, and the stop.

use super::*;

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
        r#"engine_tokens_total{graph="ask",node="answer",type="prompt"} 4"#,
        r#"engine_cached_prompt_tokens_total{graph="ask",node="answer"} 3"#,
        r#"engine_guessed_tokens_total{graph="ask",node="answer"} 2"#,
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
