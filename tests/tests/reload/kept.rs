//! What is not touched goes on, and what is adjusted goes on too.

use crate::kit::{file, generation, save, step, until};
use serde_json::Value;
use tests::{Engine, write_graph};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_touched_goes_on() {
    let (_folder, path) = write_graph(&file(1));
    let engine = Engine::start(&path);
    assert_eq!(step(&engine).await, "1");
    // Only the template differs: the queue's limit is that of every odd step.
    save(&path, &file(1).replace("text \"1\"", "text \"one\""));
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "one");
    // The pool has counted since the first generation.
    let parts = |status: &Value| {
        let nodes = status["graphs"][0]["nodes"].as_array().cloned();
        let parts = nodes?.into_iter().find(|node| node["node"] == "parts");
        parts?["pool"]["answered"].as_u64()
    };
    let status = until(&engine, "/status", |status| parts(status) == Some(2)).await;
    let last = &status["last_reload"];
    assert_eq!(
        last["nodes"],
        "1 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_limits_are_adjusted_in_place() {
    let (folder, path) = write_graph(&file(1));
    let engine = Engine::start(&path);
    assert_eq!(step(&engine).await, "1");
    let changed = file(1).replace(
        "max-queued-requests 1001",
        "max-queued-requests 7; max-ongoing-requests 3; replicas min=2; timeout \"5s\"",
    );
    assert_ne!(changed, file(1));
    let next = folder.path().join("next.kdl");
    save(&next, &changed);
    let admin = engine.admin("").replace("http://", "");
    let next = next.display().to_string();
    let planned = tests::run_command(&["plan", &next, "--admin", &admin]);
    assert_eq!(
        String::from_utf8(planned.stdout).unwrap(),
        "keep     graph echo\n\
         adjust     split parts: replicas min 1 \u{2192} 2, replicas max 1 \u{2192} 2, \
         max-ongoing-requests default \u{2192} 3, max-queued-requests 1001 \u{2192} 7, \
         timeout default \u{2192} 5s\n\
         keep       template step\n\
         nodes: 1 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped\n"
    );
    // Asking changes nothing.
    generation(&engine, 1).await;
    save(&path, &changed);
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "1");
    // Both replicas are there, and the pool has counted since the first generation.
    let pool = |status: &Value| {
        let nodes = status["graphs"][0]["nodes"].as_array().cloned();
        let parts = nodes?.into_iter().find(|node| node["node"] == "parts");
        let pool = parts?["pool"].take();
        Some((pool["replicas"].as_u64()?, pool["answered"].as_u64()?))
    };
    until(&engine, "/status", |status| pool(status) == Some((2, 2))).await;
    let shown = tests::run_command(&["status", "--admin", &admin]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("last reload: 1 kept, 1 adjusted,"),
        "{shown}"
    );
    let bad = folder.path().join("bad.kdl");
    save(&bad, "graph echo { output { a \"{{ nothing }}\" } }");
    let bad = bad.display().to_string();
    let planned = tests::run_command(&["plan", &bad, "--admin", &admin]);
    assert_eq!(planned.status.code(), Some(2));
    let problem = String::from_utf8(planned.stderr).unwrap();
    assert!(problem.contains("nothing"), "{problem}");
}
