//! Causal attention over a cache of keys and values, for any mix of rows of any sequences.
//!
//! Two ways: a row that stands [`alone`] (decoding) reads its keys line by line for all query heads
//! that share them; rows of one sequence (a prompt) are worked on [`together`], 32 at a time.

mod alone;
#[cfg(test)]
mod tests;
mod together;

use super::{
    head::QUERIES,
    isa::{Isa, Kernel},
    memory::written,
    panel::Element,
    simd::Simd,
    target::Target,
};
use crate::compute;
use std::ops::Range;

/// From so many rows of a sequence on they are taken together.
const TOGETHER: usize = 5;

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

/// Where one query row stands.
#[derive(Debug, Clone, Copy)]
pub struct KvRow<'a> {
    /// The blocks of its sequence, in order of positions. Rows of one sequence that come one after
    /// the other and share this slice are worked on together.
    pub blocks: &'a [u32],
    /// Its own position, whose key and value are in the cache already.
    pub position: usize,
}

/// The cache of one layer: `[blocks, kv_heads, block_len, head_dim]` of keys and of values.
#[derive(Clone, Copy)]
pub(crate) struct Slab<'a, E> {
    pub(crate) keys: &'a [E],
    pub(crate) values: &'a [E],
    pub(crate) block_len: usize,
}

impl CausalAttention {
    /// Whether the shape makes sense, and the cache has all that a row refers to.
    pub(crate) fn fits(&self, rows: &[KvRow<'_>], cache_len: usize, block_len: usize) -> bool {
        let block = self.kv_heads * block_len * self.head_dim;
        if block == 0 || !self.heads.is_multiple_of(self.kv_heads) || self.window == Some(0) {
            return false;
        }
        let blocks = cache_len / block;
        rows.iter().all(|row| {
            let used = row.blocks.get(..=row.position / block_len);
            used.is_some_and(|used| used.iter().all(|&b| (b as usize) < blocks))
        })
    }

    /// The positions that a row sees.
    fn seen(&self, position: usize) -> Range<usize> {
        let window = self.window.unwrap_or(usize::MAX);
        (position + 1).saturating_sub(window)..position + 1
    }

    /// Query heads that share keys.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// Attention of rows of `heads * head_dim` queries.
pub(crate) fn attention<E: Element>(
    isa: Isa,
    q: &[f32],
    rows: &[KvRow<'_>],
    slab: Slab<'_, E>,
    attention: &CausalAttention,
) -> Vec<f32> {
    let cached = slab.keys.len().min(slab.values.len());
    assert!(
        attention.fits(rows, cached, slab.block_len),
        "rows outside of the cache"
    );
    let width = attention.heads * attention.head_dim;
    assert_eq!(q.len(), rows.len() * width, "queries");
    let runs = runs(rows);
    // With few rows, the heads that share keys are shared out among the threads.
    let units = (runs.len() * attention.kv_heads).max(1);
    let splits = compute::current_threads()
        .div_ceil(units)
        .min(attention.group());
    // SAFETY: every row is in one run, and every head of it in one split.
    unsafe {
        written(q.len(), |out| {
            let target = Target::whole(out, width);
            target.check(rows.len(), width);
            compute::parallel(runs.len() * attention.kv_heads * splits, |units| {
                isa.run(Causal {
                    q,
                    rows,
                    slab,
                    attention,
                    runs: &runs,
                    splits,
                    target,
                    units,
                });
            });
        })
    }
}

/// Rows that are worked on together: up to 32 of one sequence, or one. They part where the position is
/// a multiple of 32, so that rows at the same positions are summed up in the same order whatever
/// was read in the same step before them.
fn runs(rows: &[KvRow<'_>]) -> Vec<Range<usize>> {
    let together = |a: &KvRow<'_>, b: &KvRow<'_>| {
        std::ptr::eq(a.blocks, b.blocks) && a.position / QUERIES == b.position / QUERIES
    };
    let mut runs = Vec::new();
    let mut first = 0;
    for same in rows.chunk_by(together) {
        let rows = first..first + same.len();
        let size = if same.len() < TOGETHER { 1 } else { same.len() };
        let ends = |start: usize| start..rows.end.min(start + size);
        runs.extend(rows.clone().step_by(size).map(ends));
        first = rows.end;
    }
    runs
}

struct Causal<'a, E> {
    q: &'a [f32],
    rows: &'a [KvRow<'a>],
    slab: Slab<'a, E>,
    attention: &'a CausalAttention,
    runs: &'a [Range<usize>],
    splits: usize,
    target: Target<'a>,
    units: Range<usize>,
}

impl<E: Element> Kernel for Causal<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (kv_heads, group) = (self.attention.kv_heads, self.attention.group());
        for unit in self.units.clone() {
            let (unit, split) = (unit / self.splits, unit % self.splits);
            let (run, kv_head) = (&self.runs[unit / kv_heads], unit % kv_heads);
            let heads = kv_head * group + split * group / self.splits
                ..kv_head * group + (split + 1) * group / self.splits;
            // SAFETY: `attention` has checked rows, cache and target; no other unit has these rows
            // and heads.
            unsafe {
                if run.len() == 1 {
                    self.alone(s, run.start, kv_head, heads);
                } else {
                    self.together(s, run.clone(), kv_head, heads);
                }
            }
        }
    }
}

impl<E: Element> Causal<'_, E> {
    /// The line of a position, and how many positions follow in the same block, itself included.
    #[inline(always)]
    fn line(&self, row: &KvRow<'_>, kv_head: usize, position: usize) -> (usize, usize) {
        let length = self.slab.block_len;
        let (block, inside) = (position / length, position % length);
        let block = row.blocks[block] as usize * self.attention.kv_heads + kv_head;
        (
            (block * length + inside) * self.attention.head_dim,
            length - inside,
        )
    }
}
