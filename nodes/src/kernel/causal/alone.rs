//! A row that stands alone: keys and values are read once for several heads, and stay where they are.

use super::{
    super::{
        by_rows, math,
        memory::{borrow_memory, give_back},
        panel::Element,
        rows::largest,
        simd::Simd,
    },
    Causal,
};
use std::ops::Range;

/// Keys that are multiplied together: sums of one alone would wait for each other.
const MOST_KEYS: usize = 2;
/// How many positions before its turn a key is asked for.
const AHEAD: usize = 16;
/// Vectors of a line of values that are added up together.
const MOST_VECTORS: usize = 2;
/// Lines of values that are gone through together, so that they stay in the nearest cache meanwhile.
const LINES: usize = 32;

impl<E: Element> Causal<'_, E> {
    /// One row.
    ///
    /// # Safety
    /// As in `run`.
    #[inline(always)]
    pub(super) unsafe fn alone<S: Simd>(
        &self,
        s: S,
        row: usize,
        kv_head: usize,
        heads: Range<usize>,
    ) {
        let n = self.attention.seen(self.rows[row].position).len();
        let mut head = heads.start;
        let room = heads.len().min(S::ROWS) * (n + self.attention.head_dim);
        let mut memory = borrow_memory::<f32>(room);
        while head < heads.end {
            let left = heads.end - head;
            // SAFETY: as the caller says.
            head += by_rows!(S::ROWS, left, HEADS => unsafe {
                self.heads::<S, HEADS>(s, row, kv_head, head, memory.as_mut_slice());
            });
        }
        give_back(memory);
    }

    /// Asks for some lines.
    #[inline(always)]
    fn ask_for<S: Simd>(&self, s: S, lines: &[E], count: usize) {
        let bytes = count * self.attention.head_dim * size_of::<E>();
        for byte in (0..bytes).step_by(64) {
            s.prefetch(lines.as_ptr().cast::<u8>().wrapping_add(byte));
        }
    }

    /// `HEADS` heads of one row.
    ///
    /// # Safety
    /// As in `run`; the memory has a float for each head and position that the row sees, and for each head
    /// and element of a line.
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
        let (scores, rest) = memory.split_at_mut(HEADS * n);
        let sums = &mut rest[..HEADS * dim];
        let at = (index * self.attention.heads + head) * dim;
        let q = &self.q[at..][..HEADS * dim];

        let mut position = seen.start;
        while position < seen.end {
            let (first, length) = self.line(row, kv_head, position);
            let length = length.min(seen.end - position);
            let mut j = 0;
            while j < length {
                // Both come from main memory. Values are not needed before all scores are there.
                let place = position + j;
                self.ask_for(s, &self.slab.values[first + j * dim..], MOST_KEYS);
                if place + AHEAD < seen.end {
                    let (ahead, _) = self.line(row, kv_head, place + AHEAD);
                    self.ask_for(s, &self.slab.keys[ahead..], MOST_KEYS);
                }
                let keys = &self.slab.keys[first + j * dim..];
                let to = &mut scores[place - seen.start..];
                j += by_rows!(MOST_KEYS, [2], length - j, KEYS => {
                    multiply::<S, E, HEADS, KEYS>(s, keys, q, dim, (to, n), self.attention.scale);
                });
            }
            position += length;
        }

        let mut factors = [0.0; HEADS];
        for h in 0..HEADS {
            factors[h] = 1.0 / exp_row(s, &mut scores[h * n..][..n]);
        }

        sums.fill(0.0);
        let mut position = seen.start;
        while position < seen.end {
            let (first, length) = self.line(row, kv_head, position);
            let length = length.min(seen.end - position).min(LINES);
            let values = &self.slab.values[first..][..length * dim];
            let weights = &scores[position - seen.start..];
            let mut d = 0;
            while d + S::LANES <= dim {
                d += S::LANES
                    * by_rows!(MOST_VECTORS, [2], (dim - d) / S::LANES, VECTORS => {
                        add_up::<S, E, HEADS, VECTORS>(s, values, (weights, n), dim, d, sums);
                    });
            }
            for h in 0..HEADS {
                for (line, weight) in values.chunks_exact(dim).zip(&weights[h * n..]) {
                    for (value, sum) in line[d..].iter().zip(&mut sums[h * dim + d..]) {
                        *sum += value.to_f32() * weight;
                    }
                }
            }
            position += length;
        }
        for h in 0..HEADS {
            for d in (0..dim).step_by(S::LANES) {
                let (column, left) = ((head + h) * dim + d, dim - d);
                let sum = s.get(&sums[h * dim..][..dim], d, 0.0);
                let value = s.mul(sum, s.splat(factors[h]));
                // SAFETY: `run` vouches for the target.
                unsafe {
                    self.target
                        .write(s, index, column, left.min(S::LANES), value)
                };
            }
        }
    }
}

