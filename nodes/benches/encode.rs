//! How many texts a second an encoder embeds: `cargo bench -p nodes --bench encode -- [THREADS]`.
//!
//! Medians; tokens are split anew each time, as for a request.

#[path = "../tests/real_models/mod.rs"]
mod real_models;

use nodes::{
    compute::ComputePool,
    model::{Encoder, EncoderOptions, Sequence, TokenizeError},
    ops::WeightType,
};
use std::{env, error::Error, hint::black_box, time::Duration};
use tokio::time::Instant;

const ROUNDS: usize = 15;
const WORDS: &str = "a batch is formed when a replica is free and the queue that holds what waits is \
                     bounded so that nobody waits for an answer which cannot come in time";

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench` to the arguments.
    let threads = env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let threads = threads.unwrap_or(2);
    let folder = real_models::minilm();
    println!("all-MiniLM-L6-v2 on {threads} threads, texts/s (median time of a batch)");
    for weights in [WeightType::F32, WeightType::Int8] {
        let options = EncoderOptions {
            weights,
            device: real_models::device(),
            ..EncoderOptions::default()
        };
        let encoder = Encoder::load(&folder, &options)?;
        let short: Vec<String> = (0..32).map(|n| text(8 + n % 5)).collect();
        let mixed: Vec<String> = (0..32).map(|n| text(8 + n * 8)).collect();
        let cases = [
            ("32 short texts", &short[..]),
            ("32 texts of 8 to 256 words", &mixed[..]),
            ("one short text", &short[..1]),
        ];
        for (name, texts) in cases {
            let median = ComputePool::new(threads).install(|| median(&encoder, texts))?;
            let rate = texts.len() as f64 / median.as_secs_f64();
            println!("{weights:?} {name:30} {rate:8.1}  ({median:.2?})");
        }
    }
    Ok(())
}

fn median(encoder: &Encoder, texts: &[String]) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let sequence = |text: &String| {
            let tokens = encoder.tokenize().text(text)?;
            let adapter = None;
            Ok::<_, TokenizeError>(Sequence { tokens, adapter })
        };
        let sequences = texts.iter().map(sequence).collect::<Result<Vec<_>, _>>()?;
        black_box(encoder.embed(&sequences)?);
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[ROUNDS / 2])
}

fn text(words: usize) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().cycle().take(words).collect();
    words.join(" ")
}
