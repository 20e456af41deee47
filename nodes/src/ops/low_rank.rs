//! Low-rank adapters (LoRA), one for each row.

use super::host::{Floats, floats, is_host, tensor};
use crate::kernel::{self, Factors, Isa, LowRankPart};
use candle_core::{Result, Tensor};

/// One adapted matrix: `y += (x · aᵀ) · bᵀ · scale`.
#[derive(Debug, Clone)]
pub struct LowRank {
    /// `[r, k]`.
    a: Tensor,
    /// `[r, n]`: the transpose of PEFT's `lora_B`, multiplied by the scale.
    b: Tensor,
}

impl LowRank {
    /// From PEFT's `lora_A` (`[r, k]`), `lora_B` (`[n, r]`) and `alpha / r`.
    ///
    /// # Errors
    /// The shapes do not fit together.
    pub fn new(a: &Tensor, b: &Tensor, scale: f64) -> Result<Self> {
        let ((r, _), (_, rank)) = (a.dims2()?, b.dims2()?);
        if r != rank {
            candle_core::bail!("an adapter with factors of rank {r} and {rank}");
        }
        let a = a.to_dtype(candle_core::DType::F32)?.contiguous()?;
        let b = b.to_dtype(candle_core::DType::F32)?.t()?;
        let b = (b.contiguous()? * scale)?;
        Ok(Self { a, b })
    }

    /// Width of the input.
    #[must_use]
    pub fn in_features(&self) -> usize {
        self.a.dims()[1]
    }

    /// Width of what is added.
    #[must_use]
    pub fn out_features(&self) -> usize {
        self.b.dims()[1]
    }

    /// Bytes that it holds in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        4 * (self.a.elem_count() + self.b.elem_count())
    }
}

/// One of the layers that are computed together: where its outputs begin, and the adapter of each row, or none.
#[derive(Debug)]
pub struct LowRankLayer<'a> {
    /// The column of its first output.
    pub first: usize,
    /// As many as there are rows.
    pub adapters: Vec<Option<&'a LowRank>>,
}

/// Adds to each row of `y` what its adapters make of the same row of `x`.
///
/// `x` is `[m, k]`; `y` is `[m, n]`, of which the adapters of a layer change the columns from its first on (in a
/// fused QKV, values lie behind the keys).
///
/// # Errors
/// Shapes do not fit.
pub fn add_low_rank(y: &Tensor, x: &Tensor, layers: &[LowRankLayer<'_>]) -> Result<Tensor> {
    let ((m, n), (xm, k)) = (y.dims2()?, x.dims2()?);
    for LowRankLayer { first, adapters } in layers {
        if xm != m || adapters.len() != m {
            candle_core::bail!("{m} rows, {xm} inputs and {} adapters", adapters.len());
        }
        for adapter in adapters.iter().flatten() {
            if adapter.in_features() != k || first + adapter.out_features() > n {
                candle_core::bail!("an adapter does not fit {:?} at {first}", y.shape());
            }
        }
    }
    if is_host(y) {
        on_host(y, x, layers)
    } else {
        by_candle(y, x, layers)
    }
}

fn on_host(y: &Tensor, x: &Tensor, layers: &[LowRankLayer<'_>]) -> Result<Tensor> {
    // Rows often share an adapter: each is read once, where it differs from the row before.
    let runs = layers.iter().map(|layer| {
        let runs = layer.adapters.chunk_by(same);
        runs.map(|run| Ok((run.len(), run[0].map(read).transpose()?)))
            .collect::<Result<Vec<_>>>()
    });
    let runs: Vec<_> = runs.collect::<Result<_>>()?;
    let parts: Vec<_> = layers
        .iter()
        .zip(&runs)
        .map(|(layer, runs)| {
            let runs = runs
                .iter()
                .map(|(rows, read)| (rows, read.as_ref().map(Read::factors)));
            LowRankPart {
                first: layer.first,
                adapters: runs
                    .flat_map(|(rows, factors)| std::iter::repeat_n(factors, *rows))
                    .collect(),
            }
        })
        .collect();
    let mut values = floats(y)?.to_vec();
    let changed = kernel::LowRankRows {
        x: &floats(x)?,
        y: &mut values,
        m: x.dim(0)?,
        k: x.dim(1)?,
        width: y.dim(1)?,
    };
    kernel::add_low_rank(Isa::best(), changed, &parts);
    tensor(values, y.shape())
}

/// The factors of an adapter.
struct Read<'a> {
    a: Floats<'a>,
    b: Floats<'a>,
    rank: usize,
}

impl Read<'_> {
    fn factors(&self) -> Factors<'_> {
        Factors {
            a: &self.a,
            b: &self.b,
            rank: self.rank,
        }
    }
}

fn read(adapter: &LowRank) -> Result<Read<'_>> {
    Ok(Read {
        a: floats(&adapter.a)?,
        b: floats(&adapter.b)?,
        rank: adapter.a.dim(0)?,
    })
}

fn same(a: &Option<&LowRank>, b: &Option<&LowRank>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => std::ptr::eq(*a, *b),
        (None, None) => true,
        _ => false,
    }
}

/// The same with candle's operations: two products for each run of rows with one adapter.
pub(super) fn by_candle(y: &Tensor, x: &Tensor, layers: &[LowRankLayer<'_>]) -> Result<Tensor> {
    let (mut y, n) = (y.clone(), y.dim(1)?);
    for LowRankLayer { first, adapters } in layers {
        let (mut out, mut start) = (Vec::new(), 0);
        for run in adapters.chunk_by(same) {
            let y = y.narrow(0, start, run.len())?;
            out.push(match run[0] {
                None => y,
                Some(adapter) => {
                    let x = x.narrow(0, start, run.len())?;
                    let change = x.matmul(&adapter.a.t()?)?.matmul(&adapter.b)?;
                    let after = first + adapter.out_features();
                    let changed = (y.narrow(1, *first, after - first)? + change)?;
                    let (head, tail) = (y.narrow(1, 0, *first)?, y.narrow(1, after, n - after)?);
                    Tensor::cat(&[head, changed, tail], 1)?
                }
            });
            start += run.len();
        }
        y = Tensor::cat(&out, 0)?;
    }
    Ok(y)
}