/// The scores of the first `KEYS` keys with each head's query; those of a head are `n` apart from the next.
#[inline(always)]
fn multiply<S: Simd, E: Element, const HEADS: usize, const KEYS: usize>(
    s: S,
    keys: &[E],
    q: &[f32],
    dim: usize,
    (to, n): (&mut [f32], usize),
    scale: f32,
) {
    assert!(keys.len() >= KEYS * dim && q.len() >= HEADS * dim, "lines");
    let whole = dim / S::LANES * S::LANES;
    let mut acc = [[s.zero(); HEADS]; KEYS];
    for d in (0..whole).step_by(S::LANES) {
        // SAFETY: a line has `dim` elements, and a row of queries.
        unsafe {
            let mut key = [s.zero(); KEYS];
            for j in 0..KEYS {
                key[j] = E::load(s, keys.as_ptr().add(j * dim + d));
            }
            for h in 0..HEADS {
                let q = s.load(q.as_ptr().add(h * dim + d));
                for j in 0..KEYS {
                    acc[j][h] = s.fma(key[j], q, acc[j][h]);
                }
            }
        }
    }
    for j in 0..KEYS {
        for h in 0..HEADS {
            let mut score = s.sum(acc[j][h]);
            for d in whole..dim {
                score += keys[j * dim + d].to_f32() * q[h * dim + d];
            }
            to[h * n + j] = score * scale;
        }
    }
}

/// Adds lines of values, each with its weight of each head, to the sums of the heads: `VECTORS` vectors from
/// `d` on. The weights of a head are `n` apart from the next.
#[inline(always)]
fn add_up<S: Simd, E: Element, const HEADS: usize, const VECTORS: usize>(
    s: S,
    values: &[E],
    (weights, n): (&[f32], usize),
    dim: usize,
    d: usize,
    sums: &mut [f32],
) {
    let lines = values.len() / dim;
    assert!(
        d + VECTORS * S::LANES <= dim && sums.len() >= HEADS * dim,
        "lines"
    );
    assert!(weights.len() >= (HEADS - 1) * n + lines, "weights");
    let mut acc = [[s.zero(); VECTORS]; HEADS];
    // SAFETY: the lines are there, and so are the weights and the sums of each head.
    unsafe {
        for h in 0..HEADS {
            for v in 0..VECTORS {
                acc[h][v] = s.load(sums.as_ptr().add(h * dim + d + v * S::LANES));
            }
        }
        for j in 0..lines {
            let mut value = [s.zero(); VECTORS];
            for v in 0..VECTORS {
                value[v] = E::load(s, values.as_ptr().add(j * dim + d + v * S::LANES));
            }
            for h in 0..HEADS {
                let weight = s.splat(*weights.as_ptr().add(h * n + j));
                for v in 0..VECTORS {
                    acc[h][v] = s.fma(weight, value[v], acc[h][v]);
                }
            }
        }
        for h in 0..HEADS {
            for v in 0..VECTORS {
                s.store(sums.as_mut_ptr().add(h * dim + d + v * S::LANES), acc[h][v]);
            }
        }
    }
}

/// Replaces scores by `e^(score - largest)` and gives their sum.
#[inline(always)]
fn exp_row<S: Simd>(s: S, scores: &mut [f32]) -> f32 {
    let most = largest(s, scores);
    let mut sum = 0.0;
    for i in (0..scores.len()).step_by(S::LANES) {
        let e = math::weight(s, s.sub(s.get(scores, i, 0.0), s.splat(most)));
        s.set(scores, i, e);
        sum += s.sum(s.get(scores, i, 0.0));
    }
    sum
}
