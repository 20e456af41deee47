//! Q8_0 with its codes in halves: for an output layer, of which mostly the largest results are wanted.
//!
//! Every code is a byte; its upper four bits lie in one part of memory, with the scales, its lower four
//! in another. The upper ones alone say how large a result can be at most, which [`shortlist`] makes
//! use of; all results take both, which [`unite`] puts together tile by tile.
//!
//! ```text
//! upper, tile t: ├ codes as of `Four`: block 0 │ 1 │ … ┤├ scales: block 0 │ 1 │ … ┤├ radii: block 0 │ 1 │ … ┤
//! lower, tile t: ├ codes as of `Four`: block 0 │ 1 │ … ┤
//! ```
//!
//! A block has a radius for each output, a byte: how far the lower halves of its 32 codes are from their
//! middle (Euclid's distance), rounded up.
//!
//! [`shortlist`]: Halved::shortlists

use super::{
    super::{
        grid::Grid,
        isa::{Isa, Kernel},
        memory::{Buffer, Cells, LINE, borrow_memory, give_back},
        quantize::{BLOCK, Block},
        simd::Simd,
        target::Target,
    },
    Format, Layout, TILE,
    codes::{Codes, Four, Full, GROUP},
    format::{Read, read_q8_0},
    product::{Unit, grid, multiply},
    scales::{Plain, Scales},
};
use crate::compute::{self, Work};
use std::ops::Range;

/// The scales of Q8_0.
pub(super) type Scale = Plain<128>;

/// What the lower half of a code is on average.
pub(super) const MIDDLE: f32 = 7.5;

/// Radii are enlarged by so much a block, for what sums lose in rounding: over `b` blocks both the bound and the
/// result take some ten roundings each, of numbers up to `255 * sqrt(32)` times what a radius is
/// multiplied with.
pub(super) const ROUNDING: f32 = 2e-3;

/// What a radius counts in. The largest distance is `7.5 * sqrt(32)`, 213 of them, so that more than 4,000
/// blocks can be rounded for.
pub(super) const RADIUS: f32 = 0.2;

/// The most inputs whose radii are bytes.
const MAX_INPUTS: usize = 4096 * BLOCK;

/// A Q8_0 weight `[n, k]` in tiles whose codes are halved.
pub(crate) struct Halved {
    pub(super) n: usize,
    pub(super) k: usize,
    upper: Buffer,
    lower: Buffer,
}

/// Where the parts of the upper half of a tile lie; radii come where other formats have super-scales.
pub(super) fn layout(k: usize) -> Layout {
    let layout = Layout::of::<Four, Scale>(k);
    Layout {
        size: (layout.supers + layout.blocks * TILE).next_multiple_of(64),
        ..layout
    }
}

impl Halved {
    /// Packs the blocks of a file, row by row. None if `k` is not a multiple of 32, the bytes are not
    /// those of `n` rows, or a scale is negative or no number: what bounds rely on. None also if there are
    /// more inputs than any model has.
    pub(crate) fn pack(n: usize, k: usize, bytes: &[u8]) -> Option<Self> {
        let row = Format::Q8_0.row(n, k, bytes)?;
        if k > MAX_INPUTS {
            return None;
        }
        let (tiles, layout) = (n.div_ceil(TILE), layout(k));
        let size = layout.blocks * Four::BYTES;
        let mut weight = Self {
            n,
            k,
            upper: Buffer::for_weight::<u8>(tiles * layout.size),
            lower: Buffer::for_weight::<u8>(tiles * size),
        };
        let uppers = Cells::of(weight.upper.as_mut_slice::<u8>());
        let lowers = Cells::of(weight.lower.as_mut_slice::<u8>());
        let isa = Isa::best();
        let packed = compute::map(tiles, |t| {
            let outputs = TILE.min(n - t * TILE);
            let mut fits = false;
            // SAFETY: each tile is packed once.
            isa.run(unsafe {
                Packing {
                    layout,
                    bytes: &bytes[t * TILE * row..][..outputs * row],
                    upper: uppers.slice(t * layout.size, layout.size),
                    lower: lowers.slice(t * size, size),
                    fits: &mut fits,
                }
            });
            fits
        });
        packed.iter().all(|fits| *fits).then_some(weight)
    }

    pub(crate) fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn bytes(&self) -> usize {
        self.upper.bytes() + self.lower.bytes()
    }

