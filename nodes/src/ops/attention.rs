//! Attention over packed rows: both ways for encoders, causal over a cache for decoders.

use super::host::{floats, is_host, tensor};
use crate::kernel::{self, Isa, Slab};
pub use crate::kernel::{CausalAttention, KvRow};
use candle_core::{DType, Result, Tensor};
use half::f16;

/// Attention in both directions, each sequence for itself.
///
/// `qkv` is `[m, 3h]`, a row's queries, keys and values one after the other, the heads of each one
/// after the other; sequence `s` has the rows `offsets[s]..offsets[s + 1]`, so `offsets` begins with
/// 0 and ends with `m`. Scores are divided by the root of the head's width. The result is `[m, h]`.
///
/// # Errors
/// The widths or offsets do not fit.
pub fn attention_packed(qkv: &Tensor, heads: usize, offsets: &[usize]) -> Result<Tensor> {
    let (m, width) = qkv.dims2()?;
    if heads == 0 || width % (3 * heads) != 0 {
        candle_core::bail!("{heads} heads do not divide rows of {width}");
    }
    let ends = offsets.first() == Some(&0) && offsets.last() == Some(&m);
    if !ends || !offsets.is_sorted() {
        candle_core::bail!("offsets {offsets:?} do not divide {m} rows");
    }
    let hidden = width / 3;
    if is_host(qkv) {
        let values = kernel::packed_attention(Isa::best(), &floats(qkv)?, hidden, heads, offsets);
        return tensor(values, (m, hidden));
    }
    packed_by_candle(qkv, heads, offsets)
}

/// The same with candle's operations, all sequences at once: they are laid beside each other, padded
/// to the longest, so that a device has one large product to do and not many small ones.
pub(super) fn packed_by_candle(qkv: &Tensor, heads: usize, offsets: &[usize]) -> Result<Tensor> {
    let (m, width) = qkv.dims2()?;
    let (hidden, dim) = (width / 3, width / 3 / heads);
    let lengths = offsets.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = lengths.clone().max().unwrap_or(0);
    if longest == 0 {
        return Tensor::zeros((0, hidden), DType::F32, qkv.device());
    }
    let sequences = offsets.len() - 1;
    // Where each row of the padded form comes from, and whether it is one.
    let (mut from, mut bias) = (Vec::new(), Vec::new());
    let mut places = Vec::with_capacity(m);
    for (sequence, length) in lengths.enumerate() {
        let start = sequence * longest;
        places.extend((start..start + length).map(|place| place as u32));
        let last = offsets[sequence + 1].saturating_sub(1);
        from.extend((0..longest).map(|i| (offsets[sequence] + i).min(last) as u32));
        bias.extend((0..longest).map(|i| if i < length { 0.0 } else { f32::NEG_INFINITY }));
    }
    let device = qkv.device();
    let from = Tensor::from_vec(from, sequences * longest, device)?;
    let bias = Tensor::from_vec(bias, (sequences, 1, 1, longest), device)?;
    let padded = qkv
        .index_select(&from, 0)?
        .reshape((sequences, longest, 3, heads, dim))?;
    let part = |i| {
        let part = padded.narrow(2, i, 1)?.squeeze(2)?;
        part.transpose(1, 2)?.contiguous()
    };
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scale = 1.0 / (dim as f64).sqrt();
    let scores = (q.matmul(&k.transpose(2, 3)?)? * scale)?.broadcast_add(&bias)?;
    let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
    let rows = mixed
        .transpose(1, 2)?
        .contiguous()?
        .reshape((sequences * longest, hidden))?;
    match places.len() == sequences * longest {
        true => Ok(rows),
        false => rows.index_select(&Tensor::from_vec(places, m, device)?, 0),
    }
}

/// Elements of a cache.
#[derive(Debug, Clone, Copy)]
pub enum KvElements<'a> {
    /// Four bytes each.
    F32(&'a [f32]),
    /// Two bytes each.
    F16(&'a [f16]),
}

impl KvElements<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            KvElements::F32(x) => x.len(),
            KvElements::F16(x) => x.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The cache of one layer: a slab of blocks, each with room for a number of positions.
///
/// ```text
/// block 0                                        block 1 …
/// ├ kv head 0: position 0 [head_dim], 1, 2, … ┤├ kv head 1 … ┤
/// ```
///
/// A sequence that lies in one piece is a sequence of one large block.
#[derive(Debug, Clone, Copy)]
pub struct KvView<'a> {
    /// `[blocks, kv_heads, block_len, head_dim]`.
    pub keys: KvElements<'a>,
    /// As the keys.
    pub values: KvElements<'a>,
    /// Positions in a block.
    pub block_len: usize,
}

