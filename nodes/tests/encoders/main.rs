//! Encoders against what transformers and PEFT compute: the vectors and scores of
//! `golden/encoders`, which `make_tiny.py` there and the scripts named in the files made.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod adapter_files;
mod batches;
mod numbers;
mod paths;
#[path = "../real_models/mod.rs"]
mod real_models;
mod values;
mod weight_files;

use nodes::{
    Arguments, Context, Input, NodeError, Value,
    adapter::{Adapter, Adapters},
    model::{Encoder, EncoderOptions},
};
use serde::de::DeserializeOwned;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

fn minilm() -> Encoder {
    load(&real_models::minilm())
}

/// The reranker that `examples/rag` uses.
fn reranker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/rag/adapters/reranker")
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/encoders")
        .join(name)
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&fs::read_to_string(golden(name)).unwrap()).unwrap()
}

fn load(folder: &Path) -> Encoder {
    let options = EncoderOptions {
        device: real_models::device(),
        ..EncoderOptions::default()
    };
    Encoder::load(folder, &options).unwrap()
}

/// Adapters that were loaded before.
#[derive(Default)]
struct Shelf(HashMap<String, Arc<Adapter>>);

impl Shelf {
    fn with(mut self, encoder: &Encoder, name: &str, folder: &Path) -> Self {
        let adapter = Adapter::load(name, folder, encoder.base()).unwrap();
        self.0.insert(name.to_owned(), Arc::new(adapter));
        self
    }
}

impl Adapters for Shelf {
    fn get(&self, name: &str) -> Result<Arc<Adapter>, NodeError> {
        let unknown = || NodeError::NotFound {
            what: "adapter",
            name: name.to_owned(),
        };
        self.0.get(name).cloned().ok_or_else(unknown)
    }
}

fn input<const N: usize>(arguments: [(&str, Value); N]) -> Input {
    Input {
        arguments: Arguments::from_iter(arguments),
        context: Context::default(),
    }
}

fn vector(value: &Value) -> &[f32] {
    match value {
        Value::Vector(vector) => vector,
        other => panic!("{} is no vector", other.type_name()),
    }
}

/// 1 less the cosine of the angle between two vectors.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    1.0 - product(a, b) / (product(a, a) * product(b, b)).sqrt()
}