    /// Writes the values of one output, in order.
    pub(crate) fn row(&self, output: usize, values: &mut [f32]) {
        assert!(output < self.n && values.len() == self.k, "no such row");
        let layout = layout(self.k);
        let (t, lane) = (output / TILE, output % TILE);
        let (upper, lower) = self.tile(layout, t);
        for (b, values) in values.chunks_exact_mut(BLOCK).enumerate() {
            let scale =
                Scale::read(&upper[layout.scales + b * Scale::BYTES..], &[], lane).factor(0);
            let at = b * Four::BYTES;
            for (i, value) in values.iter_mut().enumerate() {
                let (upper, lower) = (&upper[at..], &lower[at..]);
                let code = Four::get(upper, lane, i) << 4 | Four::get(lower, lane, i);
                *value = scale * (f32::from(code) - Scale::OFFSET as f32);
            }
        }
    }

    /// Both halves of a tile.
    fn tile(&self, layout: Layout, t: usize) -> (&[u8], &[u8]) {
        let size = layout.blocks * Four::BYTES;
        (
            &self.upper.as_slice::<u8>()[t * layout.size..][..layout.size],
            &self.lower.as_slice::<u8>()[t * size..][..size],
        )
    }

    /// Where they are; there is no tile behind the last one.
    pub(super) fn halves(&self, layout: Layout, t: usize) -> Halves {
        let size = layout.blocks * Four::BYTES;
        Halves {
            upper: self
                .upper
                .as_slice::<u8>()
                .as_ptr()
                .wrapping_add(t * layout.size),
            lower: self.lower.as_slice::<u8>().as_ptr().wrapping_add(t * size),
        }
    }

    /// `x · wᵀ` for `m` quantised rows.
    pub(crate) fn product<'a>(
        &'a self,
        isa: Isa,
        m: usize,
        x: &'a [Block],
        target: Target<'a>,
    ) -> Work<'a> {
        assert_eq!(x.len(), m * self.k / BLOCK, "the input of a product");
        target.check(m, self.n);
        let grid = grid(m, self.n);
        Work::new(grid.units(), move |units| {
            isa.run(Product {
                weight: self,
                grid,
                x,
                target,
                units,
            });
        })
    }
}

/// Packs some rows as a tile.
struct Packing<'a> {
    layout: Layout,
    bytes: &'a [u8],
    upper: &'a mut [u8],
    lower: &'a mut [u8],
    /// Whether all scales are as they must be.
    fits: &'a mut bool,
}

impl Kernel for Packing<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self {
            layout,
            upper,
            lower,
            ..
        } = self;
        let block_bytes = Format::Q8_0.bytes();
        let row_bytes = layout.blocks * block_bytes;
        for (lane, row) in self.bytes.chunks_exact(row_bytes.max(1)).enumerate() {
            for (b, block) in row.chunks_exact(block_bytes).enumerate() {
                let Read { codes, scales } = read_q8_0(block);
                // NaN is neither.
                if !(scales.d.to_f32() >= 0.0 && scales.d.is_finite()) {
                    return;
                }
                let mut first = codes;
                for code in &mut first {
                    *code >>= 4;
                }
                let at = b * Four::BYTES;
                Four::put(&mut upper[at..][..Four::BYTES], lane, &first);
                Four::put(&mut lower[at..][..Four::BYTES], lane, &codes);
                let at = layout.scales + b * Scale::BYTES;
                Scale::put(&mut upper[at..][..Scale::BYTES], &mut [], lane, &scales);
                let radius = distance(&codes) + ROUNDING * layout.blocks as f32;
                upper[layout.supers + b * TILE + lane] = (radius / RADIUS).ceil() as u8;
            }
        }
        *self.fits = true;
    }
}

/// How far the lower halves of codes are from their middle.
#[inline(always)]
fn distance(codes: &[u8; BLOCK]) -> f32 {
    let mut squares = 0;
    for code in codes {
        let twice = 2 * i16::from(code & 15) - (2.0 * MIDDLE) as i16;
        squares += i32::from(twice) * i32::from(twice);
    }
    (squares as f32).sqrt() / 2.0
}

struct Product<'a> {
    weight: &'a Halved,
    grid: Grid,
    x: &'a [Block],
    target: Target<'a>,
    units: Range<usize>,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.weight.n;
        let layout = layout(self.weight.k);
        let mut memory = borrow_memory::<u8>(layout.blocks * Full::BYTES);
        for unit in self.units {
            let (rows, t) = self.grid.unit(unit);
            let (upper, _) = self.weight.tile(layout, t);
            let unit = Unit::new(layout, upper, (rows, t), (self.x, n), self.target);
            let codes = memory.as_mut_slice::<u8>().as_mut_ptr();
            // SAFETY: both halves are whole, and there is room for their codes; the target is checked, and
            // no other unit has these rows and columns.
            unsafe {
                let [tile, next] = [t, t + 1].map(|t| self.weight.halves(layout, t));
                unite(s, layout, tile, next, codes);
                multiply::<S, Full, Scale>(s, unit, codes, false);
            }
        }
        give_back(memory);
    }
}

