//! A stop loses nothing: what runs is answered, and nothing new is taken in.

use serde_json::json;
use std::time::Duration;
use tests::{Engine, repository};

#[tokio::test(flavor = "multi_thread")]
async fn running_requests_are_answered_before_it_ends() {
    let engine = Engine::start(&repository().join("examples/fanout/graph.kdl"));
    let (client, url) = (engine.client().clone(), engine.url("/brief"));
    let requests: Vec<_> = (0..8)
        .map(|number| {
            let text = format!("Sentence number {number} is here. And another one follows it.");
            let request = client.post(&url).json(&json!({ "text": text }));
            tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
        })
        .collect();
    // All eight are taken in once the engine says so.
    let taken_in = async {
        loop {
            let answer = engine.client().get(engine.admin("/status")).send();
            let status: serde_json::Value = answer.await.unwrap().json().await.unwrap();
            let nodes = status["graphs"][0]["nodes"].as_array().unwrap();
            let generate = nodes.iter().find(|node| node["kind"] == "generate");
            let held = |what: &str| generate.unwrap()["pool"][what].as_u64().unwrap();
            if held("ongoing") + held("queued") + held("answered") >= 8 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken_in)
        .await
        .unwrap();
    let stopped = tokio::task::spawn_blocking(move || engine.stop());
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(stopped.await.unwrap(), Some(0));
}
