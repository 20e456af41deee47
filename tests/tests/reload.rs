//! A changed file changes what runs, and no request notices: nothing is lost, nothing is answered
//! twice, and a mistake in the file keeps what runs.
//!
//! `ENGINE_RELOADS=100` makes as many reloads under load; the default is small.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use serde_json::{Value, json};
use std::{
    collections::HashSet,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tests::{Engine, write_graph};
use tokio::time::{sleep, timeout};

/// Far above what a reload takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(60);

/// The file of one step: what it serves says the step's number, and it differs from its neighbours
/// in the other ways that a file can.
fn file(step: usize) -> String {
    let queued = 1000 + step % 2;
    let (node, piece) = match step % 3 {
        0 => ("split more { text \"{{ input.id }}\" }", "{{ more[0] }}"),
        _ => ("", "none"),
    };
    let graph = match step % 4 {
        0 => "graph extra { template a { text \"x\" }\n output { a \"{{ a }}\" } }",
        _ => "",
    };
    format!(
        r#"
graph echo {{
    input {{
        id type=string
    }}
    split parts {{
        text "{{{{ input.id }}}}"
        max-queued-requests {queued}
    }}
    {node}
    template step {{ text "{step}" }}
    output {{
        id "{{{{ parts[0] }}}}"
        step "{{{{ step }}}}"
        more "{piece}"
    }}
}}
{graph}
"#
    )
}

fn save(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// Asks until the answer is as wanted.
async fn until(engine: &Engine, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let asking = async {
        loop {
            let answer = engine.send(engine.client().get(engine.admin(path))).await;
            last = answer.json();
            if wanted(&last) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let asked = timeout(PATIENCE, asking).await;
    assert!(asked.is_ok(), "{last}\n{}", engine.log());
    last
}

async fn generation(engine: &Engine, wanted: u64) {
    until(engine, "/status", |status| status["generation"] == wanted).await;
}

async fn step(engine: &Engine) -> String {
    let answer = engine.post("/echo", json!({ "id": "asked" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["step"].as_str().unwrap().to_owned()
}

/// Asks with ids of its own until told to stop; gives back the ids, each answered once.
async fn client(engine: Arc<Engine>, number: usize, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut answered = Vec::new();
    while !stop.load(Relaxed) {
        let id = format!("{number}-{}", answered.len());
        let answer = engine.post("/echo", json!({ "id": id })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["id"], id);
        answered.push(id);
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_nothing_and_repeat_nothing() {
    let reloads = std::env::var("ENGINE_RELOADS").map_or(12, |n| n.parse().unwrap());
    let (_folder, path) = write_graph(&file(0));
    let engine = Arc::new(Engine::start(&path));
    let stop = Arc::new(AtomicBool::new(false));
    let start = |number| tokio::spawn(client(Arc::clone(&engine), number, Arc::clone(&stop)));
    let clients: Vec<_> = (0..4).map(start).collect();
    let mut published = 1;
    for number in 1..=reloads {
        if number % 5 == 0 {
            save(&path, "graph echo {");
            until(&engine, "/status", |status| {
                status["last_reload"]["ok"] == false
            })
            .await;
        }
        save(&path, &file(number));
        published += 1;
        generation(&engine, published).await;
    }
    stop.store(true, Relaxed);
    let mut ids = HashSet::new();
    let mut answered = 0;
    for client in clients {
        let of_client = client.await.unwrap();
        answered += of_client.len();
        ids.extend(of_client);
    }
    assert_eq!(ids.len(), answered);
    assert!(answered > reloads, "{answered} requests are no load");
    assert_eq!(step(&engine).await, reloads.to_string());
    let metrics = engine
        .send(engine.client().get(engine.admin("/metrics")))
        .await;
    // One more was asked for the step.
    let expected = format!(
        "engine_node_requests_total{{graph=\"echo\",node=\"parts\"}} {}",
        answered + 1
    );
    assert!(
        metrics.text.contains(&expected),
        "{expected}\n{}",
        metrics.text
    );
    let failed = metrics
        .text
        .lines()
        .find(|line| line.starts_with("engine_requests_total") && !line.contains("code=\"200\""));
    assert_eq!(failed, None);
}

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
async fn a_broken_include_keeps_what_runs_and_its_fix_heals() {
    let (folder, path) = write_graph("include \"echo.kdl\"\n");
    let include = folder.path().join("echo.kdl");
    save(&include, &file(1));
    let engine = Engine::start(&path);
    save(&include, "graph echo { output { a \"{{ nothing }}\" } }");
    let failed = |status: &Value| status["last_reload"]["ok"] == false;
    let status = until(&engine, "/status", failed).await;
    assert_eq!(status["generation"], 1);
    let problem = status["last_reload"]["problems"][0].as_str().unwrap();
    assert!(
        problem.contains("nothing") && problem.contains("echo.kdl:1"),
        "{problem}"
    );
    assert_eq!(step(&engine).await, "1");
    save(&include, &file(2));
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "2");
    // Gone for good, and back.
    std::fs::remove_file(&include).unwrap();
    let status = until(&engine, "/status", failed).await;
    assert!(
        status["last_reload"]["problems"][0]
            .as_str()
            .unwrap()
            .contains("cannot read")
    );
    save(&include, &file(3));
    generation(&engine, 3).await;
    let metrics = engine
        .send(engine.client().get(engine.admin("/metrics")))
        .await;
    for line in [
        "engine_config_generation 3",
        "engine_reloads_total{result=\"ok\"} 2",
        "engine_reloads_total{result=\"failed\"} 2",
    ] {
        assert!(metrics.text.contains(line), "{line}\n{}", metrics.text);
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn editors_that_rename_and_mounted_folders_that_are_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, number) in [("v1", 1), ("v2", 2)] {
        std::fs::create_dir(at(version)).unwrap();
        save(&at(version).join("graph.kdl"), &file(number));
    }
    // As Kubernetes mounts a config map: graph.kdl -> current/graph.kdl, current -> v1.
    std::os::unix::fs::symlink(at("v1"), at("current")).unwrap();
    std::os::unix::fs::symlink(at("current").join("graph.kdl"), at("graph.kdl")).unwrap();
    let engine = Engine::start(&at("graph.kdl"));
    assert_eq!(step(&engine).await, "1");
    std::os::unix::fs::symlink(at("v2"), at("next")).unwrap();
    std::fs::rename(at("next"), at("current")).unwrap();
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "2");
    save(&at("saved"), &file(3));
    std::fs::rename(at("saved"), at("graph.kdl")).unwrap();
    generation(&engine, 3).await;
    assert_eq!(step(&engine).await, "3");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn orders_and_history() {
    let (_folder, path) = write_graph(&file(1));
    let engine = Engine::start_with(&path, &["--no-watch"]);
    save(&path, &file(2));
    let order = async |path: &str| {
        let answer = engine.send(engine.client().post(engine.admin(path))).await;
        (answer.status, answer.json())
    };
    let (status, outcome) = order("/reload").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(2)),
        "{outcome}"
    );
    assert_eq!(step(&engine).await, "2");
    save(&path, &file(3));
    let pid = engine.pid().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    generation(&engine, 3).await;
    let (status, outcome) = order("/rollback?generation=1").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(4)),
        "{outcome}"
    );
    assert_eq!(step(&engine).await, "1");
    let (status, outcome) = order("/rollback?generation=99").await;
    assert_eq!((status, &outcome["ok"]), (409, &json!(false)));
    let (status, outcome) = order("/reload").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(5)),
        "{outcome}"
    );
    let page = engine.client().post(engine.admin("/reload"));
    let page = page.header("origin", "http://example.org");
    assert_eq!(engine.send(page).await.status, 403);
}