/// Where the halves of a tile begin.
#[derive(Clone, Copy)]
pub(super) struct Halves {
    pub(super) upper: *const u8,
    pub(super) lower: *const u8,
}

/// Puts the codes of a tile together, a byte each as [`Full`] has them, and asks for the next tile.
///
/// # Safety
/// Both halves of the tile are there, and room for as many times [`Full::BYTES`] as there are blocks.
#[inline(always)]
pub(super) unsafe fn unite<S: Simd>(s: S, layout: Layout, tile: Halves, next: Halves, to: *mut u8) {
    for b in 0..layout.blocks {
        // SAFETY: as the caller says; what is asked for may be anywhere.
        unsafe {
            let at = b * Four::BYTES;
            s.prefetch(next.upper.wrapping_add(layout.scales + b * Scale::BYTES));
            for line in (at..at + Four::BYTES).step_by(LINE) {
                s.prefetch(next.upper.wrapping_add(line));
                s.prefetch(next.lower.wrapping_add(line));
            }
            let (upper, lower) = (tile.upper.add(at), tile.lower.add(at));
            let to = to.add(b * Full::BYTES);
            for at in (0..Four::BYTES).step_by(4 * S::LANES) {
                let (upper, lower) = (s.load_i(upper.add(at)), s.load_i(lower.add(at)));
                let first = s.put_upper(s.low_nibbles(lower), upper, 0, 0xf0);
                let second = s.put_upper(s.high_nibbles(lower), upper, 4, 0xf0);
                s.store_i(to.add(at), first);
                s.store_i(to.add(4 * GROUP + at), second);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::{
                memory::written,
                quantize::Blocks,
                testing::{random_q8_0, shapes},
            },
            Tiles,
        },
        *,
    };
    use crate::compute::run_all;
    use crate::kernel::testing::Random;

    /// The product by any weight.
    fn by(
        isa: Isa,
        (m, n, k): (usize, usize, usize),
        x: &[f32],
        multiply: impl FnOnce(&[Block], Target<'_>),
    ) -> Vec<f32> {
        let mut memory = Blocks::default();
        let blocks = memory.quantize(isa, x, k);
        // SAFETY: products write all rows and columns.
        unsafe {
            written(m * n, |out| {
                let target = Target::whole(out, n);
                multiply(blocks, target);
            })
        }
    }

    #[test]
    fn halves_are_read_and_multiplied_as_whole_codes_are() {
        for (m, n, k) in shapes(BLOCK) {
            let mut random = Random((m * n * k) as u64);
            let (bytes, x) = (random_q8_0(n * k, &mut random), random.floats(m * k));
            let halved = Halved::pack(n, k, &bytes).unwrap();
            let tiles = Tiles::pack(Format::Q8_0, n, k, &bytes).unwrap();
            let (mut got, mut want) = (vec![0.0; k], vec![0.0; k]);
            for output in 0..n {
                halved.row(output, &mut got);
                tiles.row(output, &mut want);
                assert_eq!(got, want);
            }
            for isa in Isa::available() {
                let got = by(isa, (m, n, k), &x, |x, to| {
                    run_all(&[halved.product(isa, m, x, to)]);
                });
                let want = by(isa, (m, n, k), &x, |x, to| {
                    run_all(&[tiles.product(isa, m, x, to)]);
                });
                assert!(got == want, "{isa:?} {m}x{n}x{k}");
            }
        }
    }

    #[test]
    fn what_bounds_rely_on_is_checked() {
        let bytes = random_q8_0(3 * 64, &mut Random(1));
        assert!(Halved::pack(3, 64, &bytes).is_some());
        assert!(Halved::pack(3, 32, &bytes).is_none());
        assert!(Halved::pack(usize::MAX, 64, &bytes).is_none());
        for scale in [-1.0, f32::NAN, f32::INFINITY] {
            let mut bytes = bytes.clone();
            bytes[5 * 34..][..2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
            assert!(Halved::pack(3, 64, &bytes).is_none(), "{scale}");
        }
    }
}
