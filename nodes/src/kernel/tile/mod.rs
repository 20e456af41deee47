//! Products with GGUF's quantised weights, packed once into tiles of 16 outputs.
//!
//! A file holds each output's inputs in blocks of 32 or 256 small integers (codes) with their scales.
//! [`mod@format`] reads those blocks; a [`Tiles`] holds the same codes and scales in an order that a
//! vector unit can use without any shuffling:
//!
//! ```text
//! tile t: outputs 16t .. 16t+15
//! ├ codes: block 0 (32 inputs) │ block 1 │ … ┤├ scales: block 0 │ 1 │ … ┤├ super-scales … ┤
//!
//! codes of a block, as bytes: eight groups of four inputs, each group 64 bytes
//!   group 0:  o0: i0 i1 i2 i3 │ o1: i0 i1 i2 i3 │ … │ o15: i0 i1 i2 i3
//!   group 1:  o0: i4 i5 i6 i7 │ …
//! with four bits a code: byte j of group g (g < 4) has group g below and group g + 4 above
//! ```
//!
//! [`mod@product`] multiplies them with rows. Where many rows come together, the codes of a tile are brought into
//! bytes first, once for all of them ([`mod@staged`]). Weights come from main memory as long as rows are few, so that each tile is asked for while
//! the one before it is multiplied.
//!
//! [`mod@halved`] is another order of the same for output layers, and [`mod@shortlist`] what it is good for.
//!
//! The inputs of a product are quantised too, 32 values at a time ([`quantize`]),
//! which is what limits its precision: a result is off by at most `Σ |w| * max|x| / 254`, the maximum
//! taken over the block of `x`; in practice by some 0.3 % of the result's usual magnitude. The
//! products of integers are exact, and no format loses a bit of its scales.

mod bounds;
mod codes;
mod format;
mod halved;
mod product;
mod scales;
mod shortlist;
mod staged;

pub(crate) use halved::Halved;
pub use shortlist::Shortlist;

use super::{
    isa::Isa,
    memory::Buffer,
    quantize::{self, BLOCK},
    target::Target,
};
use crate::compute::{self, Work};
use codes::{Codes, Five, Four, Full, Six};
use format::Read;
use scales::{At, Halves, HalvesMin, Pair, Plain, Scales, Super};

/// Outputs of a tile.
pub(super) const TILE: usize = 16;

/// The quantised formats of GGUF files that are multiplied as integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

/// Runs `$body` with the types `$c` and `$s` of a format's codes and scales.
macro_rules! with_types {
    ($format:expr, $c:ident, $s:ident => $body:expr) => {
        match $format {
            Format::Q4_0 => with_types!(@ Four, Plain<8>, $c, $s, $body),
            Format::Q4_1 => with_types!(@ Four, Pair, $c, $s, $body),
            Format::Q5_0 => with_types!(@ Five, Plain<16>, $c, $s, $body),
            Format::Q5_1 => with_types!(@ Five, Pair, $c, $s, $body),
            Format::Q8_0 => with_types!(@ Full, Plain<128>, $c, $s, $body),
            Format::Q2K => with_types!(@ Four, HalvesMin, $c, $s, $body),
            Format::Q3K => with_types!(@ Four, Halves<4>, $c, $s, $body),
            Format::Q4K => with_types!(@ Four, Super, $c, $s, $body),
            Format::Q5K => with_types!(@ Five, Super, $c, $s, $body),
            Format::Q6K => with_types!(@ Six, Halves<32>, $c, $s, $body),
        }
    };
    (@ $codes:ty, $scales:ty, $c:ident, $s:ident, $body:expr) => {{
        type $c = $codes;
        type $s = $scales;
        $body
    }};
}

/// A quantised weight `[n, k]` in tiles.
pub(crate) struct Tiles {
    format: Format,
    n: usize,
    k: usize,
    data: Buffer,
}

/// Where the parts of a tile lie, in bytes from its start.
#[derive(Clone, Copy)]
struct Layout {
    /// Blocks of 32 inputs.
    blocks: usize,
    scales: usize,
    supers: usize,
    size: usize,
}

impl Layout {
    fn of<C: Codes, S: Scales>(k: usize) -> Self {
        let blocks = k / BLOCK;
        let scales = blocks * C::BYTES;
        let supers = scales + blocks * S::BYTES;
        let size = supers + blocks.div_ceil(8) * S::SUPER_BYTES;
        Self {
            blocks,
            scales,
            supers,
            size: size.next_multiple_of(64),
        }
    }

    /// Where the scales of a block of a tile are.
    ///
    /// # Safety
    /// The tile is whole and has such a block.
    #[inline(always)]
    unsafe fn at<C: Codes, S: Scales>(self, tile: *const u8, block: usize) -> At {
        // SAFETY: as the caller says.
        unsafe {
            At {
                block: tile.add(self.scales + block * S::BYTES),
                supers: tile.add(self.supers + block / 8 * S::SUPER_BYTES),
            }
        }
    }
}

