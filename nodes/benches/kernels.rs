//! The kernels against the crates that they replace: `cargo bench -p nodes --bench kernels`.
//!
//! Each line is one shape on one number of threads: the rate of this crate, that of the peer (`gemm`
//! for floats, candle's quantised product, candle's operations), and the ratio of their times.
//! The two run in turns, and of each the fastest call counts: the one that the machine's other work
//! disturbed least. A word as argument selects the lines
//! that contain it.

use candle_core::{
    D, Device, Module, Result, Tensor,
    quantized::{GgmlDType, QMatMul, QTensor},
};
use nodes::{
    compute::ComputePool,
    ops::{self, Linear, Quantized, Then, WeightType},
};
use std::hint::black_box;
use tokio::time::Instant;

/// What runs on so many threads.
struct Bench {
    pool: ComputePool,
    /// The peers compute here.
    peers: rayon::ThreadPool,
    only: Option<String>,
}

/// The amount of work in one call.
enum Work {
    /// Additions and multiplications.
    Flop(f64),
    /// Bytes of weights or rows that pass.
    Bytes(f64),
}

fn main() -> Result<()> {
    let only = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for threads in [1, 2] {
        let peers = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let bench = Bench {
            pool: ComputePool::new(threads),
            peers: peers.map_err(candle_core::Error::wrap)?,
            only: only.clone(),
        };
        println!("threads {threads}                               own        peer       ratio");
        floats(&bench)?;
        quantised(&bench)?;
        largest(&bench)?;
        attention(&bench)?;
        row_by_row(&bench)?;
    }
    Ok(())
}

impl Bench {
    /// Measures both in turns and prints a line.
    fn line(&self, name: &str, work: Work, own: impl Fn() + Sync, peer: impl Fn() + Sync) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only)) {
            return;
        }
        let own = || seconds(|| self.pool.install(&own));
        let peer = || seconds(|| self.peers.install(&peer));
        let rounds = (0.4 / (own() + peer())).clamp(5.0, 400.0) as usize;
        let (mut owns, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            owns.push(own());
            peers.push(peer());
        }
        let (own, peer) = (least(&owns), least(&peers));
        let rate = |seconds: f64| match work {
            Work::Flop(flop) => format!("{:6.1} GFLOP/s", flop / seconds / 1e9),
            Work::Bytes(bytes) => format!("{:6.1} GB/s   ", bytes / seconds / 1e9),
        };
        println!("{name:30} {} {} {:6.2}", rate(own), rate(peer), peer / own);
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu)
}

/// MiniLM's layers in f32 and int8, for one short text and for a batch, against `gemm`.
fn floats(bench: &Bench) -> Result<()> {
    for (m, n, k) in [
        (16, 1152, 384),
        (16, 384, 1536),
        (512, 1152, 384),
        (512, 384, 384),
        (512, 1536, 384),
        (512, 384, 1536),
    ] {
        let (x, w) = (random(&[m, k])?, random(&[n, k])?);
        let flop = 2.0 * (m * n * k) as f64;
        let threads = bench.pool.threads();
        let (xs, ws): (Vec<f32>, Vec<f32>) =
            (x.flatten_all()?.to_vec1()?, w.flatten_all()?.to_vec1()?);
        for kind in [WeightType::F32, WeightType::Int8] {
            let layer = Linear::new(&w, None, kind)?;
            bench.line(
                &format!("{kind:?} {m}x{n}x{k}").to_lowercase(),
                Work::Flop(flop),
                || drop(black_box(layer.forward(&x, Then::Nothing))),
                || drop(black_box(by_gemm(threads, (m, n, k), &xs, &ws))),
            );
        }
    }
    Ok(())
}

/// `x · wᵀ` by the crate that candle uses.
fn by_gemm(threads: usize, (m, n, k): (usize, usize, usize), x: &[f32], w: &[f32]) -> Vec<f32> {
    let mut out = vec![0f32; m * n];
    let parallelism = match threads {
        1 => gemm::Parallelism::None,
        n => gemm::Parallelism::Rayon(n),
    };
    // SAFETY: the pointers are those of matrices of these shapes and strides.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            x.as_ptr(),
            1,
            k as isize,
            w.as_ptr(),
            k as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
    out
}

