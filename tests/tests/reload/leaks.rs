//! Reloads leave nothing behind: no threads, files, memory or series.

#![cfg(target_os = "linux")]

use crate::kit::{PATIENCE, metrics, save};
use serde_json::json;
use std::time::Duration;
use tests::{Engine, write_graph};
use tokio::time::{sleep, timeout};

/// What a process holds: threads, open files, and resident memory in bytes.
#[derive(Debug, Clone, Copy)]
struct Held {
    threads: usize,
    files: usize,
    memory: usize,
}

impl Held {
    fn by(pid: u32) -> Self {
        let count = |what: &str| {
            std::fs::read_dir(format!("/proc/{pid}/{what}"))
                .unwrap()
                .count()
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Self {
            threads: count("task"),
            files: count("fd"),
            memory: kilobytes * 1024,
        }
    }
}

/// Whatever one reload left behind would add up: each bound is far above what a process varies by,
/// and below what a leak of one thread or file in two reloads comes to.
#[tokio::test(flavor = "multi_thread")]
async fn reloads_leave_nothing_behind() {
    let reloads: usize = std::env::var("ENGINE_RELOADS").map_or(60, |n| n.parse().unwrap());
    // Every node is replaced each time, and two graphs come and go.
    let file = |step: usize| {
        let graph = |name: &str| {
            let chars = 100 + step;
            format!(
                "graph {name} {{ input {{ id type=string }}\n\
                 split parts {{ text \"{{{{ input.id }}}}\"; max-chars {chars} }}\n\
                 output {{ parts \"{{{{ parts }}}}\" }} }}\n"
            )
        };
        graph("echo") + &graph(&format!("graph{step}"))
    };
    let (_folder, path) = write_graph(&file(0));
    let engine = Engine::start_with(&path, &["--no-watch"]);
    let reload = async |step: usize| {
        save(&path, &file(step));
        let answer = engine
            .send(engine.client().post(engine.admin("/reload")))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let answer = engine.post("/echo", json!({ "id": "asked" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    // The history of generations fills, and pools of threads and memory grow to their size.
    for step in 1..=20 {
        reload(step).await;
    }
    let (before, series) = (Held::by(engine.pid()), series(&engine).await);
    for step in 21..=20 + reloads {
        reload(step).await;
    }
    let after = Held::by(engine.pid());
    println!("{reloads} reloads: {before:?} before, {after:?} after");
    assert!(
        after.threads < before.threads + reloads / 2,
        "{before:?} {after:?}"
    );
    assert!(
        after.files < before.files + reloads / 2,
        "{before:?} {after:?}"
    );
    let memory = before.memory + (64 << 20) + reloads * (64 << 10);
    assert!(after.memory < memory, "{before:?} {after:?}");
    // Those of graphs that are gone go with their last replicas.
    let settled = async {
        while self::series(&engine).await != series {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let settled = timeout(PATIENCE, settled).await;
    assert!(settled.is_ok(), "{series}, now {}", metrics(&engine).await);
    assert!(!metrics(&engine).await.contains("graph=\"graph5\""));
}

/// How many series there are.
async fn series(engine: &Engine) -> usize {
    metrics(engine).await.lines().count()
}
