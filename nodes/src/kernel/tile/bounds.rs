//! Bounds of the results of an output layer, from the upper halves of its codes.
//!
//! With `h` and `l` the halves of a code, and everything else that a block has as it is, a result is
//!
//! ```text
//! Σ s d (16 h + l - 128) q  =  Σ s d (16 h + 7.5 - 128) q  +  Σ s d (l - 7.5) q
//! ```
//!
//! The first sum takes only the upper halves. In the second, a block's part is at most the
//! distance of its `l` from 7.5 times the length of `d q` (Cauchy and Schwarz). Inputs that stand far out of
//! their block are better counted apart, each with the most that its `l` can be away. Their sum is a bound that no
//! result exceeds.

use super::{
    super::{
        by_rows,
        isa::{Isa, Kernel},
        memory::{Buffer, Cells},
        quantize::{BLOCK, Block},
        simd::Simd,
        unrolled,
    },
    Layout, TILE,
    codes::{Codes, Four},
    halved::{Halved, MIDDLE, RADIUS, ROUNDING, Scale, layout},
    product::{add_group, ahead},
    scales::Scales,
};
use crate::compute;
use std::{hint::black_box, ops::Range};

/// How far the lower halves of a block usually are from their middle: `sqrt(32 * 21.25)` if all are as likely.
const DISTANCE: f32 = 26.08;

impl Halved {
    /// The most that an output of each tile can be, `[m, tiles]`.
    pub(super) fn bounds<'a>(
        &self,
        isa: Isa,
        m: usize,
        x: &[Block],
        memory: &'a mut Buffer,
    ) -> &'a [f32] {
        let (tiles, blocks) = (self.n.div_ceil(TILE), layout(self.k).blocks);
        let places = (0..blocks).flat_map(|b| (0..m).map(move |row| row * blocks + b));
        let x: Vec<Inputs> = places.map(|place| Inputs::new(&x[place], blocks)).collect();
        memory.reserve::<f32>(m * tiles);
        let bounds = &mut memory.as_mut_slice()[..m * tiles];
        let out = Cells::of(bounds);
        compute::parallel(tiles, |units| {
            isa.run(Bounds {
                weight: self,
                m,
                x: &x,
                out,
                units,
            });
        });
        bounds
    }
}

/// The length of what a block stands for.
pub(super) fn length(block: &Block) -> f32 {
    let squares: i32 = block.q.iter().map(|q| i32::from(*q) * i32::from(*q)).sum();
    block.d * (squares as f32).sqrt()
}

/// 32 inputs of a row as bounds need them; one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Inputs {
    q: [i8; BLOCK],
    /// What the product with upper halves is multiplied by, before the scale.
    factor: f32,
    /// What is added before the scale: what all codes have in common, the middle of the lower halves and
    /// their offset, and the most that the inputs apart can add.
    common: f32,
    /// What a radius is multiplied by: the length of the other inputs, and what radii count in.
    length: f32,
}

impl Inputs {
    /// A block of a row of so many.
    fn new(block: &Block, blocks: usize) -> Self {
        let (apart, others) = far_out(&block.q);
        let others = block.d * others;
        // What radii have for rounding is for the length of all.
        let rounding = ROUNDING * blocks as f32 * (length(block) - others).max(0.0);
        let middle = (MIDDLE - Scale::OFFSET as f32) * block.d_sum;
        Self {
            q: block.q,
            factor: 16.0 * block.d,
            common: middle + MIDDLE * block.d * apart + rounding,
            length: RADIUS * others,
        }
    }
}

/// The sum of the magnitudes that are better counted apart, which are the largest, and the length of the others.
fn far_out(q: &[i8; BLOCK]) -> (f32, f32) {
    let mut magnitudes = q.map(i8::unsigned_abs);
    // Squares of whole numbers, so that nothing is lost.
    let squares = magnitudes.map(|q| u32::from(q) * u32::from(q));
    let (mut apart, mut others) = (0.0, squares.iter().sum::<u32>() as f32);
    loop {
        let largest = magnitudes.iter().copied().max().unwrap_or(0);
        let q = f32::from(largest);
        let (with, without) = (others.sqrt(), (others - q * q).sqrt());
        if DISTANCE * (with - without) <= MIDDLE * q {
            return (apart, with);
        }
        apart += q;
        others -= q * q;
        if let Some(q) = magnitudes.iter_mut().find(|q| **q == largest) {
            *q = 0;
        }
    }
}

struct Bounds<'a> {
    weight: &'a Halved,
    m: usize,
    /// `[blocks, m]`: those of all rows beside each other.
    x: &'a [Inputs],
    /// `[m, tiles]`
    out: Cells<'a, f32>,
    units: Range<usize>,
}

impl Kernel for Bounds<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let layout = layout(self.weight.k);
        let tiles = self.weight.n.div_ceil(TILE);
        for t in self.units {
            let tile = self.weight.halves(layout, t).upper;
            let mut row = 0;
            while row < self.m {
                let x = self.x[row..].as_ptr();
                // SAFETY: the tile is whole, as many rows are left, and no other unit has this tile.
                row += by_rows!(S::TILE_ROWS, [8, 4, 2], self.m - row, ROWS => unsafe {
                    let done = row..row + ROWS;
                    let largest = match TILE / S::LANES {
                        1 => bound::<S, ROWS, 1>(s, layout, tile, (x, self.m), done),
                        _ => bound::<S, ROWS, 2>(s, layout, tile, (x, self.m), done),
                    };
                    for r in 0..ROWS {
                        self.out.at((row + r) * tiles + t, 1).write(largest[r]);
                    }
                });
            }
        }
    }
}

