//! The largest results of an output layer, found without computing all.
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
//! result exceeds, and [`Halved::bounds`] computes it of whole tiles. The tiles with the largest bounds are multiplied
//! exactly, among which the largest result nearly always is; then all tiles are whose bound reaches that result, or
//! lies within the wanted margin of it. What is found is what the whole product would have had, to the bit.
//!
//! After parts of a text some 3 % of the pairs of rows and tiles of Gemma's vocabulary are multiplied so. Where
//! it is half of a row's, the whole product is no slower, and is left to the caller.

use super::{
    super::{
        by_rows,
        isa::{Isa, Kernel},
        memory::{Buffer, Cells, borrow_memory, give_back, written},
        quantize::{BLOCK, Block},
        simd::Simd,
        unrolled,
    },
    Layout, TILE,
    codes::{Codes, Four, Full},
    halved::{Halved, MIDDLE, RADIUS, ROUNDING, Scale, layout, unite},
    product::{add_group, ahead, micro},
    scales::Scales,
};
use crate::compute;
use std::{hint::black_box, ops::Range};

/// The outputs of a row that were looked for, in order, with their results.
pub type Shortlist = Vec<(u32, f32)>;

/// How far the lower halves of a block usually are from their middle: `sqrt(32 * 21.25)` if all are as likely.
const DISTANCE: f32 = 26.08;

/// Tiles that are multiplied first. With one alone, four of five times the largest result is in it, with eight it
/// was in all of 216 rows of Gemma's; where it is not, many more tiles are reached in vain.
const FIRST: usize = 8;

/// Tiles whose bounds are looked through together.
const TILES_TOGETHER: usize = 1024;

/// Blocks of inputs that are longer could make a bound infinite.
const LONGEST: f32 = 1e15;

/// A tile and the row that it is multiplied with.
#[derive(Debug, Clone, Copy)]
struct Pair {
    tile: usize,
    row: usize,
}

impl Halved {
    /// For each row its largest result, and all within its margin of that, on the current pool. None for a row
    /// whose whole product would be no slower, or that has infinite inputs.
    /// Bounds go to `memory`.
    pub(crate) fn shortlists(
        &self,
        isa: Isa,
        x: &[Block],
        margins: &[f32],
        memory: &mut Buffer,
    ) -> Vec<Option<Shortlist>> {
        let (m, blocks, tiles) = (margins.len(), layout(self.k).blocks, self.n.div_ceil(TILE));
        assert_eq!(x.len(), m * blocks, "rows and margins");
        if self.n == 0 {
            return vec![None; m];
        }
        let bounds = self.bounds(isa, m, x, memory);
        let bounds = |row: usize| &bounds[row * tiles..][..tiles];
        let first = compute::map(m, |row| {
            let tiles = places_of_largest::<FIRST>(bounds(row));
            tiles.map(|tile| Pair { tile, row })
        });
        let first = first.as_flattened();
        let mut best = vec![f32::NEG_INFINITY; m];
        for (Pair { tile, row }, values) in first.iter().zip(self.exact(isa, x, first).chunks(TILE))
        {
            let values = &values[..TILE.min(self.n - tile * TILE)];
            best[*row] = values.iter().copied().fold(best[*row], f32::max);
        }
        let least = compute::map(m, |row| {
            let inputs = &x[row * blocks..][..blocks];
            match inputs.iter().all(|block| length(block) < LONGEST) {
                true => best[row] - margins[row].max(0.0),
                false => f32::NAN,
            }
        });
        let mut lists = compute::map(m, |row| {
            let reached = bounds(row).iter().filter(|bound| **bound >= least[row]);
            let is_short = least[row].is_finite() && reached.count() <= (tiles / 2).max(1);
            is_short.then(Shortlist::new)
        });
        let rows: Vec<usize> = (0..m).filter(|row| lists[*row].is_some()).collect();
        // One tile after the other, whose codes are put together once.
        let pairs = compute::map(tiles.div_ceil(TILES_TOGETHER), |part| {
            let part = part * TILES_TOGETHER..tiles.min((part + 1) * TILES_TOGETHER);
            let of_tile = |tile| rows.iter().map(move |row| Pair { tile, row: *row });
            let reached = |pair: &Pair| bounds(pair.row)[pair.tile] >= least[pair.row];
            part.flat_map(of_tile).filter(reached).collect::<Vec<_>>()
        });
        let pairs = pairs.concat();
        for (Pair { tile, row }, values) in
            pairs.iter().zip(self.exact(isa, x, &pairs).chunks(TILE))
        {
            let outputs = (tile * TILE..self.n).zip(values);
            let near = outputs.filter(|(_, value)| **value >= least[*row]);
            let near = near.map(|(output, value)| (output as u32, *value));
            lists[*row].get_or_insert_default().extend(near);
        }
        lists
    }