/// Causal attention of many rows of many sequences over a cache in main memory.
///
/// `q` is `[m, heads * head_dim]` on the CPU, `rows` says for each where it stands. The result has
/// the shape of `q`.
///
/// # Errors
/// The shapes do not fit, `q` is not on the CPU, or a row refers to what is not in the slab.
pub fn attention_causal(
    q: &Tensor,
    rows: &[KvRow<'_>],
    cache: KvView<'_>,
    attention: &CausalAttention,
) -> Result<Tensor> {
    let (m, width) = q.dims2()?;
    let cached = cache.keys.len().min(cache.values.len());
    if m != rows.len() || width != attention.heads * attention.head_dim {
        candle_core::bail!(
            "queries {:?} for {} rows of {attention:?}",
            q.shape(),
            rows.len()
        );
    }
    if !attention.fits(rows, cached, cache.block_len) {
        candle_core::bail!(
            "a row refers to what is not in the cache, or {attention:?} is impossible"
        );
    }
    let q = floats(q)?;
    let block_len = cache.block_len;
    let values = match (cache.keys, cache.values) {
        (KvElements::F32(keys), KvElements::F32(values)) => {
            let slab = Slab {
                keys,
                values,
                block_len,
            };
            kernel::causal_attention(Isa::best(), &q, rows, slab, attention)
        }
        (KvElements::F16(keys), KvElements::F16(values)) => {
            let slab = Slab {
                keys,
                values,
                block_len,
            };
            kernel::causal_attention(Isa::best(), &q, rows, slab, attention)
        }
        _ => candle_core::bail!("keys and values of different types"),
    };
    tensor(values, (m, width))
}

/// Causal attention of the last rows of one sequence over its keys and values, on any device.
///
/// `k` and `v` are `[n, kv_heads * head_dim]`, positions 0 to `n`; `q` is `[m, heads * head_dim]`,
/// the rows at positions `n - m` to `n`.
///
/// # Errors
/// The shapes do not fit.
pub fn attention_dense(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    attention: &CausalAttention,
) -> Result<Tensor> {
    let (heads, kv_heads, dim) = (attention.heads, attention.kv_heads, attention.head_dim);
    let (m, n) = (q.dim(0)?, k.dim(0)?);
    if n < m || kv_heads == 0 || heads % kv_heads != 0 {
        candle_core::bail!("{m} rows over {n} positions, {attention:?}");
    }
    let groups = heads / kv_heads;
    // [kv_heads, groups * m, dim]: the query heads that share keys lie together.
    let q = q
        .reshape((m, kv_heads, groups, dim))?
        .permute((1, 2, 0, 3))?;
    let q = q.contiguous()?.reshape((kv_heads, groups * m, dim))?;
    let per_head = |x: &Tensor| x.reshape((n, kv_heads, dim))?.transpose(0, 1)?.contiguous();
    let scores = (q.matmul(&per_head(k)?.t()?)? * f64::from(attention.scale))?;
    let mask: Vec<f32> = (n - m..n)
        .flat_map(|row| {
            (0..n).map(move |position| {
                let far = attention.window.is_some_and(|w| position + w <= row);
                if position > row || far {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            })
        })
        .collect();
    let mask = Tensor::from_vec(mask, (1, 1, m, n), scores.device())?;
    let scores = scores
        .reshape((kv_heads, groups, m, n))?
        .broadcast_add(&mask)?;
    let weights = candle_nn::ops::softmax_last_dim(&scores)?;
    let mixed = weights
        .reshape((kv_heads, groups * m, n))?
        .matmul(&per_head(v)?)?;
    let mixed = mixed.reshape((kv_heads, groups, m, dim))?;
    mixed
        .permute((2, 0, 1, 3))?
        .contiguous()?
        .reshape((m, heads * dim))
}
