//! Our side of the comparison with peers, which `peers/compare.py` drives.
//!
//! Reads one order a line from standard input, as JSON, and answers each with a line that tells how
//! long the work took. Models are loaded when they are first needed. Between two orders the compute
//! threads sleep, so that the peer has the machine for itself while it is its turn.

#[path = "../tests/real_models/mod.rs"]
mod real_models;

use candle_core::Device;
use nodes::{
    adapter::Adapter,
    compute::{self, ComputePool},
    model::{
        Encoder, EncoderOptions, Sequence, TokenizeError, Tokens,
        decoder::{self, KvPool, LanguageModel, SequenceRows, Wanted},
    },
    ops::WeightType,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    env,
    error::Error,
    fs,
    io::{self, BufRead, Write},
    path::Path,
    sync::Arc,
};
use tokio::time::Instant;

/// The engine's own allocator, so that both are measured with the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Most rows of a prompt in one step, as a replica has it.
const PROMPT_ROWS: usize = 256;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Order {
    /// The tokens of texts.
    Tokens { texts: Vec<String> },
    /// Vectors of texts that are tokens already.
    Embed {
        weights: Weights,
        tokens: Vec<Vec<u32>>,
    },
    /// Vectors of texts.
    EmbedTexts {
        weights: Weights,
        texts: Vec<String>,
    },
    /// Reads a prompt.
    Prefill { tokens: Vec<u32> },
    /// The tokens of a text for the language model.
    TextTokens { text: String },
    /// Steps of several texts together, each of which has read its context.
    Decode {
        contexts: Vec<Vec<u32>>,
        steps: usize,
        #[serde(flatten)]
        kind: StepKind,
    },
    /// A text by the likeliest tokens.
    Generate { prompt: String, tokens: usize },
    /// Where model files are, and what the process takes.
    Facts,
}

