//! `embed`, `rerank` and `generate` on services: what is sent, what is read, and what happens when a
//! service is in trouble. The nodes are built as the engine builds them.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use nodes::{
    Arguments, Catalog, Context, FinishReason, Input, Node, NodeError, Order, StandardCatalog,
    Value,
    source::{Fetcher, Settings, Silent},
};
use schema::{Source, SourceId};
use serde_json::{Value as Json, json};
use std::{path::Path, sync::Arc, time::Duration};
use tests::{
    faulty::{Fault, Faulty},
    upstream::Upstream,
};
use tokio::time::Instant;

/// The node of a file that holds one, whose name is `node`.
async fn node(text: &str) -> Arc<dyn Node> {
    let source = Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: format!(
            "graph g {{\n input {{ x type=string }}\n {text}\n output {{ y \"{{{{ node }}}}\" }} }}"
        ),
    };
    let (document, problems) = schema::parse(&source, &|_| Some("wrong".to_owned()));
    assert!(problems.is_empty(), "{problems:#?}");
    let node = &document.graphs[0].nodes[0];
    let settings = Settings::from_environment();
    let fetcher = Arc::new(Fetcher::new(settings, Arc::new(Silent)));
    let catalog = StandardCatalog::new(&[], &[], Path::new("."), &fetcher, None);
    let order = Order {
        node: "g.node",
        work: &node.work,
        batched: false,
        resources: &node.pool.resources,
    };
    catalog.build(order).await.unwrap()
}

fn item(arguments: &[(&str, Value)]) -> Input {
    within(arguments, Duration::from_secs(60))
}

fn within(arguments: &[(&str, Value)], time: Duration) -> Input {
    Input {
        arguments: Arguments::from_iter(arguments.iter().cloned()),
        context: Context {
            request_id: None,
            deadline: Some(Instant::now() + time),
        },
    }
}

async fn one(node: &Arc<dyn Node>, input: Input) -> Result<Value, NodeError> {
    node.run(vec![input]).await.pop().unwrap()
}

async fn text(node: &Arc<dyn Node>, input: Input) -> Result<(String, FinishReason), NodeError> {
    match one(node, input).await? {
        Value::Stream(stream) => {
            let (text, finish) = stream.collect().await?;
            Ok((text, finish.reason))
        }
        other => panic!("no stream: {other:?}"),
    }
}

fn from_json(value: Json) -> Value {
    Value::from_json(value.to_string().as_bytes()).unwrap()
}

fn to_json(value: &Value) -> Json {
    serde_json::from_slice(&value.to_json().unwrap()).unwrap()
}

#[tokio::test]
async fn a_chat_is_sent_and_streamed_back() {
    let upstream = Upstream::start().await;
    let node = node(&format!(
        r#"generate node {{ endpoint "{}" model="base" api-key="k"; chat "{{{{ x }}}}" }}"#,
        upstream.url
    ))
    .await;
    let chat = json!([{ "role": "user", "content": "one two three" }]);
    let asked = item(&[
        ("system", Value::text("Be brief.")),
        ("chat", from_json(chat)),
        ("max-tokens", Value::Integer(2)),
        ("temperature", Value::Number(0.5)),
        ("stop", Value::text("\n")),
    ]);
    let (answer, reason) = text(&node, asked).await.unwrap();
    assert_eq!((answer.as_str(), reason), (" one two", FinishReason::Stop));
    let request = &upstream.requests()[0];
    assert_eq!(request.path, "/v1/chat/completions");
    assert_eq!(request.key.as_deref(), Some("Bearer k"));
    assert_eq!(
        request.body,
        json!({
            "model": "base",
            "messages": [
                { "role": "system", "content": "Be brief." },
                { "role": "user", "content": "one two three" },
            ],
            "max_tokens": 2,
            "temperature": 0.5,
            "stop": ["\n"],
            "stream": true,
            "stream_options": { "include_usage": true },
        })
    );
}

