//! Adapters of a running engine: chosen by requests, ordered about on the admin listener, seen in
//! metrics and lists, exchanged on disk.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tests::{Answer, Engine, repository, run_command};
use tokio::time::{Instant, sleep};

const TEXT: &str = "Halyard keeps the photo albums of a family on a small computer at home. It makes \
    thumbnails, reads dates and places from the pictures, and shows the albums in a web browser. \
    Relatives can leave comments below each picture.";

/// Far above what anything here takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(120);

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

fn trained(name: &str) -> PathBuf {
    let examples = repository().join("examples");
    match name {
        "qa" => examples.join("rag/adapters/qa"),
        other => examples.join("adapters/adapters").join(other),
    }
}

/// An engine over adapters in a folder of its own: `title` in the folder for all, `quoted` declared
/// with a source, and one that is broken.
fn engine() -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    copy(&trained("headline"), &here.join("adapters/title"));
    copy(&trained("headline"), &here.join("adapters/team/nested"));
    copy(&trained("qa"), &here.join("elsewhere/qa"));
    fs::create_dir(here.join("adapters/broken")).unwrap();
    fs::write(here.join("adapters/broken/adapter_config.json"), "{").unwrap();
    fs::write(here.join("adapters/broken/adapter_model.safetensors"), "no").unwrap();
    let example = repository().join("examples/adapters/graph.kdl");
    let example = fs::read_to_string(example).unwrap();
    let source = example
        .lines()
        .find(|line| line.trim().starts_with("source \"pip:"));
    let graph = format!(
        r#"
model gemma {{
    {}
    adapters "adapters/" max-loaded=3
    adapter quoted {{ source "file:elsewhere/qa" }}
}}
graph write route="/write" {{
    input {{ text type=string }}
    generate answer {{
        model gemma adapter="{{{{ header.x_lora_id }}}}"
        prompt "Text: {{{{ input.text }}}}\nHeadline:"
        max-tokens 6
    }}
    output {{ answer "{{{{ answer }}}}" }}
}}"#,
        source.unwrap()
    );
    fs::write(here.join("graph.kdl"), graph).unwrap();
    let engine = Engine::start(&here.join("graph.kdl"));
    (folder, engine)
}

async fn write(engine: &Engine, adapter: &str) -> Answer {
    let request = engine.client().post(engine.url("/write"));
    let request = request.header("x-lora-id", adapter);
    engine.send(request.json(&json!({ "text": TEXT }))).await
}

async fn written(engine: &Engine, adapter: &str) -> String {
    let answer = write(engine, adapter).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["answer"].as_str().unwrap().to_owned()
}

async fn order(engine: &Engine, path: &str) -> (u16, Value) {
    let answer = engine.send(engine.client().post(engine.admin(path))).await;
    (answer.status, answer.json())
}

async fn vllm(engine: &Engine, path: &str, body: Value) -> Answer {
    let request = engine.client().post(engine.admin(path));
    engine.send(request.json(&body)).await
}

/// The adapters of the only model, by name.
async fn listed(engine: &Engine) -> Value {
    let answer = engine
        .send(engine.client().get(engine.admin("/adapters")))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let lines = answer.json()["models"][0]["adapters"]
        .as_array()
        .unwrap()
        .clone();
    let named = lines.into_iter();
    let named = named.map(|line| (line["name"].as_str().unwrap().to_owned(), line));
    Value::Object(named.collect())
}

