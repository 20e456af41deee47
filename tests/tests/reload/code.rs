//! A Python file that changes replaces its node, and only that one.

use crate::kit::{command, generation, order, save, until};
use serde_json::{Value, json};
use tests::{Engine, write_graph};

const FILE: &str = r#"
graph echo {
    input { id type=string }
    python said { file "said.py"; function "said"; arguments { id "{{ input.id }}" } }
    python other { file "other.py"; function "other" }
    output { said "{{ said }}"; other "{{ other }}" }
}
"#;

const OTHER: &str = "import os\ndef other():\n    return os.getpid()\n";

fn said(version: usize) -> String {
    format!("def said(id):\n    return id + ' {version}'\n")
}

/// What is said, and the process of the other node.
async fn ask(engine: &Engine) -> (String, Value) {
    let answer = engine.post("/echo", json!({ "id": "version" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut answer = answer.json();
    (
        answer["said"].as_str().unwrap().to_owned(),
        answer["other"].take(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_replaces_its_node() {
    let (folder, path) = write_graph(FILE);
    let at = |name: &str| folder.path().join(name);
    save(&at("said.py"), &said(1));
    save(&at("other.py"), OTHER);
    let engine = Engine::start(&path);
    let (first, process) = ask(&engine).await;
    assert_eq!(first, "version 1");
    save(&at("said.py"), &said(2));
    generation(&engine, 2).await;
    assert_eq!(
        ask(&engine).await,
        ("version 2".to_owned(), process.clone())
    );
    // One that no longer defines what is called keeps what runs, and its fix heals.
    save(&at("said.py"), "def another():\n    pass\n");
    let failed = |status: &Value| status["last_reload"]["ok"] == false;
    let status = until(&engine, "/status", failed).await;
    let problem = status["last_reload"]["problems"][0].as_str().unwrap();
    assert!(problem.contains("said.py"), "{problem}");
    assert_eq!(ask(&engine).await.0, "version 2");
    save(&at("said.py"), &said(3));
    generation(&engine, 3).await;
    assert_eq!(ask(&engine).await, ("version 3".to_owned(), process));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_says_so_and_going_back_is_over_what_is_on_disk() {
    let (folder, path) = write_graph(FILE);
    let at = |name: &str| folder.path().join(name);
    save(&at("said.py"), &said(1));
    save(&at("other.py"), OTHER);
    let engine = Engine::start_with(&path, &["--no-watch"]);
    save(&at("said.py"), &said(2));
    let (code, planned) = command(&engine, &["plan", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{planned}");
    assert_eq!(
        planned,
        "keep     graph echo\n\
         replace    python said: python file changed (overlap)\n\
         keep       python other\n\
         nodes: 1 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped\n"
    );
    let (status, outcome) = order(&engine, "/reload").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(2)),
        "{outcome}"
    );
    assert_eq!(ask(&engine).await.0, "version 2");
    // A rollback does not bring back what was overwritten.
    let (status, outcome) = order(&engine, "/rollback").await;
    assert_eq!((status, &outcome["nodes"]), (200, &json!("")), "{outcome}");
    assert_eq!(ask(&engine).await.0, "version 2");
}