/// The largest bounds of a tile for so many rows, whose inputs are `m` apart from one block to the next;
/// `VECTORS` vectors of outputs at a time. They are `done` of all rows.
///
/// # Safety
/// The tile is whole, and there are so many rows of inputs.
#[inline(always)]
unsafe fn bound<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    layout: Layout,
    tile: *const u8,
    (x, m): (*const Inputs, usize),
    done: Range<usize>,
) -> [f32; ROWS] {
    let none = s.splat_i(0);
    let mut largest = [f32::NEG_INFINITY; ROWS];
    for lane in (0..TILE).step_by(VECTORS * S::LANES) {
        let rows = (done.clone(), m);
        let ahead = ahead::<Four, Scale>(layout, tile, rows, (lane, VECTORS * S::LANES));
        let mut acc = [[s.zero(); VECTORS]; ROWS];
        // Where sums of products take all registers, results are better in memory from the outset than moved
        // there and back by the compiler.
        let acc = match 2 * ROWS * VECTORS < S::REGISTERS {
            true => &mut acc,
            false => black_box(&mut acc),
        };
        // SAFETY: inside of the tile and of the rows; what is asked for may be anywhere.
        unsafe {
            for b in 0..layout.blocks {
                ahead.ask(s, b);
                let codes = tile.add(b * Four::BYTES);
                let x = x.add(b * m);
                let mut open = [[s.open(none); VECTORS]; ROWS];
                let q = (&raw const (*x).q).cast::<u8>();
                unrolled!(g in [0, 1, 2, 3] => {
                    let (mut low, mut high) = ([none; VECTORS], [none; VECTORS]);
                    for v in 0..VECTORS {
                        (low[v], high[v]) = Four::groups(s, codes, g, lane + v * S::LANES);
                    }
                    add_group::<S, Four, ROWS, VECTORS>(s, low, (q.add(4 * g), 1), &mut open);
                    add_group::<S, Four, ROWS, VECTORS>(s, high, (q.add(16 + 4 * g), 1), &mut open);
                });
                let at = layout.at::<Four, Scale>(tile, b);
                let radii = tile.add(layout.supers + b * TILE);
                let (mut scales, mut distances) = ([s.zero(); VECTORS], [s.zero(); VECTORS]);
                for v in 0..VECTORS {
                    let lane = lane + v * S::LANES;
                    scales[v] = Scale::factor(s, at, 0, lane);
                    distances[v] = s.load_u8(radii.add(lane));
                }
                for r in 0..ROWS {
                    let x = &*x.add(r);
                    let (factor, common) = (s.splat(x.factor), s.splat(x.common));
                    let length = s.splat(x.length);
                    for v in 0..VECTORS {
                        let sum = s.to_float(s.close(open[r][v], none));
                        let others = s.fma(distances[v], length, common);
                        acc[r][v] = s.fma(scales[v], s.fma(sum, factor, others), acc[r][v]);
                    }
                }
            }
        }
        for r in 0..ROWS {
            for v in 0..VECTORS {
                largest[r] = largest[r].max(s.largest(acc[r][v]));
            }
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::{
                quantize::Blocks,
                testing::{Random, random_q8_0},
            },
            shortlist::tests::all,
        },
        *,
    };

    /// Codes whose lower halves are as far from their middle as can be, and rows that go with them.
    #[test]
    fn no_result_exceeds_its_bound() {
        let (n, k) = (33, 96);
        for isa in Isa::available() {
            for codes in [0x00, 0x0f, 0x80, 0x8f, 0x7f, 0xff] {
                let mut random = Random(u64::from(codes));
                let mut bytes = random_q8_0(n * k, &mut random);
                for block in bytes.chunks_exact_mut(34).step_by(2) {
                    block[2..].fill(codes);
                }
                let weight = Halved::pack(n, k, &bytes).unwrap();
                let mut far = random.floats(k);
                (far[5], far[40], far[41]) = (20.0, -30.0, 30.0);
                for x in [
                    vec![1.0; k],
                    vec![-1.0; k],
                    random.floats(k),
                    far,
                    vec![0.0; k],
                ] {
                    let mut memory = Blocks::default();
                    let x = memory.quantize(isa, &x, k);
                    let mut bounds = Buffer::default();
                    let bounds = weight.bounds(isa, 1, x, &mut bounds);
                    for (output, value) in all(isa, &weight, x).into_iter().enumerate() {
                        let bound = bounds[output / TILE];
                        assert!(
                            value <= bound,
                            "{isa:?} {codes:x} {output}: {value} {bound}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn inputs_far_out_of_their_block_are_apart() {
        let mut q = [3; BLOCK];
        assert_eq!(far_out(&q), (0.0, 3.0 * 32f32.sqrt()));
        (q[7], q[20]) = (-127, 100);
        assert_eq!(far_out(&q), (227.0, 3.0 * 30f32.sqrt()));
        assert_eq!(far_out(&[0; BLOCK]), (0.0, 0.0));
    }
}
