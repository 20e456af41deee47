//! Attention in both directions over packed rows: every sequence for itself.

use super::{
    head::{self, Head, Lines, QUERIES},
    isa::{Isa, Kernel},
    memory::{Buffer, written},
    simd::Simd,
    target::{After, Target},
};
use crate::compute;
use std::{cell::Cell, ops::Range};

thread_local! {
    static MEMORY: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Memory of this thread for at least `len` floats; what is in it is left over from before. To be
/// [given back](give_back).
pub(super) fn borrow_memory(len: usize) -> Buffer {
    let mut memory = MEMORY.take().unwrap_or_else(|| Buffer::zeroed::<f32>(0));
    memory.reserve::<f32>(len);
    memory
}

/// Keeps memory for the next time.
pub(super) fn give_back(memory: Buffer) {
    MEMORY.set(Some(memory));
}

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
    let blocks: Vec<Block> = offsets
        .windows(2)
        .flat_map(|pair| {
            let rows = pair[0]..pair[1];
            rows.clone().step_by(QUERIES).map(move |first| Block {
                queries: first..rows.end.min(first + QUERIES),
                rows: rows.clone(),
            })
        })
        .collect();
    // SAFETY: the blocks of queries are all rows, and each block times each head is written.
    unsafe {
        written(m * hidden, |out| {
            let target = Target {
                out,
                stride: hidden,
                first: 0,
                bias: &[],
                after: After::Nothing,
            };
            target.check(m, hidden);
            compute::parallel(blocks.len() * heads, |units| {
                isa.run(Packed {
                    qkv,
                    hidden,
                    heads,
                    blocks: &blocks,
                    target,
                    units,
                });
            });
        })
    }
}

/// Up to [`QUERIES`] rows of a sequence.
struct Block {
    queries: Range<usize>,
    /// All rows of the sequence.
    rows: Range<usize>,
}

struct Packed<'a> {
    qkv: &'a [f32],
    hidden: usize,
    heads: usize,
    blocks: &'a [Block],
    target: Target<'a>,
    units: Range<usize>,
}

impl Kernel for Packed<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let dim = self.hidden / self.heads;
        let pitch = 3 * self.hidden;
        for unit in self.units {
            // One head after the other through a block: its rows stay in the cache.
            let (block, head) = (&self.blocks[unit / self.heads], unit % self.heads);
            let n = block.rows.len();
            let column = head * dim;
            let lines = |row: usize, part: usize| Lines {
                first: self.qkv[row * pitch + part * self.hidden + column..].as_ptr(),
                pitch,
            };
            let seen: [Range<usize>; QUERIES] = std::array::from_fn(|_| 0..n);
            let head = Head {
                queries: lines(block.queries.start, 0),
                keys: lines(block.rows.start, 1),
                values: lines(block.rows.start, 2),
                n,
                dim,
                scale: 1.0 / (dim as f32).sqrt(),
                seen: &seen[..block.queries.len()],
            };
            let mut memory = borrow_memory(head::scratch(n, dim));
            let place = (block.queries.start, column);
            // SAFETY: the rows are in `qkv`, everything is seen, the target is checked, and no other
            // unit has these rows and columns.
            unsafe { head::attend(s, head, memory.as_mut_slice(), self.target, place) };
            give_back(memory);
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
        let cases: [(usize, usize, &[usize]); 7] = [
            (32, 1, &[0, 5]),
            (64, 2, &[0, 1, 1, 40]),
            (12, 4, &[0, 16, 33]),
            (120, 3, &[0, 7, 71]),
            (160, 2, &[0, 64]),
            (384, 12, &[0, 17, 30, 63, 64]),
            (64, 1, &[0, 0]),
        ];
        for (hidden, heads, offsets) in cases {
            let m = offsets.last().unwrap();
            for scale in [1.0, 30.0] {
                let mut random = Random(hidden as u64);
                let qkv: Vec<f32> = (0..3 * hidden * m)
                    .map(|_| random.float() * scale)
                    .collect();
                let want = reference(&qkv, hidden, heads, offsets);
                for isa in Isa::available() {
                    let got = attention(isa, &qkv, hidden, heads, offsets);
                    let what = format!("{isa:?} {hidden} {heads} {offsets:?} {scale}");
                    let bound = f64::from(scale * scale * scale) * 3e-6;
                    assert_near(&what, &got, &want, |_| bound);
                }
            }
        }
    }
}
