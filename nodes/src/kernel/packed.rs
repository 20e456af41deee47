//! Attention in both directions over packed rows: every sequence for itself.

use super::{
    head::{self, Head, Lines, QUERIES},
    isa::{Isa, Kernel},
    memory::{borrow_memory, give_back, written},
    simd::Simd,
    target::Target,
};
use crate::compute;
use std::ops::Range;

/// How many rows ahead of what is copied a row is asked for: rows are pages apart, and the processor
/// itself does not look beyond a page.
const ROWS_AHEAD: usize = 8;

/// Attention of `heads` heads; `qkv` has rows of queries, keys and values, each `hidden` wide, and
/// sequence `i` has the rows `offsets[i]..offsets[i + 1]`.
pub(crate) fn attention(
    isa: Isa,
    qkv: &[f32],
    hidden: usize,
    heads: usize,
    offsets: &[usize],
) -> Vec<f32> {
    let m = offsets.last().copied().unwrap_or(0);
    assert!(
        heads > 0 && hidden.is_multiple_of(heads) && qkv.len() == 3 * hidden * m,
        "shape"
    );
    assert!(m == 0 || offsets.is_sorted() && offsets[0] == 0, "offsets");
    let each = offsets.len().saturating_sub(1) * heads;
    // With few sequences and heads, the queries of each are shared out among the threads.
    let splits = match compute::current_threads() {
        1 => 1,
        threads => (2 * threads).div_ceil(each.max(1)),
    };
    // SAFETY: each row is a query of one split of its sequence, and each head of it is written.
    unsafe {
        written(m * hidden, |out| {
            let target = Target::whole(out, hidden);
            target.check(m, hidden);
            compute::parallel(each * splits, |units| {
                isa.run(Packed {
                    qkv,
                    hidden,
                    heads,
                    offsets,
                    splits,
                    target,
                    units,
                });
            });
        })
    }
}

/// Units of work: of each sequence each head, of that each split of its queries.
struct Packed<'a> {
    qkv: &'a [f32],
    hidden: usize,
    heads: usize,
    offsets: &'a [usize],
    splits: usize,
    target: Target<'a>,
    units: Range<usize>,
}

impl Kernel for Packed<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for unit in self.units.clone() {
            let (unit, split) = (unit / self.splits, unit % self.splits);
            let (sequence, head) = (unit / self.heads, unit % self.heads);
            let rows = self.offsets[sequence]..self.offsets[sequence + 1];
            let blocks = rows.len().div_ceil(QUERIES);
            let first = rows.start + split * blocks / self.splits * QUERIES;
            let end = rows.start + (split + 1) * blocks / self.splits * QUERIES;
            let queries = first..end.min(rows.end);
            if !queries.is_empty() {
                self.head(s, rows, queries, head);
            }
        }
    }
}