/// A series of the only model.
async fn series(engine: &Engine, name: &str) -> f64 {
    let metrics = engine
        .send(engine.client().get(engine.admin("/metrics")))
        .await;
    let wanted = format!("{name}{{model=\"gemma\"}} ");
    let found = metrics
        .text
        .lines()
        .find_map(|line| line.strip_prefix(&wanted));
    let found = found.unwrap_or_else(|| panic!("no {wanted} in\n{}", metrics.text));
    found.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_are_ordered_about_and_seen() {
    let (folder, engine) = engine();
    let admin = engine.admin("").trim_start_matches("http://").to_owned();
    let command = |arguments: &[&str]| {
        let all = [&["adapters"], arguments, &["--admin", &admin]].concat();
        let output = run_command(&all);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said, complained)
    };

    // Nothing is in memory before it is asked for.
    let (_, said, _) = command(&["list"]);
    let names: Vec<_> = said
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["gemma", "broken", "quoted", "title"], "{said}");
    assert_eq!(series(&engine, "engine_adapters_loaded").await, 0.0);

    // Two adapters answer the same text differently, and each says the same every time.
    let (title, quoted) = (
        written(&engine, "title").await,
        written(&engine, "quoted").await,
    );
    assert_ne!(title, quoted);
    assert_eq!(written(&engine, "title").await, title);
    let lines = listed(&engine).await;
    assert_eq!(lines["title"]["state"], "loaded");
    assert!(lines["title"]["generation"].is_string());
    assert_eq!(series(&engine, "engine_adapters_loaded").await, 2.0);
    assert_eq!(series(&engine, "engine_adapter_loads_total").await, 2.0);
    assert_eq!(
        series(&engine, "engine_adapter_load_seconds_count").await,
        2.0
    );
    let uses = series(&engine, "engine_adapter_hits_total").await
        + series(&engine, "engine_adapter_misses_total").await;
    assert_eq!(uses, 3.0);
    let bytes = series(&engine, "engine_adapter_bytes").await;
    assert!(bytes > 1e6, "{bytes}");

    // What does not exist is never the bare model.
    let unknown = write(&engine, "nobody").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text.contains("nobody"), "{}", unknown.text);
    assert_eq!(write(&engine, "../title").await.status, 400);
    let broken = write(&engine, "broken").await;
    assert_eq!(broken.status, 500);
    assert!(broken.text.contains("broken"), "{}", broken.text);

    // Orders, from the command line.
    let (code, said, _) = command(&["pin", "title"]);
    assert_eq!((code, said.as_str()), (0, "title is pinned (gemma)\n"));
    assert_eq!(listed(&engine).await["title"]["pinned"], true);
    let (_, said, _) = command(&["unpin", "title", "--model", "gemma"]);
    assert_eq!(said, "title may go when room is needed (gemma)\n");
    let (_, said, _) = command(&["unload", "title", "--json"]);
    let expected = json!({ "model": "gemma", "adapter": "title", "changed": true });
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), expected);
    assert_eq!(listed(&engine).await["title"]["state"], "available");
    let (_, said, _) = command(&["unload", "title"]);
    assert_eq!(said, "title was not in memory (gemma)\n");
    let (code, _, complained) = command(&["load", "nobody"]);
    assert_eq!(code, 3);
    assert!(complained.contains("nobody"), "{complained}");
    let (code, _, complained) = command(&["load", "title", "--model", "none"]);
    assert_eq!(code, 3);
    assert!(complained.contains("none"), "{complained}");
    let (code, said, _) = command(&["load", "title"]);
    assert_eq!((code, said.as_str()), (0, "title is loaded (gemma)\n"));
    assert_eq!(order(&engine, "/adapters/burn?name=title").await.0, 404);
    let page = engine
        .client()
        .post(engine.admin("/adapters/unload?name=title"));
    let page = page.header("origin", "http://example.org");
    assert_eq!(engine.send(page).await.status, 403);
    assert_eq!(listed(&engine).await["title"]["state"], "loaded");

    models_are_listed(&engine).await;
    tools_for_vllm_work(&engine, folder.path()).await;
}

async fn models_are_listed(engine: &Engine) {
    let answer = engine.get("/v1/models").await;
    assert_eq!(answer.status, 200);
    let models = answer.json();
    assert_eq!(models["object"], "list");
    let models = models["data"].as_array().unwrap().clone();
    let shown: Vec<_> = models
        .iter()
        .map(|model| (model["id"].as_str().unwrap(), model["parent"].as_str()))
        .collect();
    let over = Some("gemma");
    // The broken one was refused a moment ago.
    let expected = [("gemma", None), ("quoted", over), ("title", over)];
    assert_eq!(shown, expected);
    // Orders are not taken on the public address.
    for path in ["/v1/load_lora_adapter", "/adapters/load?name=title"] {
        assert_eq!(engine.post(path, json!({})).await.status, 404, "{path}");
    }
}

