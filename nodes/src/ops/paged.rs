//! Causal attention over a cache that lies on a device, with candle's operations.
//!
//! The cache of a layer is a slab `[places, kv_heads * head_dim]`, a place for each position of a
//! block. Which places a step writes and sees is the same for all layers of one window, so it is
//! worked out once a step, as a [`PagedPlan`]. Sequences with a single row are put together, padded to
//! the longest of them; one with more rows, whose prompt is being read, stands for itself.

use super::{CausalAttention, KvRow};
use candle_core::{DType, Device, Result, Tensor};

/// What the rows of a step write to and see of the slabs of all layers with the same window.
#[derive(Debug)]
pub struct PagedPlan {
    /// `[m, width]`: the place of each row, once for every column.
    written: Tensor,
    groups: Vec<Group>,
    /// Where each row's result lies among those of the groups; none: they are in order.
    order: Option<Tensor>,
}

/// Sequences with the same number of rows.
#[derive(Debug)]
struct Group {
    /// Their rows in the step, sequence by sequence.
    rows: Tensor,
    sequences: usize,
    /// Of each sequence.
    count: usize,
    /// Positions that the one with most of them sees.
    longest: usize,
    /// The places of those positions, `[sequences * longest]`; any place where there is none.
    seen: Tensor,
    /// `[sequences, 1, count, longest]`: 0 where a row sees a position, minus infinity elsewhere.
    bias: Tensor,
}

/// The rows of one sequence in a step.
struct Stretch<'a> {
    first_row: usize,
    rows: &'a [KvRow<'a>],
}

impl PagedPlan {
    /// A plan for these rows, those of a sequence one after the other; a row of keys has `width` values.
    ///
    /// # Errors
    /// A row refers to a block that its sequence does not have, or the device fails.
    pub fn new(
        rows: &[KvRow<'_>],
        block_len: usize,
        window: Option<usize>,
        width: usize,
        device: &Device,
    ) -> Result<Self> {
        let written: Vec<u32> = rows
            .iter()
            .map(|row| place(row, row.position, block_len))
            .collect::<Result<_>>()?;
        let written = Tensor::from_vec(written, (rows.len(), 1), device)?;
        let (mut single, mut alone) = (Vec::new(), Vec::new());
        let mut first_row = 0;
        for rows in rows.chunk_by(|a, b| std::ptr::eq(a.blocks, b.blocks)) {
            let stretch = Stretch { first_row, rows };
            first_row += rows.len();
            match rows.len() {
                1 => single.push(stretch),
                _ => alone.push(vec![stretch]),
            }
        }
        let groups = [single].into_iter().chain(alone);
        let groups = groups.filter(|group| !group.is_empty());
        let (mut made, mut places) = (Vec::new(), vec![0u32; rows.len()]);
        let mut next = 0;
        for stretches in groups {
            for row in stretches.iter().flat_map(Stretch::indexes) {
                places[row] = next;
                next += 1;
            }
            made.push(Group::new(&stretches, block_len, window, device)?);
        }
        Ok(Self {
            written: written.broadcast_as((rows.len(), width))?.contiguous()?,
            groups: made,
            order: match places.is_sorted() {
                true => None,
                false => Some(Tensor::new(places, device)?),
            },
        })
    }

    /// Writes the rows' keys or values, `[m, width]`, to their places in a slab.
    ///
    /// # Errors
    /// The device fails.
    pub fn write(&self, slab: &Tensor, rows: &Tensor) -> Result<()> {
        let rows = rows.to_dtype(slab.dtype())?.contiguous()?;
        slab.scatter_set(&self.written, &rows, 0)
    }

    /// What the rows `q`, `[m, heads * head_dim]`, make of what they see. Their own keys and values are
    /// written already.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn attend(
        &self,
        q: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        attention: &CausalAttention,
    ) -> Result<Tensor> {
        let mixed = self.groups.iter();
        let mixed = mixed.map(|group| group.attend(q, keys, values, attention));
        let mixed: Vec<_> = mixed.collect::<Result<_>>()?;
        let mixed = match &mixed[..] {
            [one] => one.clone(),
            many => Tensor::cat(many, 0)?,
        };
        match &self.order {
            Some(order) => mixed.index_select(order, 0),
            None => Ok(mixed),
        }
    }
}

