//! How many tokens a second the decoder of Gemma 3 270M reads and makes on two threads.
//!
//! `cargo bench -p nodes --bench generate`; with `-- PART` only the lines whose name contains it.

#[path = "../tests/real_models/mod.rs"]
mod real_models;

use nodes::{
    adapter::Adapter,
    compute::ComputePool,
    model::decoder::{KvPool, LanguageModel, Sequence, SequenceRows, Wanted},
};
use std::{env, path::Path, sync::Arc, time::Duration};
use tokio::time::Instant;

const RUNS: usize = 5;
const PROMPT: usize = 256;
/// Tokens that are made for one measurement of decoding.
const MADE: usize = 32;
/// Tokens that sequences have read when several of them decode.
const CONTEXT: usize = 64;
/// Tokens that prompts have in common, and tokens of each after them.
const HEAD: usize = 512;
const QUESTION: usize = 32;

fn main() {
    // Cargo asks every target for its tests.
    if env::args().any(|argument| argument == "--list") {
        return;
    }
    let threads = env::var("THREADS").map_or(2, |threads| threads.parse().expect("a number"));
    ComputePool::new(threads).install(|| measure(threads));
}

fn measure(threads: usize) {
    let path = real_models::gemma();
    let began = Instant::now();
    let model = LanguageModel::load(&path, &real_models::device()).expect("the model loads");
    println!(
        "load, s                      {:8.2}",
        began.elapsed().as_secs_f64()
    );
    println!("threads                      {threads:8}");
    let adapter = load_adapters(&model);
    let none: Vec<Option<Arc<Adapter>>> = vec![None; 8];
    let prompt: Vec<u32> = (0..PROMPT as u32)
        .map(|i| 1000 + i * 7919 % 20_000)
        .collect();
    let mut bench = Bench {
        cache: model.decoder.cache(256 << 20, PROMPT),
        model: &model,
    };
    report("prefill of 256, tokens/s", || {
        let (time, sequences) = timed(|| bench.read(&prompt, &none[..1]));
        bench.release(sequences);
        PROMPT as f64 / time
    });
    report("decode, 1 stream, tokens/s", || {
        bench.decode(&prompt, &none[..1])
    });
    let short = &prompt[..CONTEXT];
    report("decode, 8 streams, tokens/s", || bench.decode(short, &none));
    report("decode, 8 with 8 adapters", || {
        bench.decode(short, &adapter)
    });
    report("decode, 16 streams, tokens/s", || {
        let sixteen: Vec<_> = none.iter().chain(&none).cloned().collect();
        bench.decode(short, &sixteen)
    });
    for (name, is_warm) in [("cold", false), ("warm", true)] {
        report(&format!("first token, head {name}, ms"), || {
            bench.first_token(is_warm) * 1e3
        });
    }
    println!(
        "cache, MiB                   {:8.1}",
        bench.cache.bytes() as f64 / 1048576.0
    );
    if let Some(resident) = resident_mib() {
        println!("resident, MiB                {resident:8.0}");
    }
}

/// Eight adapters that are eight copies of two, each in memory of its own.
fn load_adapters(model: &LanguageModel) -> Vec<Option<Arc<Adapter>>> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let base = model.decoder.adapter_base();
    let load = |index: usize| {
        let folder = ["rag/adapters/qa", "adapters/adapters/headline"][index % 2];
        let adapter = Adapter::load("adapter", &examples.join(folder), &base);
        Some(Arc::new(adapter.expect("the adapter loads")))
    };
    (0..8).map(load).collect()
}

struct Bench<'a> {
    model: &'a LanguageModel,
    cache: KvPool,
}

