//! Where two versions of a node do not fit into memory, requests wait while one goes and the other
//! comes, and the old one comes back if the new one does not start.

#![cfg(target_os = "linux")]

use crate::kit::{command, generation, save, until};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tests::{Engine, write_graph};

/// Six tenths of the machine's memory, in MiB.
fn most_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = text.split_whitespace().nth(1).unwrap();
    total.parse::<u64>().unwrap() / 1024 * 6 / 10
}

/// A graph whose node takes more memory than is left beside it.
fn file(python: &str) -> String {
    let memory = most_memory();
    format!(
        "graph echo {{\n\
             input {{ id type=string }}\n\
             python said {{\n\
                 file \"{python}\"\n\
                 function \"said\"\n\
                 arguments {{ id \"{{{{ input.id }}}}\" }}\n\
                 resources cpu=1 memory=\"{memory}MiB\"\n\
             }}\n\
             output {{ said \"{{{{ said }}}}\" }}\n\
         }}\n"
    )
}

fn code(says: &str) -> String {
    format!("def said(id):\n    return \"{says} \" + id\n")
}

/// Asks with ids of its own until told to stop; gives back the versions that answered, in turn.
async fn client(engine: Arc<Engine>, number: usize, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    let mut asked = 0;
    while !stop.load(Relaxed) {
        let id = format!("{number}-{asked}");
        let answer = engine.post("/echo", json!({ "id": id })).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text, engine.log());
        let answer = answer.json();
        let (version, said) = answer["said"].as_str().unwrap().split_once(' ').unwrap();
        assert_eq!(said, id);
        if versions.last().is_none_or(|last| last != version) {
            versions.push(version.to_owned());
        }
        asked += 1;
    }
    versions
}

struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn begin(engine: &Arc<Engine>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number| tokio::spawn(client(Arc::clone(engine), number, Arc::clone(&stop)));
        let clients = (0..6).map(start).collect();
        Self { stop, clients }
    }

    /// The versions that each client saw.
    async fn end(self) -> Vec<Vec<String>> {
        self.stop.store(true, Relaxed);
        let mut seen = Vec::new();
        for client in self.clients {
            seen.push(client.await.unwrap());
        }
        seen
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

/// Waits until requests were answered since it was called.
async fn some_answers(engine: &Engine) {
    let answered = |status: &Value| status["graphs"][0]["nodes"][0]["pool"]["answered"].as_u64();
    let before = until(engine, "/status", |status| answered(status).is_some()).await;
    let before = answered(&before).unwrap();
    until(engine, "/status", |status| {
        answered(status) >= Some(before + 50)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_and_none_is_lost() {
    let (folder, path) = write_graph(&file("one.py"));
    write(folder.path(), "one.py", &code("one"));
    write(folder.path(), "two.py", &code("two"));
    let engine = Arc::new(Engine::start(&path));
    let next = folder.path().join("next.kdl");
    save(&next, &file("two.py"));
    let (code, planned) = command(&engine, &["plan", next.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{planned}");
    assert!(
        planned.contains("replace    python said: work changed (pause)"),
        "{planned}"
    );
    let load = Load::begin(&engine);
    some_answers(&engine).await;
    save(&path, &file("two.py"));
    generation(&engine, 2).await;
    some_answers(&engine).await;
    for versions in load.end().await {
        assert_eq!(versions, ["one", "two"]);
    }
    let log = engine.log();
    assert!(
        log.contains("requests wait while nodes are replaced"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_work_comes_back_if_the_new_does_not_start() {
    let (folder, path) = write_graph(&file("one.py"));
    write(folder.path(), "one.py", &code("one"));
    // It defines what is called, and breaks when it is run.
    let broken = code("two") + "raise RuntimeError('no such luck')\n";
    write(folder.path(), "two.py", &broken);
    let engine = Arc::new(Engine::start(&path));
    let load = Load::begin(&engine);
    some_answers(&engine).await;
    save(&path, &file("two.py"));
    let failed = |status: &Value| status["last_reload"]["ok"] == false;
    let status = until(&engine, "/status", failed).await;
    assert_eq!(status["generation"], 1);
    let problem = status["last_reload"]["problems"][0].as_str().unwrap();
    assert!(problem.contains("no such luck"), "{problem}");
    some_answers(&engine).await;
    for versions in load.end().await {
        assert_eq!(versions, ["one"]);
    }
    // Fixing the file of the node is enough.
    write(folder.path(), "two.py", &code("two"));
    generation(&engine, 2).await;
    let answer = engine.post("/echo", json!({ "id": "a" })).await;
    assert_eq!(answer.json()["said"], "two a");
}