/// What steps are like.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(default)]
struct StepKind {
    /// Whether each sequence has an adapter.
    adapters: bool,
    /// Whether all logits are computed, as some ways of sampling need them, or the largest.
    all_logits: bool,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
enum Weights {
    F32,
    Int8,
}

fn main() -> Outcome<()> {
    // Cargo asks every target for its tests.
    if env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let threads = env::var("THREADS").map_or(Ok(2), |threads| threads.parse())?;
    let mut side = Side::default();
    let pool = ComputePool::new(threads);
    for line in io::stdin().lock().lines() {
        let order = serde_json::from_str(&line?)?;
        let answer = pool.install(|| side.carry_out(order))?;
        println!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}

#[derive(Default)]
struct Side {
    encoders: BTreeMap<Weights, Encoder>,
    decoder: Option<Decoder>,
}

/// The language model, its cache, and eight adapters.
struct Decoder {
    model: LanguageModel,
    cache: KvPool,
    adapters: Vec<Arc<Adapter>>,
    load_seconds: f64,
}

impl Side {
    fn carry_out(&mut self, order: Order) -> Outcome<Value> {
        match order {
            Order::Tokens { texts } => {
                let sequences = sequences(self.encoder(Weights::F32)?, &texts)?;
                let ids: Vec<_> = sequences.into_iter().map(|text| text.tokens.ids).collect();
                Ok(json!({ "tokens": ids }))
            }
            Order::Embed { weights, tokens } => {
                let encoder = self.encoder(weights)?;
                let sequences: Vec<_> = tokens.into_iter().map(sequence).collect();
                let began = Instant::now();
                let vectors = encoder.embed(&sequences)?;
                let seconds = began.elapsed().as_secs_f64();
                let vectors: Vec<&[f32]> = vectors.iter().map(|vector| &**vector).collect();
                Ok(json!({ "seconds": seconds, "vectors": vectors }))
            }
            Order::EmbedTexts { weights, texts } => {
                let encoder = self.encoder(weights)?;
                let began = Instant::now();
                encoder.embed(&sequences(encoder, &texts)?)?;
                Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
            }
            Order::Prefill { tokens } => {
                let decoder = self.decoder()?;
                let mut sequence = decoder.admit(tokens.len())?;
                let began = Instant::now();
                let read = decoder.step(&mut [&mut sequence], &[&tokens], StepKind::default());
                let seconds = began.elapsed().as_secs_f64();
                decoder.cache.release(sequence);
                read?;
                Ok(json!({ "seconds": seconds }))
            }
            Order::TextTokens { text } => {
                let tokens = self.decoder()?.model.tokenizer.encode(&text)?;
                Ok(json!({ "tokens": tokens }))
            }
            Order::Decode {
                contexts,
                steps,
                kind,
            } => self.decoder()?.decode(&contexts, kind, steps),
            Order::Generate { prompt, tokens } => self.decoder()?.generate(&prompt, tokens),
            Order::Facts => self.facts(),
        }
    }

    fn encoder(&mut self, weights: Weights) -> Outcome<&Encoder> {
        let free = match self.encoders.entry(weights) {
            Entry::Occupied(loaded) => return Ok(loaded.into_mut()),
            Entry::Vacant(free) => free,
        };
        let options = EncoderOptions {
            weights: match weights {
                Weights::F32 => WeightType::F32,
                Weights::Int8 => WeightType::Int8,
            },
            ..EncoderOptions::default()
        };
        Ok(free.insert(Encoder::load(&real_models::minilm(), &options)?))
    }

    fn decoder(&mut self) -> Outcome<&mut Decoder> {
        if self.decoder.is_none() {
            self.decoder = Some(Decoder::load()?);
        }
        self.decoder.as_mut().ok_or_else(|| "no decoder".into())
    }

    fn facts(&mut self) -> Outcome<Value> {
        Ok(json!({
            "minilm": real_models::minilm(),
            "gemma": real_models::gemma(),
            "load_seconds": self.decoder.as_ref().map(|decoder| decoder.load_seconds),
            "resident_mib": resident_mib(),
        }))
    }
}

impl Decoder {
    fn load() -> Outcome<Self> {
        let path = real_models::gemma();
        let began = Instant::now();
        let model = LanguageModel::load(&path, &Device::Cpu)?;
        let load_seconds = began.elapsed().as_secs_f64();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let base = model.decoder.adapter_base();
        let load = |index: usize| {
            let folder = ["rag/adapters/qa", "adapters/adapters/headline"][index % 2];
            Adapter::load("adapter", &examples.join(folder), &base).map(Arc::new)
        };
        Ok(Self {
            cache: model.decoder.cache(512 << 20, PROMPT_ROWS),
            adapters: (0..8).map(load).collect::<Result<_, _>>()?,
            model,
            load_seconds,
        })
    }

    fn admit(&mut self, tokens: usize) -> Outcome<decoder::Sequence> {
        let sequence = self.cache.admit(tokens);
        sequence.ok_or_else(|| "the cache has no room".into())
    }

    /// Reads rows of each sequence; gives the likeliest next token of each.
    fn step(
        &mut self,
        sequences: &mut [&mut decoder::Sequence],
        tokens: &[&[u32]],
        kind: StepKind,
    ) -> Outcome<Vec<u32>> {
        let rows = sequences.iter_mut().zip(tokens).enumerate();
        let rows = rows.map(|(index, (sequence, tokens))| SequenceRows {
            sequence,
            tokens,
            adapter: (kind.adapters).then(|| &self.adapters[index % self.adapters.len()]),
            logits: match kind.all_logits {
                true => Wanted::All,
                false => Wanted::Within(0.0),
            },
            guessed: 0,
        });
        let mut rows: Vec<_> = rows.collect();
        let logits = self.model.decoder.step(&mut self.cache, &mut rows)?;
        let next = logits.likeliest()?;
        next.ok_or_else(|| "logits are not numbers".into())
    }

    fn decode(&mut self, contexts: &[Vec<u32>], kind: StepKind, steps: usize) -> Outcome<Value> {
        let admitted = (contexts.iter()).map(|context| self.admit(context.len() + steps + 1));
        let mut owned = admitted.collect::<Outcome<Vec<_>>>()?;
        let mut sequences: Vec<_> = owned.iter_mut().collect();
        let mut next = Vec::new();
        for (index, context) in contexts.iter().enumerate() {
            // One after the other, as a long step would be no faster.
            next.extend(self.step(&mut sequences[index..=index], &[context], kind)?);
        }
        let began = Instant::now();
        for _ in 0..steps {
            let tokens: Vec<&[u32]> = next.chunks(1).collect();
            next = self.step(&mut sequences, &tokens, kind)?;
        }
        let seconds = began.elapsed().as_secs_f64();
        owned
            .into_iter()
            .for_each(|sequence| self.cache.release(sequence));
        Ok(json!({ "seconds": seconds }))
    }

    fn generate(&mut self, prompt: &str, tokens: usize) -> Outcome<Value> {
        let began = Instant::now();
        let mut unread = self.model.tokenizer.encode(prompt)?;
        let mut sequence = self.admit(unread.len() + tokens)?;
        let mut text = Vec::new();
        let mut made = 0;
        while made < tokens {
            unread = self.step(&mut [&mut sequence], &[&unread], StepKind::default())?;
            made += 1;
            if self.model.tokenizer.is_end(unread[0]) {
                break;
            }
            self.model.tokenizer.bytes(unread[0], &mut text);
        }
        let seconds = began.elapsed().as_secs_f64();
        self.cache.release(sequence);
        let text = String::from_utf8_lossy(&text);
        Ok(json!({ "seconds": seconds, "made": made, "text": text }))
    }
}

fn sequences(encoder: &Encoder, texts: &[String]) -> Result<Vec<Sequence>, TokenizeError> {
    let sequence = |text: &String| {
        let tokens = encoder.tokenize().text(text)?;
        let adapter = None;
        Ok(Sequence { tokens, adapter })
    };
    let split = compute::map(texts.len(), |index| sequence(&texts[index]));
    split.into_iter().collect()
}

fn sequence(ids: Vec<u32>) -> Sequence {
    let types = vec![0; ids.len()];
    Sequence {
        tokens: Tokens { ids, types },
        adapter: None,
    }
}

fn resident_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