impl Bench<'_> {
    /// A sequence that has read the prompt, for each adapter.
    fn read(&mut self, prompt: &[u32], adapters: &[Option<Arc<Adapter>>]) -> Vec<Sequence> {
        let mut sequences = Vec::new();
        for adapter in adapters {
            let tokens = PROMPT + MADE;
            let mut sequence = self.cache.admit(tokens).expect("the cache has room");
            self.step(&mut [SequenceRows {
                sequence: &mut sequence,
                tokens: prompt,
                adapter: adapter.as_ref(),
                logits: Wanted::Within(0.0),
                guessed: 0,
            }]);
            sequences.push(sequence);
        }
        sequences
    }

    fn decode(&mut self, prompt: &[u32], adapters: &[Option<Arc<Adapter>>]) -> f64 {
        let mut sequences = self.read(prompt, adapters);
        let mut tokens = vec![vec![1000]; sequences.len()];
        let (time, ()) = timed(|| {
            for _ in 0..MADE {
                let rows = sequences.iter_mut().zip(&tokens).zip(adapters);
                let rows = rows.map(|((sequence, tokens), adapter)| SequenceRows {
                    sequence,
                    tokens,
                    adapter: adapter.as_ref(),
                    logits: Wanted::Within(0.0),
                    guessed: 0,
                });
                let made = self.step(&mut rows.collect::<Vec<_>>());
                tokens = made.into_iter().map(|token| vec![token]).collect();
            }
        });
        let made = sequences.len() * MADE;
        self.release(sequences);
        made as f64 / time
    }

    /// Seconds until the first token of a prompt whose head another has read before, or has not.
    fn first_token(&mut self, is_warm: bool) -> f64 {
        let prompt = |question: u32| -> Vec<u32> {
            let head = (0..HEAD as u32).map(|i| 1000 + i * 7919 % 20_000);
            head.chain(question..question + QUESTION as u32).collect()
        };
        self.cache = self.model.decoder.cache(256 << 20, PROMPT);
        if is_warm {
            let cache = self.model.decoder.cache(256 << 20, PROMPT);
            self.cache = cache.keeping(256 << 20);
            let sequence = self.read_on(&prompt(5000));
            self.cache.release(sequence);
        }
        let (time, sequence) = timed(|| self.read_on(&prompt(6000)));
        self.cache.release(sequence);
        time
    }

    /// A sequence that has read the prompt, but for what others had read of it.
    fn read_on(&mut self, prompt: &[u32]) -> Sequence {
        let admitted = self.cache.admit(prompt.len() + MADE);
        let mut sequence = admitted.expect("the cache has room");
        sequence.reads(prompt.to_vec(), None);
        let cached = self.cache.resume(&mut sequence);
        for tokens in prompt[cached..].chunks(PROMPT) {
            self.step(&mut [SequenceRows {
                sequence: &mut sequence,
                tokens,
                adapter: None,
                logits: Wanted::Within(0.0),
                guessed: 0,
            }]);
        }
        sequence
    }

    fn step(&mut self, rows: &mut [SequenceRows<'_>]) -> Vec<u32> {
        let logits = self.model.decoder.step(&mut self.cache, rows);
        let tokens = logits.and_then(|logits| logits.likeliest());
        let tokens = tokens.expect("the step is computed");
        tokens.expect("logits are numbers")
    }

    fn release(&mut self, sequences: Vec<Sequence>) {
        sequences
            .into_iter()
            .for_each(|sequence| self.cache.release(sequence));
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let result = work();
    let time: Duration = began.elapsed();
    (time.as_secs_f64(), result)
}

/// Prints the median of some runs.
fn report(name: &str, mut run: impl FnMut() -> f64) {
    let mut parts = env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    if parts.next().is_some_and(|part| !name.contains(&part)) {
        return;
    }
    let mut rates: Vec<f64> = (0..RUNS).map(|_| run()).collect();
    rates.sort_by(f64::total_cmp);
    println!(
        "{name:28} {:8.1}   ({:.1} to {:.1})",
        rates[RUNS / 2],
        rates[0],
        rates[RUNS - 1]
    );
}

fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
