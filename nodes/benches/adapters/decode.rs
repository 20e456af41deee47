//! Steps of eight rows on Gemma 3 270M, each row with an adapter of its own, beside the same without.

#[path = "../../tests/real_models/mod.rs"]
mod real_models;

use candle_core::Device;
use nodes::{
    adapter::Adapter,
    compute::ComputePool,
    model::decoder::{KvPool, LanguageModel, Sequence, SequenceRows, Wanted},
};
use std::{path::Path, sync::Arc};
use tokio::time::Instant;

const ROWS: usize = 8;
const PROMPT: usize = 64;
const STEPS: usize = 32;
/// Turns of one kind and then the other, so that both meet the same machine.
const TURNS: usize = 7;

type Adapters = Vec<Option<Arc<Adapter>>>;

pub fn measure() {
    let model = LanguageModel::load(&real_models::gemma(), &Device::Cpu).expect("the model loads");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let base = model.decoder.adapter_base();
    // Each in memory of its own, as those of different customers are.
    let load = |row: usize| {
        let folder = ["rag/adapters/qa", "adapters/adapters/headline"][row % 2];
        let adapter = Adapter::load("adapter", &examples.join(folder), &base);
        Some(Arc::new(adapter.expect("the adapter loads")))
    };
    let with: Adapters = (0..ROWS).map(load).collect();
    let without: Adapters = vec![None; ROWS];
    ComputePool::new(2).install(|| {
        let mut cache = model.decoder.cache(256 << 20, PROMPT);
        let mut rate = |adapters: &Adapters| decode(&model, &mut cache, adapters);
        let mut rates: Vec<(f64, f64)> = Vec::new();
        for turn in 0..=TURNS {
            let pair = (rate(&without), rate(&with));
            // The first turn touches memory for the first time.
            if turn > 0 {
                rates.push(pair);
            }
        }
        let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = rates.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[TURNS / 2]
        };
        println!(
            "\n{ROWS} rows, tokens/s: without adapters {:.1}, with {ROWS} adapters {:.1}; median of the \
             shares {:.3}",
            median(&|pair| pair.0),
            median(&|pair| pair.1),
            median(&|pair| pair.1 / pair.0)
        );
    });
}

/// Tokens a second of some steps.
fn decode(model: &LanguageModel, cache: &mut KvPool, adapters: &Adapters) -> f64 {
    let prompt: Vec<u32> = (0..PROMPT as u32)
        .map(|i| 1000 + i * 7919 % 20_000)
        .collect();
    let admit = |_| cache.admit(PROMPT + STEPS).expect("the cache has room");
    let mut sequences: Vec<Sequence> = (0..ROWS).map(admit).collect();
    let mut tokens = vec![prompt; ROWS];
    step(model, cache, &mut sequences, &mut tokens, adapters);
    let begun = Instant::now();
    for _ in 0..STEPS - 1 {
        step(model, cache, &mut sequences, &mut tokens, adapters);
    }
    let took = begun.elapsed().as_secs_f64();
    sequences.into_iter().for_each(|one| cache.release(one));
    (ROWS * (STEPS - 1)) as f64 / took
}

/// Reads the tokens of every sequence and puts the likeliest next one in their place.
fn step(
    model: &LanguageModel,
    cache: &mut KvPool,
    sequences: &mut [Sequence],
    tokens: &mut [Vec<u32>],
    adapters: &Adapters,
) {
    let rows = sequences.iter_mut().zip(tokens.iter()).zip(adapters);
    let mut rows: Vec<_> = rows
        .map(|((sequence, tokens), adapter)| SequenceRows {
            sequence,
            tokens,
            adapter: adapter.as_ref(),
            logits: Wanted::Within(0.0),
            guessed: 0,
        })
        .collect();
    let logits = model
        .decoder
        .step(cache, &mut rows)
        .expect("the step is computed");
    let next = logits.likeliest().expect("logits can be read");
    for (tokens, next) in tokens.iter_mut().zip(next.expect("logits are numbers")) {
        *tokens = vec![next];
    }
}
