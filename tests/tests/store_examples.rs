//! The examples of stores on real servers, run as their READMEs say, and what is refused when they start.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tests::{
    Engine, repository, run_command,
    stores::{milvus, postgres},
};
use tokio::time::Instant;

/// A copy of an example whose server is elsewhere.
fn example(name: &str, written: &str, url: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let original = repository().join("examples").join(name);
    for file in ["graph.kdl", "notes.jsonl"] {
        let text = fs::read_to_string(original.join(file)).unwrap();
        assert!(file != "graph.kdl" || text.contains(written), "{text}");
        fs::write(folder.path().join(file), text.replace(written, url)).unwrap();
    }
    let graph = folder.path().join("graph.kdl");
    (folder, graph)
}

async fn find(engine: &Engine, body: Value) -> Vec<String> {
    let answer = engine.post("/find", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    serde_json::from_value(answer.json()["notes"].clone()).unwrap()
}

/// What `engine index` prints.
fn index(graph: &Path, arguments: &[&str]) -> String {
    let graph = graph.to_str().unwrap();
    let output = run_command(&[&["index", "--graph", graph], arguments].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Why a file is not run.
fn refused(graph: &Path, text: &str) -> String {
    fs::write(graph, text).unwrap();
    let own = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let run = ["run", graph.to_str().unwrap()];
    let output = run_command(&[&run[..], &own].concat());
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file whose index has vectors of another size, as only the server can know.
fn sized(declared: &str) -> String {
    format!(
        r#"
        index notes {{ {declared}; dimensions 8 }}
        graph find route="/find" {{
            input {{ vector type=vector }}
            search hits {{ index notes; vector "{{{{ input.vector }}}}" }}
            output {{ notes "{{{{ hits | map(attribute='id') | list }}}}" }}
        }}"#
    )
}

/// Puts documents in while `engine` serves them, in ways that both examples share.
async fn is_filled_while_it_serves(engine: &Engine, folder: &Path, graph: &Path) {
    assert_eq!(
        index(graph, &[]),
        "0 written, 6 unchanged, 0 deleted; 6 documents"
    );
    let more = folder.join("more.jsonl");
    let text = r#"{"id": "glider", "text": "Gliders are silent aircraft.", "metadata": {"kind": "vehicle", "year": 2023}}"#;
    fs::write(&more, text).unwrap();
    let more = more.to_str().unwrap();
    assert_eq!(
        index(graph, &[more]),
        "1 written, 0 unchanged, 0 deleted; 7 documents"
    );
    let query = json!({ "query": "silent aircraft" });
    let end = Instant::now() + Duration::from_secs(60);
    while find(engine, query.clone()).await[0] != "glider" {
        assert!(Instant::now() < end, "the new document is never found");
    }
    assert_eq!(
        index(graph, &["--delete", "glider", "nobody"]),
        "1 of 2 deleted; 6 documents"
    );
    while find(engine, query.clone()).await[0] == "glider" {
        assert!(
            Instant::now() < end,
            "the deleted document is found for ever"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pgvector_runs_as_its_readme_says() {
    let server = postgres();
    let written = "postgresql://postgres@127.0.0.1:5432/postgres";
    let (folder, graph) = example("pgvector", written, &server.url);
    let engine = Engine::start(&graph);
    let query = json!({ "query": "quiet bicycle", "since": 2020 });
    let found = find(&engine, query.clone()).await;
    assert_eq!(found[0], "bicycle");
    assert!(
        !found.contains(&"owl".to_owned()),
        "{found:?} are since 2020"
    );
    is_filled_while_it_serves(&engine, folder.path(), &graph).await;
    engine.stop();
    // It is there already.
    let engine = Engine::start(&graph);
    assert_eq!(find(&engine, query).await, found);
    engine.stop();

    let text = fs::read_to_string(&graph).unwrap();
    let other = text.replace("table=\"notes\"", "table=\"notes\" text=\"body\"");
    let said = refused(&graph, &other);
    assert!(said.contains("has no column `body` for `text`"), "{said}");
    let said = refused(
        &graph,
        &sized(&format!("pgvector \"{}\" table=\"notes\"", server.url)),
    );
    assert!(
        said.contains("holds vectors of 384, and `dimensions` says 8"),
        "{said}"
    );
    let nowhere = text.replace(&server.url, "postgresql://postgres@127.0.0.1:9/postgres");
    let said = refused(&graph, &nowhere);
    assert!(
        said.contains("PostgreSQL at 127.0.0.1:9 is out of reach"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn milvus_runs_as_its_readme_says() {
    let server = milvus();
    let (folder, graph) = example("milvus", "http://127.0.0.1:19530", &server.url);
    let engine = Engine::start(&graph);
    let quiet = json!({ "query": "something quiet", "kind": "vehicle" });
    let mut found = find(&engine, quiet).await;
    found.sort();
    assert_eq!(found, ["bicycle", "tram"]);
    is_filled_while_it_serves(&engine, folder.path(), &graph).await;
    engine.stop();

    let text = fs::read_to_string(&graph).unwrap();
    let words = text.replace(
        "        vector \"{{ question }}\"\n",
        "        text \"{{ input.query }}\"\n",
    );
    let said = refused(&graph, &words);
    assert!(
        said.contains("cannot be searched by `text`: Milvus v2.3.5"),
        "{said}"
    );
    let said = refused(
        &graph,
        &sized(&format!("milvus \"{}\" collection=\"notes\"", server.url)),
    );
    assert!(
        said.contains("holds vectors of 384, and `dimensions` says 8"),
        "{said}"
    );
    let nowhere = text.replace(&server.url, "http://127.0.0.1:9");
    let said = refused(&graph, &nowhere);
    assert!(
        said.contains("cannot connect to Milvus at 127.0.0.1:9"),
        "{said}"
    );
}