    /// The most that an output of each tile can be, `[m, tiles]`.
    fn bounds<'a>(&self, isa: Isa, m: usize, x: &[Block], memory: &'a mut Buffer) -> &'a [f32] {
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

    /// The results of tiles, 16 each; those of outputs that there are not are 0.
    fn exact(&self, isa: Isa, x: &[Block], pairs: &[Pair]) -> Vec<f32> {
        // SAFETY: each unit writes the results of its pairs.
        unsafe {
            written(pairs.len() * TILE, |out| {
                compute::parallel(pairs.len(), |units| {
                    isa.run(Exact {
                        weight: self,
                        x,
                        pairs: &pairs[units.clone()],
                        out,
                        first: units.start,
                    });
                });
            })
        }
    }
}

/// The length of what a block stands for.
fn length(block: &Block) -> f32 {
    let squares: i32 = block.q.iter().map(|q| i32::from(*q) * i32::from(*q)).sum();
    block.d * (squares as f32).sqrt()
}

/// Where the largest numbers are; some places more than once if there are fewer.
fn places_of_largest<const N: usize>(values: &[f32]) -> [usize; N] {
    let mut best = [(f32::NEG_INFINITY, 0); N];
    for (place, value) in values.iter().enumerate() {
        if *value > best[N - 1].0 {
            let rank = best.partition_point(|(other, _)| other >= value);
            best[rank..].rotate_right(1);
            best[rank] = (*value, place);
        }
    }
    best.map(|(_, place)| place)
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

struct Exact<'a> {
    weight: &'a Halved,
    x: &'a [Block],
    pairs: &'a [Pair],
    /// 16 for each pair of all.
    out: Cells<'a, f32>,
    /// Which of all the first of these pairs is.
    first: usize,
}

