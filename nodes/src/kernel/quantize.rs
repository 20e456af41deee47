//! Rows of floats as bytes, for products in integers.
//!
//! Two forms: [`Bytes`] has one scale and zero point a row (for [`int8`](super::int8)), and its value
//! of the largest magnitude as a float; [`Blocks`] has one scale for 32 values (for
//! [`tile`](super::tile)). Either is rounded to nearest, so a value is off by at most half a step:
//! (largest - smallest of the others, 0 among them) / 510 of its row for the first (less where a
//! processor adds its products up in 16 bits, [`Simd::LARGEST_BYTE`]), largest magnitude / 254 of
//! its block for the second. Where all magnitudes are below 1e-30 the result is 0. What a NaN
//! becomes is not specified.

use super::{
    isa::{Isa, Kernel},
    memory::{Buffer, Cells},
    simd::{MAX_LANES, Simd},
};
use crate::compute;
use std::ops::Range;

/// Values that share a scale in [`Blocks`].
pub(crate) const BLOCK: usize = 32;
/// Inputs of [`Bytes`] that are multiplied at a time.
pub(super) const STEP: usize = 8;
/// Steps below this are not told from 0.
const LEAST: f32 = 1e-30;
/// Values that are looked through together for the largest.
const PART: usize = 64;
/// Fewer values than this are not worth waking another thread.
const GRAIN: usize = 4 * 1024;

/// 32 values of a row; one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Block {
    /// Each value is about `d * q`.
    pub(crate) d: f32,
    /// `d` times the sums of the first and the last 16 of `q`.
    pub(crate) d_sums: [f32; 2],
    /// `d` times the sum of all.
    pub(crate) d_sum: f32,
    /// What the first and the last 16 of `q`, and all, lack to 0, in two parts: of every four the first two,
    /// and the others.
    pub(crate) lacks: [[i16; 2]; 3],
    _gap: u32,
    /// From -127 to 127.
    pub(crate) q: [i8; BLOCK],
}

impl Block {
    const ZERO: Self = Self {
        d: 0.0,
        d_sums: [0.0; 2],
        d_sum: 0.0,
        lacks: [[0; 2]; 3],
        _gap: 0,
        q: [0; BLOCK],
    };

    /// Fills in the sums of `q`.
    #[inline(always)]
    fn add_up(&mut self) {
        let (fours, _) = self.q.as_chunks::<4>();
        for half in 0..2 {
            let mut parts = [0; 2];
            for four in &fours[half * 4..][..4] {
                let [a, b, c, d] = four.map(i16::from);
                parts[0] += a + b;
                parts[1] += c + d;
            }
            self.d_sums[half] = self.d * f32::from(parts[0] + parts[1]);
            self.lacks[half] = [-parts[0], -parts[1]];
        }
        let [first, last, all] = &mut self.lacks;
        *all = [first[0] + last[0], first[1] + last[1]];
        self.d_sum = -self.d * f32::from(all[0] + all[1]);
    }
}

/// Rows of [`Block`]s. Its memory is used again.
#[derive(Default)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
}

impl Blocks {
    /// Quantises rows of `k` values, a multiple of 32; gives as many blocks as there are.
    pub(crate) fn quantize(&mut self, isa: Isa, x: &[f32], k: usize) -> &[Block] {
        assert!(k.is_multiple_of(BLOCK), "blocks of 32 values");
        let len = x.len() / BLOCK;
        if self.blocks.len() < len {
            self.blocks.resize(len, Block::ZERO);
        }
        let blocks = &mut self.blocks[..len];
        let cells = Cells::of(blocks);
        in_parts(len, BLOCK, |part| {
            // SAFETY: parts do not overlap.
            let blocks = unsafe { cells.slice(part.start, part.len()) };
            let x = &x[part.start * BLOCK..part.end * BLOCK];
            isa.run(QuantizeBlocks { x, blocks });
        });
        &self.blocks[..len]
    }
}

struct QuantizeBlocks<'a> {
    x: &'a [f32],
    blocks: &'a mut [Block],
}

