//! Causal attention over a cache of keys and values, for any mix of rows of any sequences.
//!
//! Two ways: a row that stands alone (decoding) reads its keys line by line for all query heads that
//! share them; rows of one sequence (a prompt) go through [`head`] 32 at a time.

use super::{
    head::{self, Head, Lines, QUERIES},
    isa::{Isa, Kernel},
    math,
    memory::written,
    packed::{borrow_memory, give_back},
    panel::Element,
    rows::largest,
    simd::Simd,
    target::{After, Target},
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
            let target = Target {
                out,
                stride: width,
                first: 0,
                bias: &[],
                after: After::Nothing,
            };
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

/// Rows that are worked on together: up to 32 of one sequence, or one.
fn runs(rows: &[KvRow<'_>]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut first = 0;
    for same in rows.chunk_by(|a, b| std::ptr::eq(a.blocks, b.blocks)) {
        let rows = first..first + same.len();
        let size = if same.len() < TOGETHER { 1 } else { QUERIES };
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

    /// One row.
    ///
    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn alone<S: Simd>(&self, s: S, row: usize, kv_head: usize, heads: Range<usize>) {
        let n = self.attention.seen(self.rows[row].position).len();
        let mut head = heads.start;
        let mut memory = borrow_memory(heads.len() * n);
        while head < heads.end {
            let left = heads.end - head;
            // SAFETY: as the caller says.
            head += super::by_rows!(S::ROWS, left, HEADS => unsafe {
                self.heads::<S, HEADS>(s, row, kv_head, head, memory.as_mut_slice());
            });
        }
        give_back(memory);
    }

    /// `HEADS` heads of one row.
    ///
    /// # Safety
    /// As in `run`; the memory has `HEADS` times as many floats as the row sees positions.
    #[inline(always)]
    unsafe fn heads<S: Simd, const HEADS: usize>(
        &self,
        s: S,
        index: usize,
        kv_head: usize,
        head: usize,
        memory: &mut [f32],
    ) {
        let row = &self.rows[index];
        let dim = self.attention.head_dim;
        let seen = self.attention.seen(row.position);
        let n = seen.len();
        let scores = &mut memory[..HEADS * n];
        let at = (index * self.attention.heads + head) * dim;
        let q = &self.q[at..][..HEADS * dim];
        let whole = dim / S::LANES * S::LANES;

        let mut position = seen.start;
        while position < seen.end {
            let (first, length) = self.line(row, kv_head, position);
            let length = length.min(seen.end - position);
            for j in 0..length {
                let key = &self.slab.keys[first + j * dim..][..dim];
                let mut acc = [s.zero(); HEADS];
                for d in (0..whole).step_by(S::LANES) {
                    // SAFETY: a line has `dim` elements, and a row of queries.
                    unsafe {
                        let k = E::load(s, key.as_ptr().add(d));
                        for h in 0..HEADS {
                            let q = s.load(q.as_ptr().add(h * dim + d));
                            acc[h] = s.fma(k, q, acc[h]);
                        }
                    }
                }
                for h in 0..HEADS {
                    let mut score = s.sum(acc[h]);
                    for d in whole..dim {
                        score += key[d].to_f32() * q[h * dim + d];
                    }
                    scores[h * n + position - seen.start + j] = score * self.attention.scale;
                }
            }
            position += length;
        }

        let mut factors = [0.0; HEADS];
        for h in 0..HEADS {
            factors[h] = 1.0 / exp_row(s, &mut scores[h * n..][..n]);
        }

        for d in (0..whole).step_by(S::LANES) {
            let mut acc = [s.zero(); HEADS];
            let mut position = seen.start;
            while position < seen.end {
                let (first, length) = self.line(row, kv_head, position);
                let length = length.min(seen.end - position);
                let values = &self.slab.values[first..][..length * dim];
                for j in 0..length {
                    // SAFETY: a line has `dim` elements.
                    let v = unsafe { E::load(s, values.as_ptr().add(j * dim + d)) };
                    for h in 0..HEADS {
                        let weight = scores[h * n + position - seen.start + j];
                        acc[h] = s.fma(s.splat(weight), v, acc[h]);
                    }
                }
                position += length;
            }
            for h in 0..HEADS {
                let value = s.mul(acc[h], s.splat(factors[h]));
                // SAFETY: `run` vouches for the target.
                unsafe {
                    self.target
                        .write(s, index, (head + h) * dim + d, S::LANES, value);
                }
            }
        }
        for d in whole..dim {
            for h in 0..HEADS {
                let mut sum = 0.0;
                for position in seen.clone() {
                    let (first, _) = self.line(row, kv_head, position);
                    let weight = scores[h * n + position - seen.start];
                    sum += weight * self.slab.values[first + d].to_f32();
                }
                let value = s.splat(sum * factors[h]);
                // SAFETY: as above.
                unsafe { self.target.write(s, index, (head + h) * dim + d, 1, value) };
            }
        }
    }

    /// Rows of one sequence.
    ///
    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn together<S: Simd>(
        &self,
        s: S,
        rows: Range<usize>,
        kv_head: usize,
        heads: Range<usize>,
    ) {
        let dim = self.attention.head_dim;
        let run = &self.rows[rows.clone()];
        let (mut start, mut end) = (usize::MAX, 0);
        for row in run {
            let seen = self.attention.seen(row.position);
            (start, end) = (start.min(seen.start), end.max(seen.end));
        }
        let n = end - start;
        let mut seen: [Range<usize>; QUERIES] = [const { 0..0 }; QUERIES];
        for (row, seen) in run.iter().zip(&mut seen) {
            let range = self.attention.seen(row.position);
            *seen = range.start - start..range.end - start;
        }
        let mut memory = borrow_memory(2 * n * dim + head::scratch(n, dim));
        let (keys, rest) = memory.as_mut_slice::<f32>().split_at_mut(n * dim);
        let (values, rest) = rest.split_at_mut(n * dim);
        let mut position = start;
        while position < end {
            let (first, length) = self.line(&run[0], kv_head, position);
            let elements = length.min(end - position) * dim;
            let to = (position - start) * dim;
            widen(s, &self.slab.keys[first..][..elements], &mut keys[to..]);
            widen(s, &self.slab.values[first..][..elements], &mut values[to..]);
            position += elements / dim;
        }
        let width = self.attention.heads * dim;
        for head in heads {
            let head_of_all = Head {
                queries: Lines {
                    first: self.q[rows.start * width + head * dim..].as_ptr(),
                    pitch: width,
                },
                keys: Lines {
                    first: keys.as_ptr(),
                    pitch: dim,
                },
                values: Lines {
                    first: values.as_ptr(),
                    pitch: dim,
                },
                n,
                dim,
                scale: self.attention.scale,
                seen: &seen[..run.len()],
            };
            // SAFETY: the lines are there, as the caller says of the target.
            unsafe { head::attend(s, head_of_all, rest, self.target, (rows.start, head * dim)) };
        }
        give_back(memory);
    }
}

/// Puts elements down as floats.
#[inline(always)]
fn widen<S: Simd, E: Element>(s: S, from: &[E], to: &mut [f32]) {
    let whole = from.len() / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: so many elements are there.
        s.set(to, i, unsafe { E::load(s, from.as_ptr().add(i)) });
    }
    for i in whole..from.len() {
        to[i] = from[i].to_f32();
    }
}

/// Replaces scores by `e^(score - largest)` and gives their sum.
#[inline(always)]
fn exp_row<S: Simd>(s: S, scores: &mut [f32]) -> f32 {
    let most = largest(s, scores);
    let mut sum = 0.0;
    for i in (0..scores.len()).step_by(S::LANES) {
        let e = math::exp(s, s.sub(s.get(scores, i, 0.0), s.splat(most)));
        s.set(scores, i, e);
        sum += s.sum(s.get(scores, i, 0.0));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Random, assert_near},
        *,
    };
    use half::f16;

    /// The formula in f64, position by position.
    fn reference(
        q: &[f32],
        rows: &[KvRow<'_>],
        (keys, values): (&[f32], &[f32]),
        block_len: usize,
        attention: &CausalAttention,
    ) -> Vec<f64> {
        let dim = attention.head_dim;
        let mut out = Vec::new();
        for (row, q) in rows.iter().zip(q.chunks(attention.heads * dim)) {
            for (head, q) in q.chunks(dim).enumerate() {
                let kv_head = head / (attention.heads / attention.kv_heads);
                let line = |position: usize| {
                    let block = row.blocks[position / block_len] as usize;
                    let line = (block * attention.kv_heads + kv_head) * block_len;
                    (line + position % block_len) * dim
                };
                let seen = (0..=row.position)
                    .filter(|p| attention.window.is_none_or(|w| p + w > row.position));
                let score = |position| -> f64 {
                    let key = &keys[line(position)..][..dim];
                    let products = q
                        .iter()
                        .zip(key)
                        .map(|(q, k)| f64::from(*q) * f64::from(*k));
                    products.sum::<f64>() * f64::from(attention.scale)
                };
                let scores: Vec<(usize, f64)> = seen.map(|p| (p, score(p))).collect();
                let most = scores.iter().fold(f64::MIN, |a, b| a.max(b.1));
                let sum: f64 = scores.iter().map(|(_, s)| (s - most).exp()).sum();
                let weights: Vec<(usize, f64)> = scores
                    .iter()
                    .map(|(p, s)| (line(*p), (s - most).exp() / sum))
                    .collect();
                out.extend((0..dim).map(|d| -> f64 {
                    weights
                        .iter()
                        .map(|(at, w)| w * f64::from(values[at + d]))
                        .sum()
                }));
            }
        }
        out
    }

    /// Sequences of several lengths in scattered blocks; prompts and single rows mixed.
    fn check(attention: &CausalAttention, block_len: usize) {
        let mut random = Random(attention.head_dim as u64);
        let lengths = [1, 3, 40, 70, 100];
        let needed = |n: &usize| n.div_ceil(block_len);
        let count: usize = lengths.iter().map(needed).sum();
        let mut free: Vec<u32> = (0..count as u32).collect();
        for i in (1..count).rev() {
            free.swap(i, random.below(i + 1));
        }
        let tables: Vec<Vec<u32>> = lengths
            .iter()
            .map(|n| free.drain(..needed(n)).collect())
            .collect();
        let mut rows = Vec::new();
        for (n, blocks) in lengths.iter().zip(&tables) {
            let first = if *n > 50 { n - 37 } else { n - 1 };
            rows.extend((first..*n).map(|position| KvRow { blocks, position }));
        }
        let cells = count * attention.kv_heads * block_len * attention.head_dim;
        let halves: Vec<Vec<f16>> = (0..2)
            .map(|_| {
                random
                    .floats(cells)
                    .into_iter()
                    .map(f16::from_f32)
                    .collect()
            })
            .collect();
        let floats: Vec<Vec<f32>> = halves
            .iter()
            .map(|x| x.iter().map(|x| x.to_f32()).collect())
            .collect();
        let q = random.floats(rows.len() * attention.heads * attention.head_dim);
        let want = reference(&q, &rows, (&floats[0], &floats[1]), block_len, attention);
        for isa in Isa::available() {
            let what = format!("{isa:?} {attention:?} {block_len}");
            let (keys, values) = (&floats[0][..], &floats[1][..]);
            let got = super::attention(
                isa,
                &q,
                &rows,
                Slab {
                    keys,
                    values,
                    block_len,
                },
                attention,
            );
            assert_near(&what, &got, &want, |_| 1e-5);
            let (keys, values) = (&halves[0][..], &halves[1][..]);
            let got = super::attention(
                isa,
                &q,
                &rows,
                Slab {
                    keys,
                    values,
                    block_len,
                },
                attention,
            );
            assert_near(&what, &got, &want, |_| 1e-5);
        }
    }

    #[test]
    fn attention_equals_the_formula() {
        for (heads, kv_heads, head_dim, window, block_len) in [
            (4, 1, 256, Some(33), 16),
            (4, 1, 64, None, 128),
            (8, 8, 32, None, 8),
            (6, 2, 20, Some(1), 7),
            (14, 2, 64, None, 32),
            (3, 3, 5, Some(64), 1),
        ] {
            let scale = 1.0 / (head_dim as f32).sqrt();
            let attention = CausalAttention {
                heads,
                kv_heads,
                head_dim,
                scale,
                window,
            };
            check(&attention, block_len);
            compute::ComputePool::new(3).install(|| check(&attention, block_len));
        }
    }

    #[test]
    fn rows_outside_of_the_cache_do_not_fit() {
        let attention = CausalAttention {
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            scale: 1.0,
            window: None,
        };
        let row = |blocks, position| [KvRow { blocks, position }];
        assert!(attention.fits(&row(&[0, 1], 15), 64, 8));
        assert!(!attention.fits(&row(&[0, 1], 16), 64, 8)); // no third block
        assert!(!attention.fits(&row(&[0, 2], 15), 64, 8)); // not in the slab
        assert!(attention.fits(&row(&[0, 2], 7), 64, 8)); // not used
        assert!(!attention.fits(&row(&[0], 0), 64, 0));
    }
}