impl Tiles {
    /// Packs the blocks of a file, row by row. None if `k` is not a multiple of the format's block or
    /// the bytes are not those of `n` rows.
    pub(crate) fn pack(format: Format, n: usize, k: usize, bytes: &[u8]) -> Option<Self> {
        let row = format.row(n, k, bytes)?;
        let data = with_types!(format, C, S => pack::<C, S>(format, (n, k), row, bytes));
        Some(Self { format, n, k, data })
    }

    pub(crate) fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// Writes the values of one output, in order.
    pub(crate) fn row(&self, output: usize, values: &mut [f32]) {
        assert!(output < self.n && values.len() == self.k, "no such row");
        with_types!(self.format, C, S => {
            let layout = Layout::of::<C, S>(self.k);
            let tile = &self.data.as_slice::<u8>()[output / TILE * layout.size..][..layout.size];
            let lane = output % TILE;
            for (b, values) in values.chunks_exact_mut(BLOCK).enumerate() {
                let codes = &tile[b * C::BYTES..][..C::BYTES];
                let scales = S::read(
                    &tile[layout.scales + b * S::BYTES..][..S::BYTES],
                    &tile[layout.supers + b / 8 * S::SUPER_BYTES..][..S::SUPER_BYTES],
                    lane,
                );
                for (i, value) in values.iter_mut().enumerate() {
                    let code = f32::from(C::get(codes, lane, i)) - S::OFFSET as f32;
                    let half = i / (BLOCK / 2);
                    *value = scales.factor(half) * code - scales.minimum(half);
                }
            }
        });
    }

    /// `x · wᵀ` for `m` quantised rows.
    pub(crate) fn product<'a>(
        &'a self,
        isa: Isa,
        m: usize,
        x: &'a [quantize::Block],
        target: Target<'a>,
    ) -> Work<'a> {
        assert_eq!(x.len(), m * self.k / BLOCK, "the input of a product");
        target.check(m, self.n);
        with_types!(self.format, C, S => product::work::<C, S>(isa, self, m, x, target))
    }
}

