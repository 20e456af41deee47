//! Decoders and `generate` against what transformers and PEFT compute: the tokens and logits of
//! `golden/generate`, which the scripts there made.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod adapters;
mod families;
mod gemma;
mod guesses;
mod node;
mod paths;
mod prefix;
#[path = "../real_models/mod.rs"]
mod real_models;
mod shortlists;

use nodes::{
    Arguments, Context, Finish, Generate, Input, Node, NodeError, Value,
    adapter::{Adapter, Adapters},
    compute::ComputePool,
    generate::GenerateOptions,
    model::decoder::{KvPool, LanguageModel, Scores, Sequence, SequenceRows, Wanted},
    ops::has_kernels,
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// What activations in eight bits may cost a logit of Gemma, whose logits span some 40: 0.81 was the
/// most on the 26 prompts, with AVX-512, and 0.57 with AVX2; half of them cost 0.21 at most with both. (6e-5 with
/// the same weights in f32, so the rest of the arithmetic is exact.)
/// It is also what one row's logits may move by when other rows are computed beside it: another order
/// of a sum now and then rounds an activation to the next of its 255 values.
const LOGIT_TOLERANCE: f32 = 1.0;

/// The same for candle's products, which keep less of an activation: blocks of 256 values on a processor,
/// scales of 16 bits on a GPU, where one row takes another kernel than many. 1.04 was the most.
const CANDLE_TOLERANCE: f32 = 1.25;

fn logit_tolerance() -> f32 {
    match has_kernels(&real_models::device()) {
        true => LOGIT_TOLERANCE,
        false => CANDLE_TOLERANCE,
    }
}

/// Most rows of a sequence in a step.
const MAX_ROWS: usize = 256;

/// Gemma 3 270M, loaded once.
fn gemma() -> Arc<LanguageModel> {
    static GEMMA: OnceLock<Arc<LanguageModel>> = OnceLock::new();
    let load = || LanguageModel::load(&real_models::gemma(), &real_models::device()).unwrap();
    Arc::clone(GEMMA.get_or_init(|| Arc::new(load())))
}

/// A tiny random model of a family.
fn tiny(name: &str) -> Arc<LanguageModel> {
    let path = golden(&format!("tiny-{name}.gguf"));
    Arc::new(LanguageModel::load(&path, &real_models::device()).unwrap())
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/generate")
        .join(name)
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&fs::read_to_string(golden(name)).unwrap()).unwrap()
}

/// A prompt and what transformers makes of it.
#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    adapter: Option<String>,
    prompt: String,
    tokens: Vec<u32>,
    top_ids: Vec<usize>,
    top_logits: Vec<f32>,
    greedy: Vec<u32>,
    #[serde(default)]
    margin: Vec<f32>,
}

#[derive(Deserialize)]
struct Cases {
    generate: Vec<Case>,
}

/// A model with a cache and sequences, driven by hand.
struct Bench {
    model: Arc<LanguageModel>,
    cache: KvPool,
    pool: ComputePool,
}

impl Bench {
    fn new(model: Arc<LanguageModel>) -> Self {
        Self {
            cache: model.decoder.cache(1 << 30, MAX_ROWS),
            pool: ComputePool::new(2),
            model,
        }
    }

    fn sequence(&mut self) -> Sequence {
        self.cache.admit(2048).unwrap()
    }

    /// The logits after the last token of each sequence.
    fn step(&mut self, rows: &mut [SequenceRows<'_>]) -> Vec<Vec<f32>> {
        let Self { model, cache, pool } = self;
        let logits = pool.install(|| model.decoder.step(cache, rows)).unwrap();
        logits.read(|rows| rows.iter().map(all).collect()).unwrap()
    }

    /// The logits after the last of the tokens and before each guess, alone.
    fn next(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[u32],
        guessed: usize,
        adapter: Option<&Arc<Adapter>>,
    ) -> Vec<Vec<f32>> {
        self.step(&mut [SequenceRows {
            sequence,
            tokens,
            adapter,
            logits: Wanted::All,
            guessed,
        }])
    }

    /// The logits after a prompt that is read in parts of so many rows, alone.
    fn read(&mut self, tokens: &[u32], part: usize, adapter: Option<&Arc<Adapter>>) -> Vec<f32> {
        let mut sequence = self.sequence();
        let mut logits = Vec::new();
        for tokens in tokens.chunks(part) {
            logits = self.next(&mut sequence, tokens, 0, adapter);
        }
        self.cache.release(sequence);
        logits.pop().unwrap()
    }

    /// Reads tokens and then goes on greedily, alone.
    fn greedy(&mut self, prompt: &[u32], count: usize) -> Vec<u32> {
        let mut sequence = self.sequence();
        let mut unread = prompt.to_vec();
        let mut made = Vec::new();
        while made.len() < count {
            let logits = self.next(&mut sequence, &unread, 0, None);
            unread = vec![Scores::All(&logits[0]).likeliest().unwrap().0];
            made.extend(&unread);
        }
        self.cache.release(sequence);
        made
    }
}

/// The logits of all tokens.
fn all(scores: &Scores<'_>) -> Vec<f32> {
    match scores {
        Scores::All(logits) => logits.to_vec(),
        Scores::Largest(_) => panic!("all logits were wanted"),
    }
}

/// Adapters that were loaded before.
#[derive(Default)]
struct Shelf(HashMap<String, Arc<Adapter>>);

impl Shelf {
    /// The adapters of the examples, for Gemma.
    fn of_examples(model: &LanguageModel) -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let base = model.decoder.adapter_base();
        let folders = [
            ("qa", "rag/adapters/qa"),
            ("headline", "adapters/adapters/headline"),
        ];
        let load = |(name, folder): (&str, &str)| {
            let adapter = Adapter::load(name, &examples.join(folder), &base).unwrap();
            (name.to_owned(), Arc::new(adapter))
        };
        Self(folders.into_iter().map(load).collect())
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

fn start(model: Arc<LanguageModel>, options: &GenerateOptions) -> Generate {
    let shelf = match model.decoder.config().architecture.as_str() {
        "gemma3" => Shelf::of_examples(&model),
        _ => Shelf::default(),
    };
    Generate::start("generate", model, Arc::new(shelf), options).unwrap()
}

/// The whole text that a node makes.
async fn by_node(node: &Generate, arguments: Arguments) -> (String, Finish) {
    let context = Context::default();
    match node.run(vec![Input { arguments, context }]).await.pop() {
        Some(Ok(Value::Stream(stream))) => stream.collect().await.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A long text of which tests read parts.
#[derive(Deserialize)]
struct Long {
    tokens: Vec<u32>,
}

/// Whether logits that were computed in two ways are the same: to the bit by our kernels, and nearly so by
/// candle's, which take another way for one row than for many.
fn is_same(a: &[f32], b: &[f32]) -> bool {
    match has_kernels(&real_models::device()) {
        true => a == b,
        false => difference(a, b) <= 2.0 * CANDLE_TOLERANCE,
    }
}

/// The largest difference of two rows of logits.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