impl Packed<'_> {
    /// Some queries of a sequence in one head.
    #[inline(always)]
    fn head<S: Simd>(&self, s: S, rows: Range<usize>, queries: Range<usize>, head: usize) {
        let (n, dim) = (rows.len(), self.hidden / self.heads);
        let column = head * dim;
        // Rows lie thousands of bytes apart, which is more than a cache takes to well. Where several
        // blocks of queries come by, keys and values are put together first.
        let together = queries.len() > QUERIES;
        let copies = if together { 2 * n * dim } else { 0 };
        let mut memory = borrow_memory::<f32>(copies + head::scratch(n, dim));
        let (copies, scratch) = memory.as_mut_slice::<f32>().split_at_mut(copies);
        let (mut keys, mut values) = (
            self.lines(rows.start, 1, column),
            self.lines(rows.start, 2, column),
        );
        if together {
            let (to_keys, to_values) = copies.split_at_mut(n * dim);
            keys = self.copy(s, rows.clone(), self.hidden + column, to_keys);
            values = self.copy(s, rows, 2 * self.hidden + column, to_values);
        }
        let seen: [Range<usize>; QUERIES] = std::array::from_fn(|_| 0..n);
        for first in queries.clone().step_by(QUERIES) {
            let head = Head {
                queries: self.lines(first, 0, column),
                keys,
                values,
                n,
                dim,
                scale: 1.0 / (dim as f32).sqrt(),
                seen: &seen[..QUERIES.min(queries.end - first)],
            };
            // SAFETY: the rows are in `qkv` or were copied, everything is seen, the target is checked,
            // and no other unit has these rows and columns.
            unsafe { head::attend(s, head, scratch, self.target, (first, column)) };
        }
        give_back(memory);
    }

    /// Where the queries (0), keys (1) or values (2) of a row and of those after it are.
    #[inline(always)]
    fn lines(&self, row: usize, part: usize, column: usize) -> Lines {
        let pitch = 3 * self.hidden;
        Lines {
            first: self.qkv[row * pitch + part * self.hidden + column..].as_ptr(),
            pitch,
        }
    }

    /// Puts a head's values of some rows, from a column on, one after the other.
    #[inline(always)]
    fn copy<S: Simd>(&self, s: S, rows: Range<usize>, column: usize, to: &mut [f32]) -> Lines {
        let dim = self.hidden / self.heads;
        for (row, to) in rows.zip(to.chunks_exact_mut(dim)) {
            let from = &self.qkv[row * 3 * self.hidden + column..][..dim];
            let later = from.as_ptr().wrapping_add(ROWS_AHEAD * 3 * self.hidden);
            for i in (0..dim).step_by(S::LANES) {
                s.prefetch(later.wrapping_add(i).cast());
                s.set(to, i, s.get(from, i, 0.0));
            }
        }
        Lines {
            first: to.as_ptr(),
            pitch: dim,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Random, assert_near},
        *,
    };

    fn reference(qkv: &[f32], hidden: usize, heads: usize, offsets: &[usize]) -> Vec<f64> {
        let dim = hidden / heads;
        let at = |row: usize, part: usize, head: usize| {
            let line = &qkv[row * 3 * hidden + part * hidden + head * dim..][..dim];
            line.iter().map(|x| f64::from(*x))
        };
        let mut out = vec![0.0; offsets.last().unwrap() * hidden];
        for pair in offsets.windows(2) {
            for row in pair[0]..pair[1] {
                for head in 0..heads {
                    let score = |key| -> f64 {
                        let products = at(row, 0, head).zip(at(key, 1, head)).map(|(q, k)| q * k);
                        products.sum::<f64>() / (dim as f64).sqrt()
                    };
                    let scores: Vec<f64> = (pair[0]..pair[1]).map(score).collect();
                    let largest = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
                    let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                    for (key, score) in (pair[0]..pair[1]).zip(scores) {
                        let weight = (score - largest).exp() / sum;
                        let out = &mut out[row * hidden + head * dim..][..dim];
                        for (out, value) in out.iter_mut().zip(at(key, 2, head)) {
                            *out += weight * value;
                        }
                    }
                }
            }
        }
        out
    }

    #[test]
    fn attention_equals_the_formula() {
        let cases: [(usize, usize, &[usize]); 9] = [
            (32, 1, &[0, 5]),
            (64, 2, &[0, 1, 1, 40]),
            (12, 4, &[0, 16, 33]),
            (120, 3, &[0, 7, 71]),
            (160, 2, &[0, 64]),
            (384, 12, &[0, 17, 30, 63, 64]),
            (64, 1, &[0, 0]),
            (40, 2, &[0, 150, 183]),
            (384, 12, &[0, 32, 288]),
        ];
        for (hidden, heads, offsets) in cases {
            let m = offsets.last().unwrap();
            for scale in [1.0, 30.0] {
                let mut random = Random(hidden as u64);
                let qkv: Vec<f32> = (0..3 * hidden * m)
                    .map(|_| random.float() * scale)
                    .collect();
                let want = reference(&qkv, hidden, heads, offsets);
                for (isa, threads) in Isa::available()
                    .into_iter()
                    .flat_map(|isa| [(isa, 1), (isa, 7)])
                {
                    let pool = compute::ComputePool::new(threads);
                    let got = pool.install(|| attention(isa, &qkv, hidden, heads, offsets));
                    let what = format!("{isa:?} {threads} {hidden} {heads} {offsets:?} {scale}");
                    let bound = f64::from(scale * scale * scale) * 3e-6;
                    assert_near(&what, &got, &want, |_| bound);
                }
            }
        }
    }
}
