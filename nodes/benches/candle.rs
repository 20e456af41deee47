//! Our models beside those of candle-transformers, which any program in Rust would take first, on two threads.
//!
//! `cargo bench -p nodes --bench candle`. Both compute in turns, a median of each is shown, and both must agree:
//! vectors have a cosine of 0.9999 or more, and the likeliest next tokens are the same.

#[path = "../tests/real_models/mod.rs"]
mod real_models;

use candle_core::{D, DType, Device, IndexOp, Result, Tensor, quantized::gguf_file::Content};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    bert::{BertModel, Config},
    quantized_gemma3::ModelWeights,
};
use nodes::{
    compute::ComputePool,
    model::{
        Encoder, EncoderOptions, Sequence, Tokens,
        decoder::{KvPool, LanguageModel, SequenceRows, Wanted},
    },
};
use std::{env, error::Error, fs::File, path::Path};
use tokio::time::Instant;

const ROUNDS: usize = 5;
/// Tokens of a prompt, and tokens that are made after it.
const PROMPT: usize = 256;
const MADE: usize = 32;
const TEXT: &str = "A batch is formed when a replica is free, and the queue that holds what waits is bounded, so that \
                    nobody waits for an answer that cannot come in time. ";

type Outcome<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    // Cargo asks every target for its tests.
    if env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let threads = env::var("THREADS").map_or(Ok(2), |threads| threads.parse())?;
    // Candle's threads are those of rayon.
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    ComputePool::new(threads).install(|| {
        encoders()?;
        decoders()
    })
}

fn encoders() -> Outcome<()> {
    let folder = real_models::minilm();
    let encoder = Encoder::load(&folder, &EncoderOptions::default())?;
    let theirs = load_bert(&folder)?;
    let lengths = |count: u32, length: fn(u32) -> u32| -> Vec<Vec<u32>> {
        (0..count)
            .map(|text| tokens(text, length(text) as usize))
            .collect()
    };
    let cases = [
        ("MiniLM, 32 short texts", lengths(32, |text| 10 + text % 5)),
        (
            "MiniLM, 32 of 8 to 256 tokens",
            lengths(32, |text| 8 + 8 * text),
        ),
        ("MiniLM, one short text", lengths(1, |_| 12)),
    ];
    for (name, texts) in cases {
        let sequences: Vec<Sequence> = texts.iter().map(|ids| sequence(ids)).collect();
        let [ours, theirs] = in_turns(
            name,
            || {
                let vectors = encoder.embed(&sequences)?;
                Ok(vectors.iter().map(|vector| vector.to_vec()).collect())
            },
            || Ok(embed_by_candle(&theirs, &texts)?),
        )?;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let cosine: f32 = ours.iter().zip(theirs).map(|(a, b)| a * b).sum();
            assert!(cosine > 0.9999, "{name}: cosine {cosine}");
        }
    }
    Ok(())
}

fn decoders() -> Outcome<()> {
    let path = real_models::gemma();
    let began = Instant::now();
    let model = LanguageModel::load(&path, &Device::Cpu)?;
    let ours = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut file = File::open(&path)?;
    let content = Content::read(&mut file)?;
    let mut theirs = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    show("Gemma, load", ours, began.elapsed().as_secs_f64());

    let prompt = model.tokenizer.encode(TEXT)?;
    let prompt: Vec<u32> = prompt.into_iter().cycle().take(PROMPT).collect();
    let mut cache = model.decoder.cache(64 << 20, PROMPT);
    let [ours, by_candle] = in_turns(
        "Gemma, prefill of 256",
        || generate(&model, &mut cache, &prompt, 1),
        || Ok(generate_by_candle(&mut theirs, &prompt, 1)?),
    )?;
    assert_eq!(ours, by_candle);
    let [ours, by_candle] = in_turns(
        "Gemma, 32 tokens, and 32 made",
        || generate(&model, &mut cache, &prompt[..MADE], MADE),
        || Ok(generate_by_candle(&mut theirs, &prompt[..MADE], MADE)?),
    )?;
    // Where two tokens are as likely, rounding decides, and the rest is another text.
    assert_eq!(ours[0], by_candle[0]);
    Ok(())
}

