//! Adapters in PEFT's format in a folder, as a model finds them.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use nodes::{
    Arguments, Context, Input, Model, Node as _, NodeError, OnThread, Value,
    adapter::{Adapter, Adapters, Base, Linear},
    residency::{AdapterFolder, Loader, Policy, Residency},
};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use schema::ByteSize;
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};
use tempfile::TempDir;

/// A model with one linear layer of 4 by 4.
fn base() -> Arc<Base> {
    let linear = Linear {
        outputs: 4,
        inputs: 4,
    };
    Arc::new(Base {
        linears: BTreeMap::from([("layer.query".to_owned(), linear)]),
        ..Base::default()
    })
}

/// An adapter of rank 1 whose factors consist of one number.
fn write(folder: &Path, inputs: usize, number: f32) {
    fs::create_dir_all(folder).unwrap();
    let config = r#"{"peft_type":"LORA","r":1,"lora_alpha":2,"target_modules":["query"]}"#;
    fs::write(folder.join("adapter_config.json"), config).unwrap();
    let bytes: Vec<u8> = (0..4 * inputs).flat_map(|_| number.to_le_bytes()).collect();
    let view = |shape: &[usize]| {
        let size = 4 * shape.iter().product::<usize>();
        TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..size]).unwrap()
    };
    let tensors = [
        (
            "base_model.model.layer.query.lora_A.weight",
            view(&[1, inputs]),
        ),
        ("base_model.model.layer.query.lora_B.weight", view(&[4, 1])),
    ];
    serialize_to_file(tensors, None, &folder.join("adapter_model.safetensors")).unwrap();
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("good"), 4, 1.0);
    write(&folder.path().join("other-model"), 6, 1.0);
    write(&folder.path().join("cut"), 4, 1.0);
    let cut = folder.path().join("cut/adapter_model.safetensors");
    let bytes = fs::read(&cut).unwrap();
    fs::write(cut, &bytes[..bytes.len() - 4]).unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    folder
}

fn residency(folder: &TempDir) -> Residency<Adapter> {
    let policy = Policy::new(16, ByteSize(1 << 20));
    Residency::new(AdapterFolder::new(folder.path(), base()), policy)
}

#[tokio::test]
async fn a_model_finds_an_adapter_by_name_and_hears_why_not() {
    let folder = folder();
    let residency = residency(&folder);
    let adapter = residency.get("good").await.unwrap();
    assert_eq!(&**adapter.name(), "good");
    assert!(adapter.lora("layer.query").is_some());
    let lines = residency.list().unwrap();
    let names: Vec<&str> = lines.iter().map(|line| &*line.name).collect();
    assert_eq!(names, ["cut", "good", "other-model"]);
    assert_eq!(residency.snapshot().bytes, adapter.bytes() as u64);
    for name in ["none", "empty"] {
        let error = residency.get(name).await.unwrap_err();
        assert!(
            matches!(
                error,
                NodeError::NotFound {
                    what: "adapter",
                    ..
                }
            ),
            "{error}"
        );
    }
    for (name, says) in [
        ("../good", "an adapter's name consists of"),
        (
            "cut",
            "adapter_model.safetensors is a damaged or hostile file",
        ),
        (
            "other-model",
            "adapter \"other-model\" does not fit the model",
        ),
    ] {
        let error = residency.get(name).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    // As a model's own thread asks.
    let adapters: Arc<dyn Adapters> = Arc::new(residency);
    let asked = std::thread::spawn(move || adapters.get("good"));
    let found = tokio::task::spawn_blocking(|| asked.join())
        .await
        .unwrap()
        .unwrap();
    assert!(Arc::ptr_eq(&found.unwrap(), &adapter));
}

#[test]
fn a_generation_is_what_the_files_hold_and_a_stamp_when_they_were_written() {
    let folder = folder();
    let loader = AdapterFolder::new(folder.path(), base());
    let first = loader.load("good").unwrap();
    assert_eq!(loader.stamp("good").unwrap(), first.stamp);
    fs::remove_dir_all(folder.path().join("good")).unwrap();
    write(&folder.path().join("good"), 4, 1.0);
    let again = loader.load("good").unwrap();
    assert_ne!(again.stamp, first.stamp);
    assert_eq!(again.generation, first.generation);
    write(&folder.path().join("good"), 4, 2.0);
    let changed = loader.load("good").unwrap();
    assert_ne!(changed.generation, first.generation);
}

#[cfg(unix)]
#[test]
fn a_link_out_of_an_adapters_folder_is_refused() {
    let folder = folder();
    let weights = folder.path().join("good/adapter_model.safetensors");
    let outside = folder.path().join("outside.safetensors");
    fs::rename(&weights, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &weights).unwrap();
    let loader = AdapterFolder::new(folder.path(), base());
    let error = loader.load("good").map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("is a link out of the model's folder"),
        "{error}"
    );
}