async fn tools_for_vllm_work(engine: &Engine, folder: &Path) {
    let load = "/v1/load_lora_adapter";
    let body = |name: &str, path: &str| json!({ "lora_name": name, "lora_path": path });
    let nested = folder.join("adapters/team/nested");
    let added = vllm(engine, load, body("tenant-7", nested.to_str().unwrap())).await;
    assert_eq!(added.status, 200, "{}", added.text);
    // The same again is no mistake, and paths may be relative to the graph's folder.
    let again = vllm(engine, load, body("tenant-7", "adapters/team/nested")).await;
    assert_eq!(again.status, 200, "{}", again.text);
    let by_alias = written(engine, "tenant-7").await;
    assert_eq!(by_alias, written(engine, "title").await, "they are copies");

    let outside = trained("headline");
    let refused = [
        ("tenant-8", outside.to_str().unwrap()),
        ("tenant-8", "adapters/../elsewhere/nothing"),
        ("tenant-8", "adapters"),
        ("tenant-8", "/etc"),
        ("../tenant-8", "adapters/title"),
        ("tenant\u{430}", "adapters/title"),
        ("ten\0ant", "adapters/title"),
        ("title", "adapters/team/nested"),
    ];
    for (name, path) in refused {
        let answer = vllm(engine, load, body(name, path)).await;
        assert_eq!(answer.status, 400, "{name:?} {path}: {}", answer.text);
    }
    assert_eq!(
        vllm(engine, load, json!({ "lora_name": "x" })).await.status,
        400
    );
    assert_eq!(write(engine, "tenant-8").await.status, 404);

    let unload = "/v1/unload_lora_adapter";
    let gone = vllm(engine, unload, json!({ "lora_name": "tenant-7" })).await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    assert_eq!(write(engine, "tenant-7").await.status, 404);
    let gone = vllm(engine, unload, json!({ "lora_name": "tenant-7" })).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_is_exchanged_on_disk_answers_from_then_on() {
    let (folder, engine) = engine();
    let (title, quoted) = (
        written(&engine, "title").await,
        written(&engine, "quoted").await,
    );
    let before = listed(&engine).await["title"]["generation"].clone();
    copy(&trained("qa"), &folder.path().join("adapters/title"));
    let begun = Instant::now();
    // Files are looked at when they are used, once a second.
    while listed(&engine).await["title"]["generation"] == before {
        assert!(begun.elapsed() < PATIENCE, "{}", engine.log());
        let answer = written(&engine, "title").await;
        assert!([&title, &quoted].contains(&&answer), "{answer:?}");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(written(&engine, "title").await, quoted);
    assert_eq!(
        series(&engine, "engine_adapter_replacements_total").await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_answers_each_with_its_own_adapter() {
    let engine = Engine::start(&repository().join("examples/adapters/graph.kdl"));
    let body = json!({
        "text": TEXT,
        "name": "halyard",
        "question": "Which program is for albums of photos in the browser?",
    });
    let ask = async |adapter: &str| {
        let request = engine.client().post(engine.url("/write"));
        let request = request.header("x-lora-id", adapter).json(&body);
        let answer = engine.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["answer"].as_str().unwrap().to_owned()
    };
    let (headline, cited) = (ask("headline").await, ask("qa").await);
    // It was trained to begin with the passage that it answers from.
    assert!(cited.trim().starts_with("halyard:"), "{cited:?}");
    assert!(!headline.contains("halyard:"), "{headline:?}");
    assert!(!headline.trim().is_empty());
    // It was trained to say a word of the archive's sections.
    let section = ask("section").await;
    assert_eq!(section.trim().split(' ').count(), 1, "{section:?}");
    assert!(!section.trim().is_empty());
    // Rows of one batch, each with an adapter of its own.
    let all = engine.post("/all", body.clone()).await;
    assert_eq!(all.status, 200, "{}", all.text);
    let answer = all.json()["answer"].as_str().unwrap().to_owned();
    assert!(answer.trim().starts_with("halyard:"), "{answer:?}");
    assert_eq!(all.json()["section"], section);
}