impl Kernel for QuantizeBlocks<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, block) in self.x.chunks_exact(BLOCK).zip(self.blocks) {
            let mut largest = s.zero();
            for i in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: `x` has 32 values, a multiple of `LANES`.
                largest = s.max(largest, s.abs(unsafe { s.load(x.as_ptr().add(i)) }));
            }
            let largest = s.largest(largest);
            let known = largest >= LEAST;
            let inverse = s.splat(if known { 127.0 / largest } else { 0.0 });
            for i in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: as above; `q` has 32 bytes.
                unsafe {
                    let q = s.to_int(s.mul(s.load(x.as_ptr().add(i)), inverse));
                    s.store_bytes(block.q.as_mut_ptr().cast::<u8>().add(i), q);
                }
            }
            block.d = if known { largest / 127.0 } else { 0.0 };
            block.add_up();
        }
    }
}

/// How a row of [`Bytes`] is read: a value is about `scale * (q - zero)`, but for one, whose byte
/// reads as 0.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affine {
    pub(crate) scale: f32,
    pub(crate) zero: i32,
    /// The value of the largest magnitude.
    pub(crate) largest: f32,
    /// Where it is.
    pub(crate) largest_at: usize,
}

#[cfg(test)]
impl Affine {
    /// The value of an input whose byte is `q`.
    pub(super) fn read(&self, input: usize, q: u8) -> f64 {
        match input == self.largest_at {
            true => f64::from(self.largest),
            false => f64::from(self.scale) * f64::from(i32::from(q) - self.zero),
        }
    }
}

/// Rows of bytes without a sign. Its memory is used again.
#[derive(Default)]
pub(crate) struct Bytes {
    bytes: Buffer,
    rows: Vec<Affine>,
}

impl Bytes {
    /// From one row to the next: rows are filled up to what is multiplied at a time.
    pub(crate) fn stride(k: usize) -> usize {
        k.next_multiple_of(STEP)
    }

    /// Quantises `m` rows; gives the bytes, [`Bytes::stride`] apart, and how to read them.
    pub(crate) fn quantize(&mut self, isa: Isa, m: usize, x: &[f32]) -> (&[u8], &[Affine]) {
        let k = x.len().checked_div(m).unwrap_or(0);
        let stride = Self::stride(k);
        self.bytes.reserve::<u8>(m * stride);
        if self.rows.len() < m {
            self.rows.resize(m, Affine::default());
        }
        if k == 0 {
            self.rows[..m].fill(Affine::default());
            return (&[], &self.rows[..m]);
        }
        let bytes = Cells::of(&mut self.bytes.as_mut_slice::<u8>()[..m * stride]);
        let rows = Cells::of(&mut self.rows[..m]);
        in_parts(m, k, |part| {
            // SAFETY: parts do not overlap.
            let (bytes, rows) = unsafe {
                (
                    bytes.slice(part.start * stride, part.len() * stride),
                    rows.slice(part.start, part.len()),
                )
            };
            let x = &x[part.start * k..part.end * k];
            isa.run(QuantizeRows { x, k, bytes, rows });
        });
        (&self.bytes.as_slice()[..m * stride], &self.rows[..m])
    }
}

struct QuantizeRows<'a> {
    x: &'a [f32],
    k: usize,
    bytes: &'a mut [u8],
    rows: &'a mut [Affine],
}

impl Kernel for QuantizeRows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.x.chunks_exact(self.k);
        let bytes = self.bytes.chunks_exact_mut(Bytes::stride(self.k));
        for ((x, bytes), row) in rows.zip(bytes).zip(self.rows) {
            *row = quantize_row(s, x, bytes);
        }
    }
}

