//! Damaged and hostile model folders are errors, never a panic.

use super::golden;
use half::f16;
use nodes::model::{Encoder, EncoderOptions, LoadError, Sequence, Weights, WeightsError};
use proptest::{collection::vec, prelude::*};
use safetensors::{Dtype, SafeTensors, serialize_to_file, tensor::TensorView};
use std::{fs, path::Path};
use tempfile::TempDir;

/// A safetensors file of this header and so many bytes behind it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(vec![0; data]);
    file
}

fn parse(bytes: &[u8]) -> Result<Weights, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    let (mapped, read) = (Weights::map(&path), Weights::read(&path));
    assert_eq!(mapped.is_ok(), read.is_ok());
    mapped
}

#[test]
fn a_sound_file_is_read() {
    let header = r#"{"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}}"#;
    let weights = parse(&file(header, 8)).unwrap();
    assert_eq!(weights.floats("a", &[2, 2]).unwrap(), [0.0; 4]);
    assert!(matches!(
        weights.floats("a", &[4]),
        Err(WeightsError::Shape { .. })
    ));
    assert!(matches!(
        weights.floats("b", &[4]),
        Err(WeightsError::Missing { .. })
    ));
    let table = weights.table("a", 2, 2).unwrap();
    let mut row = [1.0; 2];
    assert!(table.read(1, &mut row) && row == [0.0; 2]);
    assert!(!table.read(2, &mut row));
}

