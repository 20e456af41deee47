//! Low-rank adapters (LoRA), one for each row.

use super::host::{Floats, floats, is_host, tensor};
use crate::kernel::{self, Factors, Isa, LowRankRows};
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

/// Adds to each row of `y` what its adapter makes of the same row of `x`.
///
/// `x` is `[m, k]`; `y` is `[m, n]`, of which the adapters change the columns from `first` on (a
/// fused QKV has its value part behind the keys); `rows[i]` is the adapter of row `i`, or none.
///
/// # Errors
/// Shapes do not fit.
pub fn add_low_rank(
    y: &Tensor,
    first: usize,
    x: &Tensor,
    rows: &[Option<&LowRank>],
) -> Result<Tensor> {
    let ((m, n), (xm, k)) = (y.dims2()?, x.dims2()?);
    if xm != m || rows.len() != m {
        candle_core::bail!("{m} rows, {xm} inputs and {} adapters", rows.len());
    }
    for adapter in rows.iter().flatten() {
        if adapter.in_features() != k || first + adapter.out_features() > n {
            candle_core::bail!("an adapter does not fit {:?} at {first}", y.shape());
        }
    }
    if rows.iter().all(Option::is_none) {
        return Ok(y.clone());
    }
    if is_host(y) {
        on_host(y, first, x, rows)
    } else {
        by_candle(y, first, x, rows)
    }
}

fn on_host(y: &Tensor, first: usize, x: &Tensor, rows: &[Option<&LowRank>]) -> Result<Tensor> {
    // Rows often share an adapter: each is read once, where it differs from the row before.
    let runs: Vec<_> = rows.chunk_by(same).collect();
    let read: Vec<_> = runs
        .iter()
        .map(|run| run[0].map(read).transpose())
        .collect::<Result<_>>()?;
    let adapters: Vec<_> = runs
        .iter()
        .zip(&read)
        .flat_map(|(run, read)| {
            let factors = read.as_ref().zip(run[0]).map(|((a, b), adapter)| Factors {
                a,
                b,
                rank: adapter.a.dims()[0],
            });
            std::iter::repeat_n(factors, run.len())
        })
        .collect();
    let mut values = floats(y)?.to_vec();
    let changed = LowRankRows {
        x: &floats(x)?,
        y: &mut values,
        k: x.dim(1)?,
        width: y.dim(1)?,
        first,
    };
    kernel::add_low_rank(Isa::best(), changed, &adapters);
    tensor(values, y.shape())
}

fn read(adapter: &LowRank) -> Result<(Floats<'_>, Floats<'_>)> {
    Ok((floats(&adapter.a)?, floats(&adapter.b)?))
}

fn same(a: &Option<&LowRank>, b: &Option<&LowRank>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => std::ptr::eq(*a, *b),
        (None, None) => true,
        _ => false,
    }
}

/// The same with candle's operations: two products for each run of rows with one adapter.
pub(super) fn by_candle(
    y: &Tensor,
    first: usize,
    x: &Tensor,
    rows: &[Option<&LowRank>],
) -> Result<Tensor> {
    let n = y.dim(1)?;
    let mut out = Vec::new();
    let mut start = 0;
    for run in rows.chunk_by(same) {
        let y = y.narrow(0, start, run.len())?;
        out.push(match run[0] {
            None => y,
            Some(adapter) => {
                let x = x.narrow(0, start, run.len())?;
                let change = x.matmul(&adapter.a.t()?)?.matmul(&adapter.b)?;
                let after = first + adapter.out_features();
                let changed = (y.narrow(1, first, after - first)? + change)?;
                let (head, tail) = (y.narrow(1, 0, first)?, y.narrow(1, after, n - after)?);
                Tensor::cat(&[head, changed, tail], 1)?
            }
        });
        start += run.len();
    }
    Tensor::cat(&out, 0)
}