/// Packs every tile, on the current pool.
fn pack<C: Codes, S: Scales>(
    format: Format,
    (n, k): (usize, usize),
    row: usize,
    bytes: &[u8],
) -> Buffer {
    let layout = Layout::of::<C, S>(k);
    let tiles = n.div_ceil(TILE);
    let mut data = Buffer::for_weight::<u8>(tiles * layout.size);
    let cells = super::memory::Cells::of(data.as_mut_slice::<u8>());
    compute::parallel(tiles, |part| {
        for t in part {
            // SAFETY: each tile is packed once.
            let tile = unsafe { cells.slice(t * layout.size, layout.size) };
            for lane in 0..TILE.min(n - t * TILE) {
                let row = &bytes[(t * TILE + lane) * row..][..row];
                for b in 0..layout.blocks {
                    let Read { codes, scales } = format.read(row, b);
                    C::put(&mut tile[b * C::BYTES..][..C::BYTES], lane, &codes);
                    let (of_blocks, supers) =
                        tile[layout.scales..].split_at_mut(layout.supers - layout.scales);
                    S::put(
                        &mut of_blocks[b * S::BYTES..][..S::BYTES],
                        &mut supers[b / 8 * S::SUPER_BYTES..][..S::SUPER_BYTES],
                        lane,
                        &scales,
                    );
                }
            }
        }
    });
    data
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            memory::written,
            quantize::Blocks,
            target::After,
            testing::{Random, assert_near, shapes},
        },
        *,
    };
    use crate::compute::run_all;
    use candle_core::{
        Device,
        quantized::{GgmlDType, QStorage, QTensor},
    };
    use std::{borrow::Cow, ops::Range};

    const ALL: [(Format, GgmlDType); 10] = [
        (Format::Q4_0, GgmlDType::Q4_0),
        (Format::Q4_1, GgmlDType::Q4_1),
        (Format::Q5_0, GgmlDType::Q5_0),
        (Format::Q5_1, GgmlDType::Q5_1),
        (Format::Q8_0, GgmlDType::Q8_0),
        (Format::Q2K, GgmlDType::Q2K),
        (Format::Q3K, GgmlDType::Q3K),
        (Format::Q4K, GgmlDType::Q4K),
        (Format::Q5K, GgmlDType::Q5K),
        (Format::Q6K, GgmlDType::Q6K),
    ];

    /// Where in a block `d` and `m` are.
    fn floats(format: Format) -> Range<usize> {
        match format {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => 0..2,
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => 0..4,
            Format::Q2K => 80..84,
            Format::Q3K => 108..110,
            Format::Q6K => 208..210,
        }
    }

    /// Random blocks: every bit pattern of codes and small scales, and reasonable `d` and `m`.
    fn random_blocks(format: Format, values: usize, random: &mut Random) -> Vec<u8> {
        let floats = floats(format);
        let mut bytes = Vec::new();
        for _ in 0..values / format.values() {
            let mut block: Vec<u8> = (0..format.bytes()).map(|_| random.bits() as u8).collect();
            for at in floats.clone().step_by(2) {
                let float = half::f16::from_f32(random.float());
                block[at..at + 2].copy_from_slice(&float.to_le_bytes());
            }
            bytes.extend(block);
        }
        bytes
    }

    /// The same weight as candle reads it.
    fn by_candle(dtype: GgmlDType, n: usize, k: usize, bytes: &[u8]) -> Vec<f32> {
        let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, dtype).unwrap();
        let tensor = QTensor::new(storage, (n, k)).unwrap();
        let tensor = tensor.dequantize(&Device::Cpu).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_format_reads_as_candle_reads_it() {
        for (format, dtype) in ALL {
            let mut random = Random(1);
            let (n, k) = (37, 2 * format.values());
            let bytes = random_blocks(format, n * k, &mut random);
            let tiles = Tiles::pack(format, n, k, &bytes).unwrap();
            let want = by_candle(dtype, n, k, &bytes);
            let mut got = vec![0.0; k];
            for (output, want) in want.chunks(k).enumerate() {
                tiles.row(output, &mut got);
                for (got, want) in got.iter().zip(want) {
                    let bound = 1e-5 * want.abs().max(0.1);
                    assert!((got - want).abs() <= bound, "{format:?} {got} {want}");
                }
            }
        }
    }

    #[test]
    fn products_equal_those_of_the_quantised_numbers() {
        for (format, _) in ALL {
            // The last two have more inputs than are unpacked at a time.
            let parts = [(9, 40, 9 * 256), (100, 17, 4 * 256)];
            for (m, n, k) in shapes(format.values()).into_iter().chain(parts) {
                check(format, m, n, k);
            }
        }
    }

    fn check(format: Format, m: usize, n: usize, k: usize) {
        let mut random = Random((m * n * k) as u64);
        let bytes = random_blocks(format, n * k, &mut random);
        let x = random.floats(m * k);
        check_product(format, (m, n, k), &bytes, &x);
    }

    /// The largest codes with the largest bytes of both signs, where sums of 16 bits would overflow first;
    /// and the smallest codes, which for bytes are the largest without their offset.
    #[test]
    fn the_largest_products_are_exact() {
        for (format, _) in ALL {
            let (n, k) = (17, 2 * format.values());
            for (m, bits) in [(5, 0xff), (5, 0x00), (9, 0xff), (9, 0x00)] {
                let mut bytes = random_blocks(format, n * k, &mut Random(3));
                for block in bytes.chunks_exact_mut(format.bytes()) {
                    let floats = floats(format);
                    let kept = block[floats.clone()].to_vec();
                    block.fill(bits);
                    block[floats].copy_from_slice(&kept);
                }
                for x in [vec![1.0; m * k], vec![-1.0; m * k]] {
                    check_product(format, (m, n, k), &bytes, &x);
                }
            }
        }
    }

    fn check_product(format: Format, (m, n, k): (usize, usize, usize), bytes: &[u8], x: &[f32]) {
        let residual = Random((m + n) as u64).floats(m * n);
        let tiles = Tiles::pack(format, n, k, bytes).unwrap();
        let mut weight = vec![0.0; n * k];
        for (output, row) in weight.chunks_mut(k).enumerate() {
            tiles.row(output, row);
        }
        for isa in Isa::available() {
            let mut memory = Blocks::default();
            let blocks = memory.quantize(isa, x, k);
            // SAFETY: the product writes all rows and columns.
            let got = unsafe {
                written(m * n, |out| {
                    let after = After::Add(&residual);
                    let target = Target {
                        out,
                        stride: n,
                        first: 0,
                        bias: &[],
                        after,
                    };
                    run_all(&[tiles.product(isa, m, blocks, target)]);
                })
            };
            let read: Vec<f64> = blocks
                .iter()
                .flat_map(|block| block.q.map(|q| f64::from(block.d) * f64::from(q)))
                .collect();
            let (mut want, mut sizes) = (Vec::new(), Vec::new());
            for row in 0..m {
                for output in 0..n {
                    let (x, w) = (&read[row * k..][..k], &weight[output * k..][..k]);
                    let products = x.iter().zip(w).map(|(x, w)| x * f64::from(*w));
                    let rest = f64::from(residual[row * n + output]);
                    want.push(products.clone().sum::<f64>() + rest);
                    // Formats with minimums take away large parts of each other.
                    sizes.push(products.map(f64::abs).sum::<f64>() + 32.0 * k as f64 / 256.0);
                }
            }
            let what = format!("{format:?} {isa:?} {m}x{n}x{k}");
            assert_near(&what, &got, &want, |i| 2e-5 * sizes[i] + 1e-4);
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        assert!(Tiles::pack(Format::Q4K, 2, 128, &[0; 144]).is_none());
        assert!(Tiles::pack(Format::Q8_0, 2, 32, &[0; 67]).is_none());
        assert!(Tiles::pack(Format::Q8_0, usize::MAX, 32, &[0; 68]).is_none());
    }
}