impl Stretch<'_> {
    fn indexes(&self) -> impl Iterator<Item = usize> + use<> {
        self.first_row..self.first_row + self.rows.len()
    }

    /// The positions that its rows see among them.
    fn seen(&self, window: Option<usize>) -> std::ops::Range<usize> {
        let first = self.rows.first().map_or(0, |row| row.position);
        let last = self.rows.last().map_or(0, |row| row.position);
        let begin = window.map_or(0, |window| (first + 1).saturating_sub(window));
        begin..last + 1
    }
}

impl Group {
    fn new(
        stretches: &[Stretch<'_>],
        block_len: usize,
        window: Option<usize>,
        device: &Device,
    ) -> Result<Self> {
        let sequences = stretches.len();
        let count = stretches.first().map_or(0, |stretch| stretch.rows.len());
        let lengths = stretches.iter().map(|stretch| stretch.seen(window).len());
        let longest = lengths.max().unwrap_or(0);
        let rows = stretches.iter().flat_map(Stretch::indexes);
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        let mut seen = Vec::with_capacity(sequences * longest);
        // Positions as floats, which are exact far beyond any context: candle compares those
        // everywhere.
        let mut positions = Vec::with_capacity(sequences * longest);
        let mut own = Vec::with_capacity(sequences * count);
        for stretch in stretches {
            let range = stretch.seen(window);
            let padding = longest - range.len();
            for position in range {
                seen.push(place(&stretch.rows[0], position, block_len)?);
                positions.push(position as f32);
            }
            seen.extend(std::iter::repeat_n(0, padding));
            positions.extend(std::iter::repeat_n(f32::INFINITY, padding));
            own.extend(stretch.rows.iter().map(|row| row.position as f32));
        }
        let positions = Tensor::from_vec(positions, (sequences, 1, 1, longest), device)?;
        let own = Tensor::from_vec(own, (sequences, 1, count, 1), device)?;
        Ok(Self {
            rows: Tensor::new(rows, device)?,
            sequences,
            count,
            longest,
            seen: Tensor::new(seen, device)?,
            bias: bias(&positions, &own, window)?,
        })
    }

    fn attend(
        &self,
        q: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        attention: &CausalAttention,
    ) -> Result<Tensor> {
        let CausalAttention {
            heads,
            kv_heads,
            head_dim: dim,
            scale,
            ..
        } = *attention;
        let (n, count, longest) = (self.sequences, self.count, self.longest);
        let groups = heads / kv_heads;
        // The query heads that share keys lie together.
        let q = q
            .index_select(&self.rows, 0)?
            .reshape((n, count, kv_heads, groups, dim))?
            .permute((0, 2, 3, 1, 4))?
            .contiguous()?
            .reshape((n * kv_heads, groups * count, dim))?;
        let seen = |slab: &Tensor| {
            let seen = slab.index_select(&self.seen, 0)?.to_dtype(DType::F32)?;
            seen.reshape((n, longest, kv_heads, dim))?
                .transpose(1, 2)?
                .contiguous()?
                .reshape((n * kv_heads, longest, dim))
        };
        let scores = (q.matmul(&seen(keys)?.t()?)? * f64::from(scale))?;
        let scores = scores
            .reshape((n, heads, count, longest))?
            .broadcast_add(&self.bias)?;
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        let mixed = weights
            .reshape((n * kv_heads, groups * count, longest))?
            .matmul(&seen(values)?)?;
        mixed
            .reshape((n, heads, count, dim))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((n * count, heads * dim))
    }
}

/// Where in the slab a position of the row's sequence lies.
fn place(row: &KvRow<'_>, position: usize, block_len: usize) -> Result<u32> {
    match row.blocks.get(position / block_len) {
        Some(block) => Ok(block * block_len as u32 + (position % block_len) as u32),
        None => candle_core::bail!("position {position} is not in the cache"),
    }
}

/// 0 where a row sees a position, minus infinity elsewhere.
fn bias(positions: &Tensor, own: &Tensor, window: Option<usize>) -> Result<Tensor> {
    let mut sees = positions.broadcast_le(own)?;
    if let Some(window) = window {
        let first = (own - window as f64)?;
        sees = (sees * positions.broadcast_gt(&first)?)?;
    }
    let no = Tensor::new(f32::NEG_INFINITY, own.device())?.broadcast_as(sees.shape())?;
    let yes = Tensor::zeros(sees.shape(), DType::F32, own.device())?;
    sees.where_cond(&yes, &no)
}
