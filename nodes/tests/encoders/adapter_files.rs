//! Adapters that cannot be used are refused in words.

use super::{golden, load};
use nodes::{
    adapter::{Adapter, AdapterError},
    model::Encoder,
};
use proptest::prelude::*;
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde_json::{Value as Json, json};
use std::{collections::HashMap, fs, path::Path, sync::LazyLock};
use tempfile::TempDir;

const QUERY: &str = "base_model.model.bert.encoder.layer.0.attention.self.query";

/// A folder with an adapter of rank 2 on one query, with these changes.
struct Folder {
    config: Json,
    tensors: Vec<(String, Vec<usize>)>,
}

impl Folder {
    fn new() -> Self {
        Self {
            config: json!({
                "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query"],
                "base_model_name_or_path": "someone/else",
            }),
            tensors: vec![
                (format!("{QUERY}.lora_A.weight"), vec![2, 32]),
                (format!("{QUERY}.lora_B.weight"), vec![32, 2]),
            ],
        }
    }

    fn set(mut self, key: &str, value: Json) -> Self {
        self.config[key] = value;
        self
    }

    fn tensor(mut self, name: &str, shape: &[usize]) -> Self {
        self.tensors.retain(|(known, _)| known != name);
        self.tensors.push((name.to_owned(), shape.to_vec()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.tensors.retain(|(known, _)| known != name);
        self
    }

    fn write(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("adapter_config.json"),
            self.config.to_string(),
        )
        .unwrap();
        let size = |shape: &[usize]| 4 * shape.iter().product::<usize>();
        let bytes: Vec<_> = self
            .tensors
            .iter()
            .map(|(_, shape)| vec![0; size(shape)])
            .collect();
        let views = self
            .tensors
            .iter()
            .zip(&bytes)
            .map(|((name, shape), bytes)| {
                (
                    name,
                    TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
                )
            });
        let file = folder.path().join("adapter_model.safetensors");
        serialize_to_file(views, None, &file).unwrap();
        folder
    }

    fn load(&self) -> Result<Adapter, AdapterError> {
        load_from(self.write().path())
    }

    fn error(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

fn load_from(folder: &Path) -> Result<Adapter, AdapterError> {
    static MODEL: LazyLock<Encoder> = LazyLock::new(|| load(&golden("tiny-bert")));
    Adapter::load("legal", folder, MODEL.base())
}

#[test]
fn a_sound_adapter_is_weighed() {
    let adapter = Folder::new().load().unwrap();
    assert_eq!(&**adapter.name(), "legal");
    assert!(
        adapter
            .lora("encoder.layer.0.attention.self.query")
            .is_some()
    );
    assert!(
        adapter
            .lora("encoder.layer.1.attention.self.query")
            .is_none()
    );
    assert_eq!(adapter.bytes(), 2 * 2 * 32 * 4);
}

#[test]
fn another_models_adapter_is_refused() {
    let wide = Folder::new().tensor(&format!("{QUERY}.lora_A.weight"), &[2, 384]);
    assert_eq!(
        wide.error(),
        format!(
            "adapter \"legal\" does not fit the model: \"{QUERY}.lora_A.weight\" has the shape \
             [2, 384] where [2, 32] is needed; it was made for \"someone/else\""
        )
    );
    let deep = "base_model.model.bert.encoder.layer.7.attention.self.query";
    let deep = Folder::new()
        .tensor(&format!("{deep}.lora_A.weight"), &[2, 32])
        .tensor(&format!("{deep}.lora_B.weight"), &[32, 2]);
    assert!(matches!(
        deep.load(),
        Err(AdapterError::UnknownModule { .. })
    ));
}

#[test]
fn a_wrong_rank_is_refused() {
    let folder = Folder::new().set("r", json!(4));
    assert_eq!(
        folder.error(),
        format!(
            "adapter \"legal\": \"{QUERY}.lora_A.weight\" has the rank 2 and the configuration says 4"
        )
    );
    assert!(matches!(
        Folder::new().set("r", json!(0)).load(),
        Err(AdapterError::Setting { .. })
    ));
}

#[test]
fn targets_and_tensors_must_agree() {
    let missing = Folder::new().set("target_modules", json!(["query", "value"]));
    assert_eq!(
        missing.error(),
        "adapter \"legal\" names the target module \"value\" and has no tensors for it"
    );
    let other = Folder::new().set("target_modules", json!(["key"]));
    assert!(matches!(other.load(), Err(AdapterError::Tensor { .. })));
    let half = Folder::new().without(&format!("{QUERY}.lora_B.weight"));
    assert!(half.error().contains("lacks one of lora_A and lora_B"));
    let twice = Folder::new()
        .tensor(
            "encoder.layer.0.attention.self.query.lora_A.weight",
            &[2, 32],
        )
        .tensor(
            "encoder.layer.0.attention.self.query.lora_B.weight",
            &[32, 2],
        );
    assert!(twice.error().contains("comes twice"));
    let whole = Folder::new().tensor(
        "base_model.model.bert.embeddings.word_embeddings.weight",
        &[9, 32],
    );
    assert!(matches!(
        whole.load(),
        Err(AdapterError::UnknownModule { .. })
    ));
}

#[test]
fn other_methods_are_refused_by_name() {
    let cases = HashMap::from([
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("bias", json!("lora_only")),
        ("peft_type", json!("IA3")),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("layer_replication", json!([[0, 1]])),
        ("trainable_token_indices", json!([3])),
    ]);
    for (key, value) in cases {
        let error = Folder::new().set(key, value).error();
        assert!(
            error.contains(key) && error.ends_with("which is not supported"),
            "{error}"
        );
    }
    let off = Folder::new()
        .set("use_dora", json!(false))
        .set("layer_replication", json!([]));
    assert!(off.load().is_ok());
}

#[test]
fn patterns_are_read_or_refused() {
    let pattern = Folder::new().set("alpha_pattern", json!({"query(": 3}));
    assert!(
        pattern
            .error()
            .starts_with("adapter \"legal\": alpha_pattern cannot be read")
    );
    // Python's pattern is not needed: the tensors say what was trained.
    let target = Folder::new().set("target_modules", json!("(?!nothing).*query"));
    assert!(target.load().is_ok());
}

#[test]
fn damaged_folders_are_refused() {
    let folder = Folder::new().write();
    let config = folder.path().join("adapter_config.json");
    fs::write(&config, "{").unwrap();
    assert!(matches!(
        load_from(folder.path()),
        Err(AdapterError::Config { .. })
    ));
    fs::write(&config, "[1, 2]").unwrap();
    assert!(matches!(
        load_from(folder.path()),
        Err(AdapterError::Config { .. })
    ));
    fs::remove_file(&config).unwrap();
    assert!(matches!(
        load_from(folder.path()),
        Err(AdapterError::Read { .. })
    ));
    let folder = Folder::new().write();
    fs::remove_file(folder.path().join("adapter_model.safetensors")).unwrap();
    assert!(matches!(
        load_from(folder.path()),
        Err(AdapterError::Weights(_))
    ));
}

proptest! {
    #[test]
    fn no_change_of_a_sound_adapter_makes_it_panic(
        file in prop::sample::select(&["adapter_config.json", "adapter_model.safetensors"][..]),
        at in 0.0..1.0f64,
        bytes in prop::collection::vec(any::<u8>(), 1..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            let mut content = fs::read(golden("adapters/patterns").join(name)).unwrap();
            if name == file {
                // The header is where a change can do harm.
                let at = (at * content.len().min(3000) as f64) as usize;
                content.splice(at..(at + bytes.len()).min(content.len()), bytes.iter().copied());
            }
            fs::write(folder.path().join(name), content).unwrap();
        }
        let _ = load_from(folder.path());
    }
}
