//! What these tests have in common: a file in many versions, clients, and patience.

use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tests::Engine;
use tokio::time::{Instant, sleep, timeout};

/// Far above what a reload takes, so that a busy machine fails no test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The file of one step: what it serves says the step's number, and it differs from its neighbours
/// in the other ways that a file can.
pub(crate) fn file(step: usize) -> String {
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

pub(crate) fn save(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// Asks until the answer is as wanted.
pub(crate) async fn until(engine: &Engine, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
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

pub(crate) async fn generation(engine: &Engine, wanted: u64) {
    until(engine, "/status", |status| status["generation"] == wanted).await;
}

pub(crate) async fn step(engine: &Engine) -> String {
    let answer = engine.post("/echo", json!({ "id": "asked" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["step"].as_str().unwrap().to_owned()
}

/// What a client got: an id of its own, when it asked, and how long the answer took.
pub(crate) struct Answered {
    pub(crate) id: String,
    pub(crate) asked: Instant,
    pub(crate) took: Duration,
}

/// Asks with ids of its own until told to stop; gives back what was answered, each once.
pub(crate) async fn client(
    engine: Arc<Engine>,
    number: usize,
    stop: Arc<AtomicBool>,
) -> Vec<Answered> {
    let mut answered = Vec::new();
    while !stop.load(Relaxed) {
        let (id, asked) = (format!("{number}-{}", answered.len()), Instant::now());
        let answer = engine.post("/echo", json!({ "id": id })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["id"], id);
        let took = asked.elapsed();
        answered.push(Answered { id, asked, took });
    }
    answered
}

/// Gives an order on the admin listener: its status and what came of it.
pub(crate) async fn order(engine: &Engine, path: &str) -> (u16, Value) {
    let answer = engine.send(engine.client().post(engine.admin(path))).await;
    (answer.status, answer.json())
}

/// Runs a command against an engine: its exit code, and what it printed.
pub(crate) fn command(engine: &Engine, arguments: &[&str]) -> (Option<i32>, String) {
    let admin = engine.admin("").replace("http://", "");
    let ran = tests::run_command(&[arguments, &["--admin", &admin]].concat());
    let printed = [ran.stdout, ran.stderr].concat();
    (ran.status.code(), String::from_utf8(printed).unwrap())
}

/// The lines of the metrics.
pub(crate) async fn metrics(engine: &Engine) -> String {
    let answer = engine.send(engine.client().get(engine.admin("/metrics")));
    answer.await.text
}
