//! A row that stands alone: keys and values are read once for several heads, and stay where they are.

use super::{
    super::{
        math,
        memory::{borrow_memory, give_back},
        panel::Element,
        rows::largest,
        simd::Simd,
    },
    Causal,
};
use std::ops::Range;

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
        let mut memory = borrow_memory::<f32>(heads.len() * n);
        while head < heads.end {
            let left = heads.end - head;
            // SAFETY: as the caller says.
            head += crate::kernel::by_rows!(S::ROWS, left, HEADS => unsafe {
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