/// One row; `bytes` is as long, or less than a [`STEP`] longer, and those become 0.
#[inline(always)]
fn quantize_row<S: Simd>(s: S, x: &[f32], bytes: &mut [u8]) -> Affine {
    let (low, high) = two_ends(s, x);
    let largest = if high[0] >= -low[0] { high[0] } else { low[0] };
    let largest_at = place_of(s, x, largest);
    // The largest is not among the bytes, so the end on its side is the one before.
    let (low, high) = match largest == high[0] {
        true => (low[0], high[1]),
        false => (low[1], high[0]),
    };
    let most = f32::from(S::LARGEST_BYTE);
    // Divided before they are subtracted: their difference may be too large for a float.
    let scale = (high / most - low / most).max(LEAST);
    let inverse = 1.0 / scale;
    let zero = (-low * inverse).round_ties_even();
    for i in (0..x.len()).step_by(S::LANES) {
        let v = s.fma(s.get(x, i, 0.0), s.splat(inverse), s.splat(zero));
        let q = s.to_int(s.min(s.max(v, s.zero()), s.splat(most)));
        let left = x.len() - i;
        let mut lanes = [0; MAX_LANES];
        // SAFETY: there are as many bytes as values, and `lanes` has room for every lane.
        unsafe {
            if left >= S::LANES {
                s.store_bytes(bytes.as_mut_ptr().add(i), q);
            } else {
                s.store_bytes(lanes.as_mut_ptr(), q);
                bytes[i..i + left].copy_from_slice(&lanes[..left]);
            }
        }
    }
    bytes[x.len()..].fill(0);
    if let Some(byte) = bytes.get_mut(largest_at) {
        *byte = zero as u8;
    }
    Affine {
        scale,
        zero: zero as i32,
        largest,
        largest_at,
    }
}

/// The two smallest values and the two largest ones, 0 twice among them; the outermost first.
#[inline(always)]
fn two_ends<S: Simd>(s: S, x: &[f32]) -> ([f32; 2], [f32; 2]) {
    let mut low = [s.zero(); 2];
    let mut high = [s.zero(); 2];
    for i in (0..x.len()).step_by(S::LANES) {
        let v = s.get(x, i, 0.0);
        low[1] = s.min(low[1], s.max(low[0], v));
        low[0] = s.min(low[0], v);
        high[1] = s.max(high[1], s.min(high[0], v));
        high[0] = s.max(high[0], v);
    }
    let negative = [s.sub(s.zero(), high[0]), s.sub(s.zero(), high[1])];
    let [first, second] = two_smallest(s, negative);
    (two_smallest(s, low), [-first, -second])
}

/// The two smallest of all lanes, where each lane has its own two, the smallest first.
#[inline(always)]
fn two_smallest<S: Simd>(s: S, of_lanes: [S::F; 2]) -> [f32; 2] {
    let mut lanes = [[0.0; MAX_LANES]; 2];
    s.set(&mut lanes[0], 0, of_lanes[0]);
    s.set(&mut lanes[1], 0, of_lanes[1]);
    let [first, second] = &mut lanes;
    // The upper half meets the lower one, which a compiler does for all lanes at once.
    let mut half = S::LANES;
    while half > 1 {
        half /= 2;
        for i in 0..half {
            let (a, b) = (first[i], first[half + i]);
            let (smaller, larger) = if a < b { (a, b) } else { (b, a) };
            let (c, d) = (second[i], second[half + i]);
            let next = if c < d { c } else { d };
            first[i] = smaller;
            second[i] = if next < larger { next } else { larger };
        }
    }
    [first[0], second[0]]
}

/// Where a value is; 0 if it is nowhere.
#[inline(always)]
fn place_of<S: Simd>(s: S, x: &[f32], value: f32) -> usize {
    for start in (0..x.len()).step_by(PART) {
        let part = &x[start..x.len().min(start + PART)];
        let mut nearest = s.splat(f32::MAX);
        for i in (0..part.len()).step_by(S::LANES) {
            let distance = s.abs(s.sub(s.get(part, i, f32::MAX), s.splat(value)));
            nearest = s.min(nearest, distance);
        }
        if s.largest(s.sub(s.zero(), nearest)) == 0.0 {
            for (i, v) in part.iter().enumerate() {
                if *v == value {
                    return start + i;
                }
            }
        }
    }
    0 // some values are no numbers, or there are none at all
}

