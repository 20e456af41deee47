//! The largest results of an output layer, found without computing all.
//!
//! Of each tile there is a bound that none of its results exceeds ([`bounds`](super::bounds)). The tiles with the
//! largest bounds are multiplied exactly, among which the largest result nearly always is; then all tiles are whose
//! bound reaches that result, or lies within the wanted margin of it. What is found is what the whole product would
//! have had, to the bit.
//!
//! After parts of a text some 3 % of the pairs of rows and tiles of Gemma's vocabulary are multiplied so. Where
//! it is half of a row's, the whole product is no slower, and is left to the caller.

use super::{
    super::{
        isa::{Isa, Kernel},
        memory::{Buffer, Cells, borrow_memory, give_back, written},
        quantize::Block,
        simd::Simd,
    },
    TILE,
    bounds::length,
    codes::{Codes, Full},
    halved::{Halved, Scale, layout, unite},
    product::micro,
};
use crate::compute;

/// The outputs of a row that were looked for, in order, with their results.
pub type Shortlist = Vec<(u32, f32)>;

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
pub(super) mod tests {
    use super::{
        super::super::{
            quantize::{BLOCK, Blocks},
            target::Target,
            testing::{Random, random_q8_0},
        },
        *,
    };

    /// All results of a row.
    pub(in super::super) fn all(isa: Isa, weight: &Halved, x: &[Block]) -> Vec<f32> {
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