#[test]
fn a_folder_that_is_not_there_holds_no_adapters() {
    let loader = AdapterFolder::new("/nowhere/at/all", base());
    assert!(loader.names().unwrap().is_empty());
    let error = loader.load("good").map(|_| ()).unwrap_err();
    assert!(matches!(error, NodeError::NotFound { .. }));
}

#[test]
fn declared_adapters_come_first_and_need_no_folder() {
    let folder = folder();
    let elsewhere = tempfile::tempdir().unwrap();
    write(&elsewhere.path().join("own"), 4, 3.0);
    let own = elsewhere.path().join("own");
    let declared = BTreeMap::from([("good".to_owned(), own.clone()), ("own".to_owned(), own)]);
    let loader = AdapterFolder::new(folder.path(), base()).with_declared(declared.clone());
    assert_eq!(
        loader.names().unwrap(),
        ["cut", "good", "other-model", "own"]
    );
    let generation = |name| loader.load(name).unwrap().generation;
    assert_eq!(generation("good"), generation("own"));
    let alone = AdapterFolder::of(None, base()).with_declared(declared);
    assert_eq!(alone.names().unwrap(), ["good", "own"]);
    assert!(matches!(
        alone.load("cut").map(|_| ()).unwrap_err(),
        NodeError::NotFound { .. }
    ));
}

#[test]
fn operators_name_folders_of_the_model_and_no_others() {
    let folder = folder();
    let outside = tempfile::tempdir().unwrap();
    write(&outside.path().join("secret"), 4, 1.0);
    write(&folder.path().join("team/nested"), 4, 5.0);
    let loader = AdapterFolder::new(folder.path(), base()).with_home(folder.path());
    loader.add("legal", Path::new("team/nested")).unwrap();
    loader
        .add("legal", &folder.path().join("team/nested"))
        .unwrap();
    assert!(loader.names().unwrap().contains(&"legal".to_owned()));
    assert_eq!(loader.load("legal").unwrap().value.name().as_ref(), "legal");
    // A folder by its own name is nothing new, and another's name is taken.
    loader.add("good", Path::new("good")).unwrap();
    for (name, path) in [
        ("good", "team/nested"),
        ("legal", "good"),
        ("x", "."),
        ("x", "nothing"),
        ("x", "good/adapter_config.json"),
        ("x", "/"),
        ("../x", "good"),
        ("x", outside.path().join("secret").to_str().unwrap()),
    ] {
        let refused = loader.add(name, Path::new(path));
        assert!(
            matches!(refused, Err(NodeError::Invalid { .. })),
            "{name} {path}"
        );
    }
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(outside.path().join("secret"), link).unwrap();
        assert!(loader.add("x", Path::new("link")).is_err());
    }
    loader.forget("legal");
    assert!(loader.stamp("legal").is_err());
}

#[tokio::test]
async fn what_is_added_and_cannot_be_loaded_has_no_name() {
    let folder = folder();
    let loader = AdapterFolder::new(folder.path(), base()).with_home(folder.path());
    let residency = Residency::new(loader, Policy::new(16, ByteSize(1 << 20)));
    assert!(residency.add("x", Path::new("cut")).await.is_err());
    residency.add("x", Path::new("good")).await.unwrap();
    assert!(residency.unload("x").await);
    let error = residency.get("x").await.unwrap_err();
    assert!(matches!(error, NodeError::NotFound { .. }), "{error}");
}

/// Says of each item which adapter it had.
struct Tells(Arc<dyn Adapters>);

impl Model for Tells {
    fn forward(&mut self, batch: Vec<Input>) -> Vec<Result<Value, NodeError>> {
        let tell = |item: &Input| {
            let name = item.arguments.get("adapter").as_text().unwrap();
            Ok(Value::text(&**self.0.get(name)?.name()))
        };
        batch.iter().map(tell).collect()
    }

    fn adapters(&self) -> Option<Arc<dyn Adapters>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_to_be_loaded_shares_no_batch_and_is_loaded_meanwhile() {
    let folder = folder();
    let residency = residency(&folder);
    let node = OnThread::spawn("tells", 1, Tells(Arc::new(residency.clone()))).unwrap();
    let item = |name: &str| Input {
        arguments: Arguments::from_iter([("adapter", Value::text(name))]),
        context: Context::default(),
    };
    let key = node.key(&item("good")).expect("it is not in memory");
    // To ask has begun to load it.
    while !node.is_resident(&key) {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.key(&item("good")), None);
    assert_eq!(residency.snapshot().loads, 1);
    // What will be refused need not wait.
    assert_eq!(node.key(&item("../good")), None);
    assert!(residency.get("none").await.is_err());
    assert_eq!(node.key(&item("none")), None);
    let answers = node.run(vec![item("good"), item("none")]).await;
    assert_eq!(&**answers[0].as_ref().unwrap().as_text().unwrap(), "good");
    assert!(matches!(answers[1], Err(NodeError::NotFound { .. })));
}
