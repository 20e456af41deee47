//! Attention over packed rows: both ways for encoders, causal over a cache for decoders.

use candle_core::{DType, Device, Result, Tensor};
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
    let (hidden, dim) = (width / 3, width / 3 / heads);
    if m == 0 {
        return Tensor::zeros((0, hidden), DType::F32, qkv.device());
    }
    let scale = 1.0 / (dim as f64).sqrt();
    let mut out = Vec::with_capacity(offsets.len());
    for pair in offsets.windows(2) {
        let len = pair[1] - pair[0];
        if len == 0 {
            continue;
        }
        let rows = qkv.narrow(0, pair[0], len)?.reshape((len, 3, heads, dim))?;
        let part = |i| {
            rows.narrow(1, i, 1)?
                .squeeze(1)?
                .transpose(0, 1)?
                .contiguous()
        };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scores = (q.matmul(&k.t()?)? * scale)?;
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
        out.push(
            mixed
                .transpose(0, 1)?
                .contiguous()?
                .reshape((len, hidden))?,
        );
    }
    Tensor::cat(&out, 0)
}

/// How the heads of a decoder attend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CausalAttention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; a divisor of `heads`. Query head `h` reads `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// A row sees only this many positions, its own among them; none: all up to its own.
    pub window: Option<usize>,
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

/// Where one query row stands.
#[derive(Debug, Clone, Copy)]
pub struct KvRow<'a> {
    /// The blocks of its sequence, in order of positions.
    pub blocks: &'a [u32],
    /// Its own position, whose key and value are in the cache already.
    pub position: usize,
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
    check_causal(q, rows, cache, attention)?;
    let CausalAttention {
        heads,
        kv_heads,
        head_dim,
        ..
    } = *attention;
    let mut out = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        let len = row.position + 1;
        let gather = |elements| -> Result<Tensor> {
            let mut dense = vec![0f32; len * kv_heads * head_dim];
            for position in 0..len {
                let block = row.blocks[position / cache.block_len] as usize;
                for head in 0..kv_heads {
                    let line =
                        (block * kv_heads + head) * cache.block_len + position % cache.block_len;
                    let to = &mut dense[(position * kv_heads + head) * head_dim..][..head_dim];
                    match elements {
                        KvElements::F32(x) => to.copy_from_slice(&x[line * head_dim..][..head_dim]),
                        KvElements::F16(x) => {
                            let from = &x[line * head_dim..][..head_dim];
                            to.iter_mut().zip(from).for_each(|(t, f)| *t = f.to_f32());
                        }
                    }
                }
            }
            Tensor::from_vec(dense, (len, kv_heads * head_dim), &Device::Cpu)
        };
        let (k, v) = (gather(cache.keys)?, gather(cache.values)?);
        out.push(attention_dense(&q.narrow(0, i, 1)?, &k, &v, attention)?);
    }
    if out.is_empty() {
        return Tensor::zeros((0, heads * head_dim), DType::F32, &Device::Cpu);
    }
    Tensor::cat(&out, 0)
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
    if n < m {
        candle_core::bail!("{m} rows over only {n} positions");
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

/// Everything that a row refers to is there.
fn check_causal(
    q: &Tensor,
    rows: &[KvRow<'_>],
    cache: KvView<'_>,
    attention: &CausalAttention,
) -> Result<()> {
    let (m, width) = q.dims2()?;
    let CausalAttention {
        heads,
        kv_heads,
        head_dim,
        window,
        ..
    } = *attention;
    if kv_heads == 0 || heads % kv_heads != 0 || width != heads * head_dim || m != rows.len() {
        candle_core::bail!(
            "queries {:?} for {} rows, {heads} heads of {head_dim} over {kv_heads}",
            q.shape(),
            rows.len()
        );
    }
    let block = kv_heads * cache.block_len * head_dim;
    if !q.device().is_cpu() || block == 0 || window == Some(0) {
        candle_core::bail!("a cache in main memory needs queries there, blocks and a window");
    }
    let blocks = cache.keys.len().min(cache.values.len()) / block;
    for row in rows {
        let used = row.position / cache.block_len + 1;
        let known = row.blocks.get(..used);
        if !known.is_some_and(|used| used.iter().all(|&b| (b as usize) < blocks)) {
            candle_core::bail!("position {} lies outside of its blocks", row.position);
        }
    }
    Ok(())
}