#[tokio::test]
async fn an_adapter_is_the_name_of_the_model() {
    let upstream = Upstream::start().await;
    let node = node(&format!(
        r#"generate node {{ endpoint "{}/v1/" model="base" adapter="{{{{ x }}}}"; prompt "{{{{ x }}}}" }}"#,
        upstream.url
    ))
    .await;
    let prompt = ("prompt", Value::text("one two"));
    let asked = item(&[prompt.clone(), ("adapter", Value::text("qa"))]);
    let (answer, reason) = text(&node, asked).await.unwrap();
    assert_eq!(
        (answer.as_str(), reason),
        (" one two", FinishReason::Length)
    );
    assert_eq!(upstream.requests()[0].body["model"], "qa");
    let missing = item(&[prompt, ("adapter", Value::text("missing"))]);
    let error = text(&node, missing).await.unwrap_err();
    assert_eq!(error.to_string(), r#"adapter "missing" does not exist"#);
    assert!(matches!(error, NodeError::NotFound { .. }));
}

#[tokio::test]
async fn a_call_of_a_tool_is_the_text() {
    let upstream = Upstream::start().await;
    let node = node(&format!(
        r#"generate node {{ endpoint "{}"; user "{{{{ x }}}}"; tools "{{{{ [] }}}}" }}"#,
        upstream.url
    ))
    .await;
    let tools = json!([{ "type": "function", "function": { "name": "shout" } }]);
    let asked = item(&[("user", Value::text("hi")), ("tools", from_json(tools))]);
    let (answer, reason) = text(&node, asked).await.unwrap();
    assert_eq!(reason, FinishReason::ToolCalls);
    let calls: Json = serde_json::from_str(&answer).unwrap();
    let function = json!({ "name": "shout", "arguments": r#"{"text":"hi"}"# });
    assert_eq!(
        calls,
        json!([{ "id": "call-1", "type": "function", "function": function }])
    );
}

#[tokio::test]
async fn a_batch_of_texts_is_one_request_and_a_bad_text_fails_alone() {
    let upstream = Upstream::start().await;
    let node = node(&format!(
        r#"embed node {{ endpoint "{}" model="m"; text "{{{{ x }}}}" }}"#,
        upstream.url
    ))
    .await;
    let texts = |texts: &[&str]| Value::list(texts.iter().map(|text| Value::text(*text)));
    let batch = vec![
        item(&[("text", Value::text("abba"))]),
        item(&[("text", texts(&["c", "cab"]))]),
        item(&[("text", Value::Integer(1))]),
        item(&[("text", texts(&[]))]),
    ];
    let answers = node.run(batch).await;
    let answers: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().map_or(Json::Null, to_json))
        .collect();
    assert_eq!(
        json!(answers),
        json!([
            [2.0, 2.0, 0.0, 4.0],
            [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 3.0]],
            null,
            [],
        ])
    );
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body["input"], json!(["abba", "c", "cab"]));

    let words = ["a", "b", "bad", "c"];
    let batch = words.map(|word| item(&[("text", Value::text(word))]));
    let answers = node.run(batch.to_vec()).await;
    let well: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(well, [true, true, false, true]);
    assert!(matches!(answers[2], Err(NodeError::Invalid { .. })));
}

#[tokio::test]
async fn many_texts_are_split_to_what_a_service_takes() {
    let upstream = Upstream::start().await;
    let node = node(&format!(
        r#"embed node {{ endpoint "{}" protocol=tei; text "{{{{ x }}}}" }}"#,
        upstream.url
    ))
    .await;
    let texts = (0..70).map(|n| Value::text("a".repeat(n)));
    let asked = item(&[("text", Value::list(texts))]);
    let vectors = to_json(&one(&node, asked).await.unwrap());
    for n in 0..70 {
        assert_eq!(vectors[n][3], n as f64);
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.path == "/embed"));
    assert_eq!(requests[0].body["truncate"], true);
}

