//! Stores in trouble: each trouble is its documented error within the node's time, whether it comes before a
//! search or to a connection that was used before; and what is repaired is used again.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use nodes::{
    Arguments, Context, Input, Node, NodeError, Search, Value,
    index::json_lines,
    store::{self, Build, Plan, Store},
};
use std::{sync::Arc, time::Duration};
use tests::{
    Engine,
    faulty::Fault,
    proxy::Proxy,
    stores::{Running, backend, milvus_lite, postgres},
    write_graph,
};
use tokio::time::{Instant, sleep};

/// The time of the node.
const TIME: Duration = Duration::from_millis(800);

/// What may be wrong with the network, and the errors that it may be.
const TROUBLE: [(Fault, &[&str]); 5] = [
    (Fault::Refused, &["unavailable"]),
    (Fault::Reset, &["unavailable"]),
    (Fault::Garbage, &["unavailable"]),
    (Fault::Silent, &["timeout"]),
    (Fault::Slow, &["timeout"]),
];

async fn filled(declared: &str) -> Arc<dyn Store> {
    let backend = backend(declared);
    let plan = Plan {
        dimensions: Some(3),
    };
    store::create(&backend, plan).await.unwrap();
    let store = store::open(&backend).await.unwrap().unwrap();
    let one = r#"{"id": "a", "text": "one", "vector": [1, 0, 0]}"#;
    let records: Vec<_> = json_lines(one.as_bytes()).collect();
    let embed = |_: &[&str]| unreachable!("the document brings its vector");
    let build = Build::default();
    let built = build.run(&store, records, 1, embed, |_, _| {});
    assert_eq!(built.await.unwrap().documents, 1);
    store
}

async fn ask(node: &Search) -> Result<usize, NodeError> {
    let item = Input {
        arguments: Arguments::from_iter([("vector", Value::Vector([1.0, 0.0, 0.0].into()))]),
        context: Context {
            deadline: Some(Instant::now() + TIME),
            ..Context::default()
        },
    };
    let answer = node.run(vec![item]).await.remove(0)?;
    Ok(answer.as_list().unwrap().len())
}

fn class(error: &NodeError) -> &'static str {
    match error {
        NodeError::Unavailable { .. } => "unavailable",
        NodeError::Timeout { .. } => "timeout",
        NodeError::Failed { .. } => "failed",
        NodeError::Invalid { .. } => "invalid",
        _ => "other",
    }
}

/// Puts the store through every trouble. `declared` is what it is declared with, behind an address.
async fn survives(server: &Running, declared: impl Fn(&str) -> String) {
    let port = port_of(&server.url);
    let proxy = Proxy::before(port).await;
    let url = server
        .url
        .replace(&format!(":{port}"), &format!(":{}", proxy.address.port()));
    let declared = declared(&url);
    let node = Search::new(filled(&declared).await);
    for (fault, expected) in TROUBLE {
        assert_eq!(ask(&node).await.unwrap(), 1, "{declared} before {fault:?}");
        proxy.set(fault);
        for attempt in ["with an open connection", "again"] {
            let begun = Instant::now();
            let error = ask(&node).await.unwrap_err();
            let class = class(&error);
            assert!(
                expected.contains(&class),
                "{declared} {fault:?} {attempt}: {class}: {error}"
            );
            // Its own time, and not that of the connection.
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{declared} {fault:?}"
            );
        }
        proxy.set(Fault::None);
        let end = Instant::now() + Duration::from_secs(60);
        while let Err(error) = ask(&node).await {
            assert!(Instant::now() < end, "{declared} after {fault:?}: {error}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    // Out of reach when a node is built: the error says what was tried.
    proxy.set(Fault::Refused);
    while let Ok(Some(_)) = store::open(&backend(&declared)).await {
        sleep(Duration::from_millis(20)).await;
    }
    let error = store::open(&backend(&declared)).await.err().unwrap();
    assert_eq!(class(&error), "unavailable");
    let said = error.to_string();
    assert!(
        said.contains(&proxy.address.to_string()) && said.contains("refused"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pgvector_in_trouble() {
    let mut server = postgres();
    survives(&server, |url| format!("pgvector \"{url}\" table=\"docs\"")).await;
    // The server itself goes and comes back: connections that were idle are gone.
    let declared = format!("pgvector \"{}\" table=\"again\"", server.url);
    let node = Search::new(filled(&declared).await);
    assert_eq!(ask(&node).await.unwrap(), 1);
    server.restart();
    assert_eq!(ask(&node).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn milvus_lite_in_trouble() {
    let server = milvus_lite();
    survives(&server, |url| {
        format!("milvus \"{url}\" collection=\"docs\"")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_opens_a_fallback_answers_and_a_repaired_store_is_used_again() {
    let server = postgres();
    let port = port_of(&server.url);
    let proxy = Proxy::before(port).await;
    let behind = proxy.address.port();
    let url = server
        .url
        .replace(&format!(":{port}"), &format!(":{behind}"));
    let declared = format!("pgvector \"{url}\" table=\"docs\"");
    filled(&declared).await;
    let (_folder, path) = write_graph(&format!(
        r#"
        index docs {{ {declared}; dimensions 3 }}
        graph find route="/find" {{
            input {{ vector type=vector }}
            search hits {{
                index docs
                vector "{{{{ input.vector }}}}"
                timeout "700ms"
                breaker errors=0.5 window="60s" min-requests=3 open="200ms"
                fallback "{{{{ [] }}}}"
            }}
            output {{ found "{{{{ hits | length }}}}" }}
        }}"#
    ));
    let engine = Engine::start(&path);
    let ask = async || {
        let vector = serde_json::json!({ "vector": [1, 0, 0] });
        let answer = engine.post("/find", vector).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["found"].as_u64().unwrap()
    };
    assert_eq!(ask().await, 1);
    for fault in [Fault::Refused, Fault::Silent] {
        proxy.set(fault);
        let end = Instant::now() + Duration::from_secs(120);
        let before = refused(&engine).await;
        while refused(&engine).await == before {
            assert_eq!(ask().await, 0, "{fault:?}");
            assert!(Instant::now() < end, "{fault:?}: its breaker never opened");
        }
        proxy.set(Fault::None);
        while ask().await != 1 {
            assert!(Instant::now() < end, "{fault:?}: it never came back");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// How often the breaker has refused an item.
async fn refused(engine: &Engine) -> u64 {
    let metrics = engine.client().get(engine.admin("/metrics"));
    let text = engine.send(metrics).await.text;
    let line = text
        .lines()
        .find(|line| line.starts_with("engine_shed_total") && line.contains("reason=\"breaker\""));
    let count = line.and_then(|line| line.rsplit(' ').next());
    count.map_or(0, |count| count.parse().unwrap())
}

fn port_of(url: &str) -> u16 {
    let port = url.rsplit(':').next().unwrap();
    port.split('/').next().unwrap().parse().unwrap()
}
