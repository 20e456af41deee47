//! A canary gets its share and no more, is promoted when it does well, and aborted when it does not.

use crate::kit::{PATIENCE, metrics, save, until};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tests::{Engine, write_graph};
use tokio::time::sleep;

/// A graph that says `says`, served by a canary with these options and steps.
fn file(canary: &str, says: &str) -> String {
    format!(
        "server {{ rollout {{ canary {canary} }} }}\n\
         graph echo {{\n\
             input {{ id type=string }}\n\
             template said {{ text \"{says}\" }}\n\
             output {{ said \"{{{{ said }}}}\" }}\n\
         }}\n"
    )
}

/// What clients got while there were two generations.
#[derive(Debug, Default, Clone, Copy)]
struct Got {
    asked: usize,
    of_next: usize,
    failed: usize,
}

/// Asks until told to stop.
async fn client(engine: Arc<Engine>, stop: Arc<AtomicBool>) -> Got {
    let mut got = Got::default();
    while !stop.load(Relaxed) {
        let answer = engine.post("/echo", json!({ "id": "a" })).await;
        // Only then does an answer name its generation.
        let Some(generation) = answer.headers.get("x-engine-generation") else {
            assert_eq!(answer.status, 200, "{}", answer.text);
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        let of_next = generation == "2";
        assert!(of_next || answer.status == 200, "{}", answer.text);
        got.asked += 1;
        got.of_next += usize::from(of_next);
        got.failed += usize::from(answer.status != 200);
    }
    got
}

/// Saves another version under load, and says what clients got until the rollout had ended as wanted.
async fn rolled_out(canary: &str, says: &str, result: &str) -> (Engine, Value, Got) {
    let (_folder, path) = write_graph(&file(canary, "one"));
    let engine = Arc::new(Engine::start(&path));
    let stop = Arc::new(AtomicBool::new(false));
    let start = |_| tokio::spawn(client(Arc::clone(&engine), Arc::clone(&stop)));
    let clients: Vec<_> = (0..4).map(start).collect();
    save(&path, &file(canary, says));
    let ended = |status: &Value| status["last_rollout"]["result"] == result;
    let status = until(&engine, "/status", ended).await;
    stop.store(true, Relaxed);
    let mut got = Got::default();
    for client in clients {
        let more = tokio::time::timeout(PATIENCE, client)
            .await
            .unwrap()
            .unwrap();
        got.asked += more.asked;
        got.of_next += more.of_next;
        got.failed += more.failed;
    }
    let engine = Arc::into_inner(engine).unwrap();
    (engine, status, got)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_well_is_promoted() {
    let canary = "max-slowdown=\"100000%\" {\n\
         step \"10%\" interval=\"200ms\" min-requests=50\n\
         step \"20%\" interval=\"200ms\" min-requests=50\n}";
    let (engine, status, got) = rolled_out(canary, "two", "promoted").await;
    assert_eq!(status["generation"], 2, "{status}");
    assert_eq!(status["rollout"], Value::Null);
    assert_eq!(status["last_rollout"]["strategy"], "canary");
    assert_eq!(got.failed, 0);
    // Both steps had their requests, and none more than the larger share; a few are under way when
    // the share changes.
    assert!(got.of_next >= 100, "{got:?}");
    assert!(
        got.of_next as f64 <= 0.2 * got.asked as f64 + 8.0,
        "{got:?}"
    );
    let answer = engine.post("/echo", json!({ "id": "a" })).await;
    assert_eq!(answer.json()["said"], "two");
    assert!(answer.headers.get("x-engine-generation").is_none());
    let metrics = metrics(&engine).await;
    for line in [
        "engine_rollouts_total{result=\"promoted\"} 1",
        "engine_rollout_generation 0",
        "engine_rollout_share 0.0",
        "engine_rollout_requests_total{generation=\"next\",result=\"failed\"} 0",
        "engine_config_generation 2",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_is_aborted_and_clients_see_no_more_than_its_share() {
    let canary = "{ step \"10%\" interval=\"10m\" min-requests=10000 }";
    let (engine, status, got) = rolled_out(canary, "{{ input.id | int }}!", "aborted").await;
    assert_eq!(status["generation"], 1, "{status}");
    let reason = status["last_rollout"]["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("graph echo: 100% of "), "{reason}");
    // It is given up after a few failures, long before its ten thousand requests.
    assert!(got.failed >= 5 && got.failed == got.of_next, "{got:?}");
    assert!(got.failed as f64 <= 0.1 * got.asked as f64 + 8.0, "{got:?}");
    // What is on disk is not tried again by itself.
    sleep(Duration::from_millis(300)).await;
    let answer = engine.post("/echo", json!({ "id": "a" })).await;
    assert_eq!(
        (answer.status, &answer.json()["said"]),
        (200, &json!("one"))
    );
    let metrics = metrics(&engine).await;
    for line in [
        "engine_rollouts_total{result=\"aborted\"} 1",
        "engine_config_generation 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(engine.log().contains("the rollout was aborted"));
}