/// Runs `work` over parts of `0..n` items of `size` values, on several threads if that pays.
pub(crate) fn in_parts(n: usize, size: usize, work: impl Fn(Range<usize>) + Sync) {
    let items = (GRAIN / size.max(1)).max(1);
    compute::parallel(n.div_ceil(items), |parts| {
        work(parts.start * items..(parts.end * items).min(n));
    });
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Random, *};

    #[test]
    fn values_are_off_by_at_most_half_a_step() {
        for scale in [1.0, 1e-20, 1e-37, 1e38, 0.0] {
            for k in [1, 3, 4, 31, 32, 64, 100, 384] {
                let mut random = Random(k as u64);
                let x: Vec<f32> = (0..3 * k).map(|_| random.float() * scale).collect();
                for isa in Isa::available() {
                    check_bytes(isa, &x, k);
                    if k % BLOCK == 0 {
                        check_blocks(isa, &x, k);
                    }
                }
            }
        }
    }

    /// Products look up the weights of that place.
    #[test]
    fn values_that_are_no_numbers_have_a_place_in_their_row() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        for isa in Isa::available() {
            for (k, value) in [1, 8, 16, 64].into_iter().flat_map(|k| odd.map(|v| (k, v))) {
                for places in [0..1, k - 1..k, 0..k] {
                    let mut x = vec![1.0; k];
                    x[places].fill(value);
                    let mut memory = Bytes::default();
                    let (_, rows) = memory.quantize(isa, x.len() / k, &x);
                    assert!(rows[0].largest_at < k, "{isa:?} {x:?}");
                }
            }
        }
    }

    fn check_bytes(isa: Isa, x: &[f32], k: usize) {
        let mut memory = Bytes::default();
        let (bytes, rows) = memory.quantize(isa, x.len() / k, x);
        for ((x, bytes), row) in x.chunks(k).zip(bytes.chunks(Bytes::stride(k))).zip(rows) {
            let most = x.iter().fold(0f32, |a, b| a.max(b.abs()));
            assert_eq!((row.largest.abs(), x[row.largest_at]), (most, row.largest));
            let others = || (0..k).filter(|i| *i != row.largest_at).map(|i| x[i]);
            let high = others().fold(0f32, f32::max);
            let low = others().fold(0f32, f32::min);
            let bytes_up_to = f64::from(isa.constants().largest_byte);
            let step = f64::from(high) / bytes_up_to - f64::from(low) / bytes_up_to;
            for (i, (x, q)) in x.iter().zip(bytes).enumerate() {
                let read = row.read(i, *q);
                // The zero point is rounded too, which moves the two ends by up to a step.
                let bound = 1.01 * step + f64::from(LEAST);
                assert!((read - f64::from(*x)).abs() <= bound, "{isa:?} {x} {read}");
            }
            assert!(bytes[k..].iter().all(|byte| *byte == 0));
        }
    }

    fn check_blocks(isa: Isa, x: &[f32], k: usize) {
        let mut memory = Blocks::default();
        for (x, block) in x.chunks(BLOCK).zip(memory.quantize(isa, x, k)) {
            let largest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
            for (x, q) in x.iter().zip(block.q) {
                let read = f64::from(block.d) * f64::from(q);
                let bound = f64::from(largest) / 253.9 + f64::from(LEAST);
                assert!((read - f64::from(*x)).abs() <= bound, "{isa:?} {x} {read}");
            }
            let sum = |q: &[i8]| q.iter().map(|q| i32::from(*q)).sum::<i32>();
            let halves = [&block.q[..16], &block.q[16..]];
            assert_eq!(block.d_sums, halves.map(|q| block.d * sum(q) as f32));
            assert_eq!(block.d_sum, block.d * sum(&block.q) as f32);
            for part in 0..2 {
                let of_part = |i: &usize| i % 4 / 2 == part;
                let lack = |inputs: Range<usize>| -> i16 {
                    inputs.filter(of_part).map(|i| -i16::from(block.q[i])).sum()
                };
                let want = [lack(0..16), lack(16..32), lack(0..32)];
                assert_eq!(block.lacks.map(|parts| parts[part]), want);
            }
        }
    }
}