fn tokens(seed: u32, count: usize) -> Vec<u32> {
    (0..count as u32)
        .map(|i| 1000 + (seed * 131 + i) * 7919 % 20_000)
        .collect()
}

fn sequence(ids: &[u32]) -> Sequence {
    Sequence {
        tokens: Tokens {
            ids: ids.to_vec(),
            types: vec![0; ids.len()],
        },
        adapter: None,
    }
}

fn load_bert(folder: &Path) -> Outcome<BertModel> {
    let config: Config = serde_json::from_reader(File::open(folder.join("config.json"))?)?;
    let weights = std::fs::read(folder.join("model.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
    Ok(BertModel::load(weights, &config)?)
}

/// Texts padded to the longest, as candle's example does it, with the mean of each one's rows, of length 1.
fn embed_by_candle(model: &BertModel, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    let padded = |value: fn(u32) -> u32| -> Result<Tensor> {
        let rows = texts.iter().flat_map(|text| {
            let values = text.iter().map(move |id| value(*id));
            values.chain(std::iter::repeat(0)).take(longest)
        });
        Tensor::from_iter(rows, &Device::Cpu)?.reshape((texts.len(), longest))
    };
    let (ids, mask) = (padded(|id| id)?, padded(|_| 1)?);
    let rows = model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
    let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
    let sums = rows.broadcast_mul(&mask)?.sum(1)?;
    let means = sums.broadcast_div(&mask.sum(1)?)?;
    let lengths = means.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    means.broadcast_div(&lengths)?.to_vec2()
}

/// The likeliest tokens after a prompt.
fn generate(
    model: &LanguageModel,
    cache: &mut KvPool,
    prompt: &[u32],
    count: usize,
) -> Outcome<Vec<u32>> {
    let mut sequence = cache.admit(prompt.len() + count).ok_or("no room")?;
    let (mut made, mut unread) = (Vec::new(), prompt.to_vec());
    while made.len() < count {
        let rows = SequenceRows {
            sequence: &mut sequence,
            tokens: &unread,
            adapter: None,
            logits: Wanted::Within(0.0),
            guessed: 0,
        };
        let logits = model.decoder.step(cache, &mut [rows])?;
        unread = logits.likeliest()?.ok_or("logits are not numbers")?;
        made.extend(&unread);
    }
    cache.release(sequence);
    Ok(made)
}

fn generate_by_candle(model: &mut ModelWeights, prompt: &[u32], count: usize) -> Result<Vec<u32>> {
    let (mut made, mut unread, mut read) = (Vec::new(), prompt.to_vec(), 0);
    while made.len() < count {
        let rows = Tensor::new(&unread[..], &Device::Cpu)?.unsqueeze(0)?;
        let logits = model.forward(&rows, read)?.i(0)?;
        read += unread.len();
        unread = vec![logits.argmax(D::Minus1)?.to_scalar()?];
        made.extend(&unread);
    }
    Ok(made)
}

/// Runs both in turns after a rehearsal, shows the medians, and gives what they gave.
fn in_turns<T>(
    name: &str,
    mut ours: impl FnMut() -> Outcome<T>,
    mut theirs: impl FnMut() -> Outcome<T>,
) -> Outcome<[T; 2]> {
    let results = [ours()?, theirs()?];
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        let began = Instant::now();
        ours()?;
        times[0].push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        theirs()?;
        times[1].push(began.elapsed().as_secs_f64());
    }
    let [ours, theirs] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    show(name, ours, theirs);
    Ok(results)
}

fn show(name: &str, ours: f64, theirs: f64) {
    let (ours, theirs, ratio) = (ours * 1e3, theirs * 1e3, theirs / ours);
    println!("{name:30} {ours:9.2} ms, candle {theirs:9.2} ms, ratio {ratio:6.2}");
}