/// Gemma 3 270M's layers: one row (decoding), eight, and a prompt, against candle.
fn quantised(bench: &Bench) -> Result<()> {
    for (kind, n, k) in [
        (GgmlDType::Q5_0, 2048, 640),
        (GgmlDType::Q4K, 640, 1024),
        (GgmlDType::Q6K, 640, 2048),
        (GgmlDType::Q4K, 640, 2048),
        (GgmlDType::Q8_0, 32_768, 640),
    ] {
        let weight = QTensor::quantize(&random(&[n, k])?, kind)?;
        let layer = Linear::from_qtensors(&[&weight])?;
        let peer = QMatMul::from_qtensor(weight)?;
        for m in [1, 8, 256] {
            let x = random(&[m, k])?;
            let work = match m {
                1 => Work::Bytes(layer.bytes() as f64),
                _ => Work::Flop(2.0 * (m * n * k) as f64),
            };
            bench.line(
                &format!("{kind:?} {m}x{n}x{k}").to_lowercase(),
                work,
                || drop(black_box(layer.forward(&x, Then::Nothing))),
                || drop(black_box(peer.forward(&x))),
            );
        }
    }
    Ok(())
}

/// The likeliest of a quarter of Gemma's vocabulary, for one stream and eight, against candle's logits of all.
fn largest(bench: &Bench) -> Result<()> {
    let (n, k) = (65_536, 640);
    let weight = QTensor::quantize(&random(&[n, k])?, GgmlDType::Q8_0)?;
    let layer = Linear::vocabulary(
        &Quantized {
            bytes: &weight.data()?,
            dtype: weight.dtype(),
            rows: n,
            columns: k,
        },
        &Device::Cpu,
    )?;
    let peer = QMatMul::from_qtensor(weight)?;
    for m in [1, 8] {
        // Near one output each, as rows of a language model are.
        let ids: Vec<u32> = (1..=m as u32).map(|id| id * 7919).collect();
        let x = (layer.rows(&ids)? + random(&[m, k])?)?;
        let margins = vec![0.0; m];
        bench.line(
            &format!("largest {m}x{n}x{k}"),
            Work::Flop(2.0 * (m * n * k) as f64),
            || drop(black_box(layer.shortlists(&x, &margins))),
            || drop(black_box(peer.forward(&x))),
        );
    }
    Ok(())
}

/// MiniLM's attention over packed texts against candle's operations, text by text.
fn attention(bench: &Bench) -> Result<()> {
    for (texts, length) in [(32, 16), (4, 128), (2, 512)] {
        let qkv = random(&[texts * length, 1152])?;
        let offsets: Vec<usize> = (0..=texts).map(|text| text * length).collect();
        let by_candle = |text: usize| -> Result<Tensor> {
            let rows = qkv.narrow(0, text * length, length)?;
            let rows = rows.reshape((length, 3, 12, 32))?.transpose(0, 2)?;
            let part = |i| rows.narrow(1, i, 1)?.squeeze(1)?.contiguous();
            let scores = (part(0)?.matmul(&part(1)?.t()?)? * 0.176_776_7)?;
            let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&part(2)?)?;
            mixed.transpose(0, 1)?.contiguous()
        };
        bench.line(
            &format!("attention {texts} texts of {length}"),
            Work::Flop((texts * 12 * length * length * 32 * 4) as f64),
            || drop(black_box(ops::attention_packed(&qkv, 12, &offsets))),
            || (0..texts).for_each(|text| drop(black_box(by_candle(text)))),
        );
    }
    Ok(())
}

/// Norms and gates against candle's.
fn row_by_row(bench: &Bench) -> Result<()> {
    let (x, w, b) = (random(&[512, 384])?, random(&[384])?, random(&[384])?);
    bench.line(
        "layer norm 512x384",
        Work::Bytes(8.0 * x.elem_count() as f64),
        || drop(black_box(ops::layer_norm(&x, &w, &b, 1e-6))),
        || drop(black_box(candle_nn::ops::layer_norm(&x, &w, &b, 1e-6))),
    );
    let x = random(&[256, 4096])?;
    bench.line(
        "gelu(gate) * up 256x2048",
        Work::Bytes(6.0 * x.elem_count() as f64),
        || drop(black_box(ops::gelu_mul(&x))),
        || {
            let half = |i| x.narrow(D::Minus1, i, 2048)?.contiguous();
            let gated = half(0).and_then(|gate| gate.gelu()? * half(2048)?);
            drop(black_box(gated));
        },
    );
    Ok(())
}