impl Kernel for Exact<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let layout = layout(self.weight.k);
        let mut memory = borrow_memory::<u8>(layout.blocks * Full::BYTES);
        let codes = memory.as_mut_slice::<u8>().as_mut_ptr();
        let mut of_tiles = self.pairs.chunk_by(|a, b| a.tile == b.tile).peekable();
        let mut at = self.first * TILE;
        while let Some(pairs) = of_tiles.next() {
            let next = of_tiles.peek().unwrap_or(&pairs)[0].tile;
            let [tile, next] = [pairs[0].tile, next].map(|t| self.weight.halves(layout, t));
            // SAFETY: both halves are whole, and there is room for their codes.
            unsafe { unite(s, layout, tile, next, codes) };
            for Pair { row, .. } in pairs {
                let x = self.x[row * layout.blocks..][..layout.blocks].as_ptr();
                for lane in (0..TILE).step_by(S::LANES) {
                    let places = (codes.cast_const(), tile.upper);
                    // SAFETY: as above, and the row has as many blocks; no other unit has this pair.
                    unsafe {
                        let [values] = micro::<S, Full, Scale, 1>(s, layout, places, x, lane, None);
                        s.store(self.out.at(at + lane, S::LANES), values);
                    }
                }
                at += TILE;
            }
        }
        give_back(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{
            quantize::Blocks,
            target::Target,
            testing::{Random, random_q8_0},
        },
        *,
    };

    /// All results of a row.
    fn all(isa: Isa, weight: &Halved, x: &[Block]) -> Vec<f32> {
        // SAFETY: the product writes the whole row.
        unsafe {
            written(weight.n, |out| {
                let target = Target::whole(out, weight.n);
                compute::run_all(&[weight.product(isa, 1, x, target)]);
            })
        }
    }

    /// Rows that are near an output each, so that its result stands out.
    fn rows_near_outputs(weight: &Halved, m: usize, random: &mut Random) -> Vec<f32> {
        let mut x = vec![0.0; m * weight.k];
        for row in x.chunks_mut(weight.k) {
            weight.row(random.below(weight.n), row);
            row.iter_mut().for_each(|x| *x += 0.3 * random.float());
        }
        x
    }

    #[test]
    fn lists_have_what_the_whole_product_has() {
        let (mut short, mut found) = (0, 0);
        for (n, k) in [(1, 32), (7, 64), (640, 64), (1000, 256), (3000, 640)] {
            let mut random = Random(n as u64);
            let weight = Halved::pack(n, k, &random_q8_0(n * k, &mut random)).unwrap();
            for m in [1, 2, 3, 5, 9] {
                let x = rows_near_outputs(&weight, m, &mut random);
                let margins: Vec<f32> = (0..m).map(|row| [0.0, 1.0, 30.0][row % 3]).collect();
                for isa in Isa::available() {
                    let mut memory = Blocks::default();
                    let blocks = memory.quantize(isa, &x, k);
                    let lists = weight.shortlists(isa, blocks, &margins, &mut Buffer::default());
                    assert_eq!(lists.len(), m);
                    for (row, list) in lists.into_iter().enumerate() {
                        let all = all(isa, &weight, &blocks[row * k / BLOCK..][..k / BLOCK]);
                        let best = all.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        let near = |value: &f32| *value >= best - margins[row];
                        let want: Shortlist = (0..).zip(all).filter(|(_, v)| near(v)).collect();
                        let Some(list) = list else { continue };
                        // Others beside them are within the margin of what was the best at first.
                        let got: Shortlist = list.into_iter().filter(|(_, v)| near(v)).collect();
                        assert_eq!(got, want, "{isa:?} {n}x{k}, row {row} of {m}");
                        short += 1;
                        found += want.len();
                    }
                }
            }
        }
        println!("{short} lists of {found} results");
        assert!(short > 100 && found > short);
    }

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
    fn the_largest_are_found_in_order() {
        let values = [3.0, f32::NAN, 7.0, -1.0, 7.0, 5.0];
        assert_eq!(places_of_largest::<1>(&values), [2]);
        assert_eq!(places_of_largest::<4>(&values), [2, 4, 5, 0]);
        assert_eq!(places_of_largest::<3>(&[1.0]), [0; 3]);
        let all = Random(5).floats(1000);
        let mut places: Vec<usize> = (0..1000).collect();
        places.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
        assert_eq!(places_of_largest::<8>(&all), places[..8]);
    }

    #[test]
    fn inputs_far_out_of_their_block_are_apart() {
        let mut q = [3; BLOCK];
        assert_eq!(far_out(&q), (0.0, 3.0 * 32f32.sqrt()));
        (q[7], q[20]) = (-127, 100);
        assert_eq!(far_out(&q), (227.0, 3.0 * 30f32.sqrt()));
        assert_eq!(far_out(&[0; BLOCK]), (0.0, 0.0));
    }

    #[test]
    fn rows_that_are_too_long_have_no_list() {
        let (n, k) = (200, 64);
        let weight = Halved::pack(n, k, &random_q8_0(n * k, &mut Random(2))).unwrap();
        for isa in Isa::available() {
            for odd in [f32::INFINITY, -1e20] {
                let mut x = vec![1.0; 2 * k];
                x[k + 40] = odd;
                let mut memory = Blocks::default();
                let x = memory.quantize(isa, &x, k);
                let lists = weight.shortlists(isa, x, &[0.0; 2], &mut Buffer::default());
                assert!(lists[1].is_none(), "{isa:?} {odd}");
            }
        }
        let none = weight.shortlists(Isa::best(), &[], &[], &mut Buffer::default());
        assert_eq!(none, []);
    }
}
