//! The next generation waits until it is promoted, can be asked before, and going back takes no start.

use crate::kit::{command, metrics, order, save, until};
use serde_json::{Value, json};
use tests::{Answer, Engine, write_graph};

/// Its only node with replicas is another one in each version.
fn file(version: usize) -> String {
    let chars = 100 + version;
    format!(
        "server {{ rollout {{ blue-green }} }}\n\
         graph echo {{\n\
             input {{ id type=string }}\n\
             split parts {{ text \"{{{{ input.id }}}}\"; max-chars {chars} }}\n\
             template version {{ text \"{version}\" }}\n\
             output {{ id \"{{{{ parts[0] }}}}\"; version \"{{{{ version }}}}\" }}\n\
         }}\n"
    )
}

async fn ask(engine: &Engine, generation: Option<&str>) -> Answer {
    let request = engine.client().post(engine.url("/echo"));
    let mut request = request.json(&json!({ "id": "asked" }));
    if let Some(generation) = generation {
        request = request.header("x-engine-generation", generation);
    }
    engine.send(request).await
}

async fn version(engine: &Engine, generation: Option<&str>) -> String {
    let answer = ask(engine, generation).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["version"].as_str().unwrap().to_owned()
}

async fn waiting(engine: &Engine, generation: u64) -> Value {
    let waits = |status: &Value| status["rollout"]["generation"] == generation;
    until(engine, "/status", waits).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_to_be_promoted_and_going_back_starts_nothing() {
    let (_folder, path) = write_graph(&file(1));
    let engine = Engine::start(&path);
    assert_eq!(ask(&engine, Some("next")).await.status, 404);
    save(&path, &file(2));
    let status = waiting(&engine, 2).await;
    assert_eq!(
        (&status["generation"], &status["ready"]),
        (&json!(1), &json!(true))
    );
    for _ in 0..10 {
        assert_eq!(version(&engine, None).await, "1");
        assert_eq!(version(&engine, Some("next")).await, "2");
        assert_eq!(version(&engine, Some("stable")).await, "1");
    }
    let named = ask(&engine, Some("next")).await;
    assert_eq!(named.headers["x-engine-generation"], "2");
    let wrong = ask(&engine, Some("7")).await;
    assert_eq!(
        (wrong.status, &wrong.json()["type"]),
        (400, &json!("urn:engine:problem:invalid-header"))
    );
    let (code, printed) = command(&engine, &["status"]);
    assert_eq!(code, Some(0));
    assert!(
        printed.contains("rollout of generation 2: blue-green"),
        "{printed}"
    );
    assert!(
        printed.contains("waits for `engine promote` or `engine abort`"),
        "{printed}"
    );
    // Going back is for what is served, and nothing of this is.
    assert_eq!(order(&engine, "/rollback").await.0, 409);
    let (code, printed) = command(&engine, &["promote", "--json"]);
    assert_eq!(code, Some(0), "{printed}");
    let outcome: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (&outcome["ok"], &outcome["generation"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(
        outcome["nodes"],
        "0 kept, 1 adjusted, 0 started, 1 replaced, 0 stopped"
    );
    assert_eq!(version(&engine, None).await, "2");
    let starts = "engine_replica_starts_total{graph=\"echo\",node=\"parts\"} 2";
    assert!(metrics(&engine).await.contains(starts));
    // The same file once more is no change, and lets nothing go.
    let (code, printed) = command(&engine, &["reload"]);
    assert_eq!(
        (code, &*printed),
        (Some(0), "generation 2: nothing changes\n")
    );
    let (code, printed) = command(&engine, &["rollback"]);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(version(&engine, None).await, "1");
    let metrics = metrics(&engine).await;
    assert!(metrics.contains(starts), "{metrics}");
    assert!(metrics.contains("engine_config_generation 3"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_refused_and_another_change_takes_its_place() {
    let (_folder, path) = write_graph(&file(1));
    let engine = Engine::start(&path);
    for (path, expected) in [("/promote", 409), ("/abort", 409)] {
        let (status, outcome) = order(&engine, path).await;
        assert_eq!(
            (status, &outcome["problems"][0]),
            (expected, &json!("no rollout is under way"))
        );
    }
    save(&path, &file(2));
    waiting(&engine, 2).await;
    // A file with a mistake changes nothing, and least of all a rollout.
    save(&path, "graph echo {");
    let failed = |status: &Value| status["last_reload"]["ok"] == false;
    let status = until(&engine, "/status", failed).await;
    assert_eq!(status["rollout"]["generation"], 2);
    assert_eq!(version(&engine, Some("next")).await, "2");
    // Nor does the same file once more.
    save(&path, &file(2));
    let loaded = |status: &Value| status["last_reload"]["ok"] == true;
    let status = until(&engine, "/status", loaded).await;
    assert_eq!(status["rollout"]["generation"], 2);
    save(&path, &file(3));
    let status = waiting(&engine, 3).await;
    assert_eq!(status["last_rollout"]["result"], "replaced");
    assert_eq!(version(&engine, Some("next")).await, "3");
    let (code, printed) = command(&engine, &["abort"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("generation 3 was aborted"), "{printed}");
    assert_eq!(ask(&engine, Some("next")).await.status, 404);
    assert_eq!(version(&engine, None).await, "1");
    // The first version again is no change at all.
    save(&path, &file(4));
    waiting(&engine, 4).await;
    save(&path, &file(1));
    let gone = |status: &Value| status["rollout"] == Value::Null;
    let status = until(&engine, "/status", gone).await;
    assert_eq!(
        (&status["generation"], &status["last_rollout"]["result"]),
        (&json!(1), &json!("replaced"))
    );
}
