//! An index is served when all of its documents are in it: a build that failed or was interrupted is gone on
//! with at the next start.

use serde_json::json;
use std::{fmt::Write as _, fs};
use tests::{Engine, run_command, write_graph};

/// More than are committed at once, so that the failure comes in the middle.
const DOCUMENTS: usize = 3000;

const GRAPH: &str = r#"
index notes { path "index"; from "notes.jsonl" }
graph find {
    input { query type=string }
    search hits { index notes; text "{{ input.query }}"; top-k 3 }
    output { ids "{{ hits | map(attribute='id') | list }}" }
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_failed_is_gone_on_with() {
    let (folder, path) = write_graph(GRAPH);
    let mut lines = String::new();
    for id in 0..DOCUMENTS {
        writeln!(lines, r#"{{"id": "{id}", "text": "word{id}"}}"#).unwrap();
    }
    let data = folder.path().join("notes.jsonl");
    fs::write(&data, format!("{lines}no document\n")).unwrap();
    let run = ["run", path.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let run = [&run[..], &["--admin", "127.0.0.1:0"]].concat();
    // As often as it is tried: what is there already is not taken for all of it.
    for _ in 0..2 {
        let failed = run_command(&run);
        let said = String::from_utf8_lossy(&failed.stderr);
        assert_eq!(failed.status.code(), Some(3), "{said}");
        let place = format!("line {}", DOCUMENTS + 1);
        assert!(said.contains("notes") && said.contains(&place), "{said}");
    }
    fs::write(&data, &lines).unwrap();
    let engine = Engine::start(&path);
    for id in [0, DOCUMENTS - 1] {
        let query = json!({ "query": format!("word{id}") });
        let answer = engine.post("/find", query).await;
        assert_eq!(answer.json()["ids"], json!([id.to_string()]));
    }
    // It is whole now, and not built again.
    drop(engine);
    fs::remove_file(&data).unwrap();
    let engine = Engine::start(&path);
    let answer = engine.post("/find", json!({ "query": "word7" })).await;
    assert_eq!(answer.json()["ids"], json!(["7"]));
}