#[test]
fn hostile_headers_are_refused() {
    let tensor = |shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let headers = [
        tensor("[4294967296,4294967296]", "[0,16]"),
        tensor("[4611686018427387904,4]", "[0,0]"),
        tensor("[4]", "[16,0]"),
        tensor("[4]", "[0,18446744073709551615]"),
        tensor("[4]", "[8,24]"),
        tensor("[5]", "[0,16]"),
        tensor("[-1]", "[0,16]"),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}}"#.to_owned(),
        r#"{"a":{"dtype":"PICKLE","shape":[4],"data_offsets":[0,16]}}"#.to_owned(),
        "[".repeat(100_000),
        "{".to_owned(),
    ];
    for header in headers {
        let parsed = parse(&file(&header, 16));
        let start: String = header.chars().take(60).collect();
        assert!(
            matches!(parsed, Err(WeightsError::Damaged { .. })),
            "{start}"
        );
    }
    for length in [u64::MAX, 1 << 40, 100_000_001, 9] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([b'{', b'}']);
        assert!(
            matches!(parse(&bytes), Err(WeightsError::Damaged { .. })),
            "{length}"
        );
    }
    assert!(matches!(parse(&[]), Err(WeightsError::Damaged { .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_change_of_a_sound_file_makes_it_panic(at in 0usize..2000, byte in any::<u8>(), cut in 0usize..2000) {
        let mut bytes = fs::read(golden("adapters/regex/adapter_model.safetensors")).unwrap();
        bytes[at] = byte;
        if let Ok(weights) = parse(&bytes) {
            for name in weights.names() {
                let shape = weights.shape(name).unwrap();
                let _ = weights.floats(name, shape);
            }
        }
        bytes.truncate(bytes.len() - cut);
        let _ = parse(&bytes);
    }
}

/// A copy of a small model, to be damaged.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(golden("tiny-bert")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

fn error(folder: &Path) -> LoadError {
    Encoder::load(folder, &EncoderOptions::default()).unwrap_err()
}

fn change_config(folder: &Path, key: &str, value: serde_json::Value) {
    let path = folder.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn models_of_other_kinds_are_refused() {
    let cases = [
        (
            "model_type",
            "gpt2".into(),
            "an encoder of type \"gpt2\" is not supported",
        ),
        (
            "num_attention_heads",
            5.into(),
            "5 heads do not divide a width of 32",
        ),
        ("hidden_size", 0.into(), "a size is 0"),
        (
            "position_embedding_type",
            "relative_key".into(),
            "is not supported",
        ),
    ];
    for (key, value, message) in cases {
        let folder = copy();
        change_config(folder.path(), key, value);
        let error = error(folder.path()).to_string();
        assert!(error.contains(message), "{error}");
    }
    let folder = copy();
    change_config(folder.path(), "hidden_act", "swish".into());
    assert!(matches!(error(folder.path()), LoadError::Parse { .. }));
    let folder = copy();
    let modules = r#"[{"path": "", "type": "sentence_transformers.models.WordWeights"}]"#;
    fs::write(folder.path().join("modules.json"), modules).unwrap();
    let error = error(folder.path()).to_string();
    assert!(error.contains("WordWeights\" is not supported"), "{error}");
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let folder = copy();
    change_config(folder.path(), "intermediate_size", 65.into());
    let shape = error(folder.path());
    assert!(
        matches!(shape, LoadError::Weights(WeightsError::Shape { .. })),
        "{shape}"
    );
    change_config(folder.path(), "intermediate_size", 64.into());
    change_config(folder.path(), "num_hidden_layers", 4.into());
    let missing = error(folder.path());
    assert!(
        matches!(missing, LoadError::Weights(WeightsError::Missing { .. })),
        "{missing}"
    );
    let folder = copy();
    let other = golden("tiny-xlm-roberta/model.safetensors");
    fs::copy(other, folder.path().join("model.safetensors")).unwrap();
    assert!(matches!(error(folder.path()), LoadError::Weights(_)));
    let folder = copy();
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(error(folder.path()), LoadError::Tokenizer { .. }));
    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(matches!(error(folder.path()), LoadError::Read { .. }));
}

#[test]
fn a_vocabulary_that_is_larger_than_the_model_is_refused() {
    let folder = copy();
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    tokenizer["model"]["vocab"]["zzz"] = 100_000.into();
    fs::write(&path, tokenizer.to_string()).unwrap();
    let error = error(folder.path()).to_string();
    assert!(
        error.contains("its id 100000 lies beyond the model's"),
        "{error}"
    );
}

#[test]
fn other_names_and_number_types_of_the_same_tensors_are_read() {
    let folder = copy();
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    // As a bare encoder of early days, in 16 bits: no prefix, TensorFlow's names for norms.
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = (file.iter())
        .map(|(name, view)| {
            let name = name.trim_start_matches("bert.");
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
            let name = name.replace("LayerNorm.bias", "LayerNorm.beta");
            let halves = view.data().chunks_exact(4).flat_map(|float| {
                f16::from_f32(f32::from_le_bytes(float.try_into().unwrap())).to_le_bytes()
            });
            (name, view.shape().to_vec(), halves.collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (
            name,
            TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap(),
        )
    });
    serialize_to_file(views, None, &path).unwrap();
    let embed = |folder: &Path| {
        let encoder = Encoder::load(folder, &EncoderOptions::default()).unwrap();
        let tokens = encoder.tokenize().text("a batch is formed").unwrap();
        let adapter = None;
        encoder.embed(&[Sequence { tokens, adapter }]).unwrap()[0].to_vec()
    };
    let distance = super::distance(&embed(folder.path()), &embed(&golden("tiny-bert")));
    assert!(distance < 1e-4, "{distance}");
}

#[test]
fn a_text_without_tokens_is_an_error() {
    let folder = copy();
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    tokenizer["post_processor"] = serde_json::Value::Null;
    fs::write(&path, tokenizer.to_string()).unwrap();
    let encoder = Encoder::load(folder.path(), &EncoderOptions::default()).unwrap();
    let error = encoder.tokenize().text(" ").unwrap_err().to_string();
    assert_eq!(error, "failed to split the text into tokens: it has none");
}

#[test]
fn pooling_is_what_the_models_files_say() {
    let folder = copy();
    let modules = r#"[
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
    ]"#;
    fs::write(folder.path().join("modules.json"), modules).unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    let pooling = folder.path().join("1_Pooling/config.json");
    let embed = |mode: &str| {
        let config = format!(r#"{{"pooling_mode_{mode}": true, "word_embedding_dimension": 32}}"#);
        fs::write(&pooling, config).unwrap();
        let encoder = Encoder::load(folder.path(), &EncoderOptions::default()).unwrap();
        let tokens = encoder.tokenize().text("a batch is formed").unwrap();
        let adapter = None;
        encoder.embed(&[Sequence { tokens, adapter }]).unwrap()[0].to_vec()
    };
    let (mean, first, max) = (
        embed("mean_tokens"),
        embed("cls_token"),
        embed("max_tokens"),
    );
    let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    // Nothing says that vectors are to be normalised.
    assert!((length(&mean) - 1.0).abs() > 1e-3);
    // Where only first rows are wanted the others are not computed, which moves the last digits.
    let above = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a + 1e-4 >= *b);
    assert!(above(&max, &mean) && above(&max, &first));
    assert!(super::distance(&mean, &first) > 1e-3);
    fs::write(&pooling, r#"{"pooling_mode_lasttoken": true}"#).unwrap();
    let refused = error(folder.path()).to_string();
    assert!(
        refused.contains("is not supported; mean, cls or max is"),
        "{refused}"
    );
}