#[tokio::test]
async fn documents_are_reranked_in_both_protocols() {
    let upstream = Upstream::start().await;
    for protocol in ["cohere", "tei"] {
        let node = node(&format!(
            r#"rerank node {{ endpoint "{}" protocol={protocol} model="r"; query "x"; documents "{{{{ [] }}}}" }}"#,
            upstream.url
        ))
        .await;
        let documents = json!([
            { "id": "none", "text": "nothing of it" },
            { "id": "all", "text": "red green blue" },
            { "id": "one", "text": "green" },
        ]);
        let asked = item(&[
            ("query", Value::text("blue green red")),
            ("documents", from_json(documents)),
            ("keep", Value::Integer(2)),
        ]);
        let found = to_json(&one(&node, asked).await.unwrap());
        let found = found.as_array().unwrap().iter();
        let found: Vec<_> = found.map(|one| (&one["id"], &one["score"])).collect();
        assert_eq!(
            found,
            [(&json!("all"), &json!(3.0)), (&json!("one"), &json!(1.0))]
        );
    }
    let requests = upstream.requests();
    assert_eq!(requests[0].path, "/v1/rerank");
    assert_eq!(requests[0].body["model"], "r");
    assert_eq!(requests[1].path, "/rerank");
}

#[tokio::test]
async fn who_leaves_ends_the_request_of_the_service() {
    let upstream = Upstream::start().await;
    let node = node(&format!(
        r#"generate node {{ endpoint "{}"; user "x" }}"#,
        upstream.url
    ))
    .await;
    let asked = item(&[("user", Value::text("forever"))]);
    let Value::Stream(mut stream) = one(&node, asked).await.unwrap() else {
        panic!("no stream");
    };
    assert_eq!(&*stream.next().await.unwrap().unwrap(), " forever");
    assert_eq!(upstream.open_streams(), 1);
    drop(stream);
    let closed = async {
        while upstream.open_streams() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(30), closed).await;
    closed.expect("the service learns that nobody reads");
}

#[tokio::test]
async fn a_key_is_never_shown() {
    let upstream = Upstream::start().await;
    let node = node(&format!(
        r#"embed node {{ endpoint "{}" api-key=(env)"KEY"; text "x" }}"#,
        upstream.url
    ))
    .await;
    let error = one(&node, item(&[("text", Value::text("a"))])).await;
    let error = error.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("is the `api-key` right?"), "{shown}");
    assert!(!shown.contains("wrong"), "{shown}");
}

/// What a generation ends with on an endpoint with this fault, given so much time.
async fn trouble(fault: Fault, scheme: &str, time: Duration) -> NodeError {
    let faulty = Faulty::start(fault).await;
    let node = node(&format!(
        r#"generate node {{ endpoint "{scheme}://{}"; prompt "x" }}"#,
        faulty.address
    ))
    .await;
    let asked = within(&[("prompt", Value::text("x"))], time);
    let begun = Instant::now();
    let error = text(&node, asked).await.unwrap_err();
    let allowed = time + Duration::from_secs(10);
    assert!(begun.elapsed() < allowed, "{fault:?}: {error}");
    error
}

#[tokio::test]
async fn each_trouble_is_its_documented_error() {
    let long = Duration::from_secs(60);
    let short = Duration::from_millis(1500);
    let cases = [
        (
            Fault::Refused,
            "http",
            long,
            "Unavailable",
            "cannot connect to",
        ),
        (Fault::Reset, "http", long, "Unavailable", "was lost"),
        (Fault::WrongLength, "http", long, "Unavailable", "was lost"),
        (Fault::Storm, "http", long, "Unavailable", "answered 503"),
        (Fault::Error, "http", long, "Failed", "out of memory"),
        (Fault::Garbage, "http", long, "Unavailable", "was lost"),
        (
            Fault::Garbage,
            "https",
            long,
            "Unavailable",
            "cannot connect to",
        ),
        (Fault::Silent, "http", short, "Timeout", "took longer than"),
        (Fault::Slow, "http", short, "Timeout", "took longer than"),
    ];
    for (fault, scheme, time, kind, words) in cases {
        let error = trouble(fault, scheme, time).await;
        let shown = format!("{error:?}");
        assert!(shown.starts_with(kind), "{fault:?} {scheme}: {shown}");
        assert!(error.to_string().contains(words), "{fault:?}: {error}");
    }
}
