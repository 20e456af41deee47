//! Each example, run as its README says, on the real binary and the real models.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use serde_json::{Value, json};
use tests::{Engine, repository};

fn start(example: &str) -> Engine {
    Engine::start(
        &repository()
            .join("examples")
            .join(example)
            .join("graph.kdl"),
    )
}

fn texts(value: &Value) -> Vec<&str> {
    let list = value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"));
    list.iter().map(|text| text.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rag_answers_from_the_documentation() {
    let engine = start("rag");
    let body = json!({ "query": "Which command draws a graph?" });
    let answer = engine.post("/rag", body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let whole = answer.json();
    let sources = texts(&whole["sources"]);
    assert_eq!(sources.len(), 3);
    assert!(
        sources
            .iter()
            .any(|source| source.starts_with("command-line.md")),
        "the passage that says it is among {sources:?}"
    );
    let text = whole["answer"].as_str().unwrap();
    assert!(!text.trim().is_empty());
    let cited = text.trim().split(':').next().unwrap();
    assert!(
        sources.contains(&cited),
        "{text:?} cites one of {sources:?}"
    );

    // The same answer, streamed: its pieces put together are the whole.
    let request = engine.client().post(engine.url("/rag")).json(&body);
    let streamed = engine
        .send(request.header("accept", "text/event-stream"))
        .await;
    assert_eq!(streamed.status, 200);
    let events = events(&streamed.text);
    let pieces: String = of_kind(&events, "delta")
        .map(|piece| piece["text"].as_str().unwrap().to_owned())
        .collect();
    let last = of_kind(&events, "output").next().unwrap();
    assert_eq!(pieces, last["answer"].as_str().unwrap());
    assert_eq!(*last, whole);
    assert!(of_kind(&events, "delta").count() > 1, "it came in pieces");
    assert_eq!(events.last().unwrap().0, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_rewrites_a_query_and_a_killed_worker_is_replaced() {
    let engine = start("python");
    let find = async || {
        let answer = engine.post("/find", json!({ "query": "quiet Bike" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let found = find().await;
    assert_eq!(found["query"], "silent bicycle");
    let first = texts(&found["notes"])[0].to_owned();
    assert!(first.starts_with("bicycle: The belt drive"), "{first}");
    assert!(first.len() <= "bicycle: ".len() + 40, "{first}");
    let log = engine.log();
    assert!(log.contains("rewrite: knows 3 words"), "{log}");
    assert!(log.contains(r#""node":"find.better""#), "{log}");

    let workers = workers_of(engine.pid());
    assert_eq!(
        workers.len(),
        3,
        "two for the class and one for the function"
    );
    for worker in &workers {
        kill(*worker);
        assert_eq!(find().await, found);
    }
    // Workers end with the engine, however it ends.
    let workers = workers_of(engine.pid());
    kill(engine.pid());
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while workers.iter().any(|worker| is_alive(*worker)) {
        assert!(tokio::time::Instant::now() < until, "a worker lives on");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The processes that a process has started and that run.
fn workers_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid| stat(*pid).is_some_and(|(state, of)| of == parent && state != 'Z'))
        .collect()
}

/// The state of a process and its parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

fn kill(pid: u32) {
    let sent = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()));
}

#[tokio::test(flavor = "multi_thread")]
async fn router_takes_the_branch_that_a_field_names() {
    let engine = start("router");
    let find = async |query: &str, by: &str| {
        let answer = engine
            .post("/find", json!({ "query": query, "by": by }))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    // No note shares a word with this question, so words find none and meaning finds the owl.
    let words = find("which creature makes no noise", "words").await;
    let meaning = find("which creature makes no noise", "meaning").await;
    assert_eq!(words["way"], "words");
    assert!(!texts(&words["notes"]).contains(&"owl"), "{words}");
    assert_eq!(texts(&meaning["notes"])[0], "owl");
    let both = find("silent bicycle", "both").await;
    assert_eq!(texts(&both["notes"])[0], "bicycle");
    let refused = engine
        .post("/find", json!({ "query": "x", "by": "smell" }))
        .await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text.contains("words"),
        "it names what is allowed: {}",
        refused.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fanout_runs_branches_and_elements() {
    let engine = start("fanout");
    let text = "The tram was late. Nobody minded. It rained.";
    let answer = engine.post("/brief", json!({ "text": text })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let brief = answer.json();
    // Sentences are put together as long as they fit into forty characters.
    let pieces = ["The tram was late. Nobody minded.", "It rained."];
    assert_eq!(texts(&brief["pieces"]), pieces);
    assert_eq!(brief["dimensions"], 384);
    let report = brief["report"].as_str().unwrap();
    assert!(
        report.starts_with("2 pieces, 2 vectors; it goes on:"),
        "{report}"
    );
}

/// Server-sent events as `(event, data)`.
fn events(text: &str) -> Vec<(String, Value)> {
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    let field = |block: &str, name: &str| {
        let line = block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    blocks
        .map(|block| {
            let data = field(block, "data");
            (
                field(block, "event"),
                serde_json::from_str(&data).unwrap_or(Value::Null),
            )
        })
        .collect()
}

fn of_kind<'a>(events: &'a [(String, Value)], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let wanted = events.iter().filter(move |(name, _)| name == kind);
    wanted.map(|(_, data)| data)
}
