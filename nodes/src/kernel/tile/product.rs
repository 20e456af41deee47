//! The product of quantised rows with tiles.

use super::{
    super::{
        by_rows,
        isa::{Isa, Kernel},
        memory::{LINE, borrow_memory, give_back},
        quantize::Block,
        simd::Simd,
        target::Target,
    },
    Layout, TILE, Tiles,
    codes::{Codes, Full, Unpacked, unpack},
    scales::{At, Scales},
};
use crate::compute;
use std::{hint::black_box, marker::PhantomData, ops::Range};

/// Rows of the input that are taken together.
const ROWS_TOGETHER: usize = 96;

/// The product over all tiles, on the current pool; lengths and target are checked.
pub(super) fn run<C: Codes, G: Scales>(
    isa: Isa,
    weight: &Tiles,
    m: usize,
    x: &[Block],
    target: Target<'_>,
) {
    compute::parallel(units(m, weight.n), |units| {
        isa.run(Product::<C, G> {
            weight,
            m,
            x,
            target,
            units,
            types: PhantomData,
        });
    });
}

struct Product<'a, C, G> {
    weight: &'a Tiles,
    m: usize,
    x: &'a [Block],
    target: Target<'a>,
    units: Range<usize>,
    types: PhantomData<(C, G)>,
}

impl<C: Codes, G: Scales> Kernel for Product<'_, C, G> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.weight.n;
        let layout = Layout::of::<C, G>(self.weight.k);
        let data = self.weight.data.as_slice::<u8>();
        let is_packed = C::BYTES < Full::BYTES;
        let room = match is_packed && self.m >= S::UNPACKED_FROM {
            true => layout.blocks * Full::BYTES,
            false => 0,
        };
        let mut unpacked = borrow_memory::<u8>(room);
        for unit in self.units {
            let (rows, t) = rows_and_tile(unit, self.m, n);
            let tile = &data[t * layout.size..][..layout.size];
            let unit = Unit::new(layout, tile, (rows, t), (self.x, n), self.target);
            // SAFETY: the tile is whole, and so are its codes after they are unpacked; the target is
            // checked, and no other unit has these rows and columns.
            unsafe {
                if is_packed && unit.rows >= S::UNPACKED_FROM {
                    let codes = unpacked.as_mut_slice::<u8>().as_mut_ptr();
                    unpack::<S, C>(s, layout.blocks, tile.as_ptr(), codes);
                    multiply::<S, Unpacked<C>, G>(s, unit, codes, false);
                } else {
                    multiply::<S, C, G>(s, unit, tile.as_ptr(), true);
                }
            }
        }
        give_back(unpacked);
    }
}

/// How many units a product of `m` rows with `n` outputs has: parts of the rows, each with every tile.
pub(super) fn units(m: usize, n: usize) -> usize {
    m.div_ceil(ROWS_TOGETHER) * n.div_ceil(TILE)
}

/// The rows of a unit, and its tile.
#[inline(always)]
pub(super) fn rows_and_tile(unit: usize, m: usize, n: usize) -> (Range<usize>, usize) {
    let tiles = n.div_ceil(TILE);
    let first = unit / tiles * ROWS_TOGETHER;
    (first..m.min(first + ROWS_TOGETHER), unit % tiles)
}

/// Some rows times one tile.
#[derive(Clone, Copy)]
pub(super) struct Unit<'a> {
    layout: Layout,
    tile: &'a [u8],
    rows: usize,
    x: &'a [Block],
    target: Target<'a>,
    /// Where the result begins: row and column.
    place: (usize, usize),
    /// Outputs of the tile that there are.
    columns: usize,
}

impl<'a> Unit<'a> {
    /// Some of the rows `x` with the tile `t` of `n` outputs.
    #[inline(always)]
    pub(super) fn new(
        layout: Layout,
        tile: &'a [u8],
        (rows, t): (Range<usize>, usize),
        (x, n): (&'a [Block], usize),
        target: Target<'a>,
    ) -> Self {
        Self {
            layout,
            tile,
            rows: rows.len(),
            x: &x[rows.start * layout.blocks..rows.end * layout.blocks],
            target,
            place: (rows.start, t * TILE),
            columns: TILE.min(n - t * TILE),
        }
    }
}

/// Multiplies a unit, whose tile has these codes. `fetch` says that nobody has asked for them yet.
///
/// # Safety
/// The tile is whole, and so are the codes; the target is checked for the rows and columns, and nobody
/// else has them.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, C: Codes, G: Scales>(
    s: S,
    unit: Unit<'_>,
    codes: *const u8,
    fetch: bool,
) {
    let Unit {
        layout,
        rows,
        columns,
        ..
    } = unit;
    for lane in (0..columns).step_by(S::LANES) {
        let mut row = 0;
        while row < rows {
            let left = rows - row;
            let x = unit.x[row * layout.blocks..].as_ptr();
            let fetch = fetch && row == 0;
            // SAFETY: as many rows are left; otherwise as the caller says.
            row += by_rows!(S::TILE_ROWS, [8, 4, 2], left, ROWS => unsafe {
                let tile = unit.tile.as_ptr();
                let acc = micro::<S, C, G, ROWS>(s, layout, (codes, tile), x, lane, fetch);
                for r in 0..ROWS {
                    let (row, column) = (unit.place.0 + row + r, unit.place.1 + lane);
                    unit.target.write(s, row, column, columns - lane, acc[r]);
                }
            });
        }
    }
}

/// `ROWS` rows times the outputs of a tile from `lane` on; its codes stand apart from its scales where they
/// are unpacked. `fetch` says that it is the first time that the tile is read.
///
/// # Safety
/// `codes` and `tile` are whole, and there are so many rows of blocks.
#[inline(always)]
pub(super) unsafe fn micro<S: Simd, C: Codes, G: Scales, const ROWS: usize>(
    s: S,
    layout: Layout,
    (codes, tile): (*const u8, *const u8),
    x: *const Block,
    lane: usize,
    fetch: bool,
) -> [S::F; ROWS] {
    let second = usize::from(G::HALVES);
    // The next tile is asked for, a share of it with each block: it comes from main memory, and what is
    // asked for in time is there when its turn comes.
    let share = layout.size / (layout.blocks * TILE / S::LANES).max(1);
    // Where products take several steps there are no registers to prepare the codes of all groups ahead of
    // them, as a loop of known length would.
    let groups = if C::OPEN == 0 && S::CENTRES {
        black_box(4)
    } else {
        4
    };
    let mut acc = [s.zero(); ROWS];
    // SAFETY: inside of the tile and of the rows.
    unsafe {
        for b in 0..layout.blocks {
            let codes = codes.add(b * C::BYTES);
            if fetch {
                let next = tile.wrapping_add(layout.size);
                let passed = (lane / S::LANES * layout.blocks + b) * share;
                for line in (0..share).step_by(LINE) {
                    s.prefetch(next.wrapping_add(passed + line));
                }
            }
            let mut sums = [[s.splat_i(0); ROWS]; 2];
            let together = groups_together::<C, G>();
            for first in (0..groups).step_by(together) {
                let mut open = sums;
                if C::OPEN > 0 {
                    for half in 0..=second {
                        for r in 0..ROWS {
                            open[half][r] = s.open(sums[half][r]);
                        }
                    }
                }
                for g in first..first + together {
                    let (low, high) = C::groups(s, codes, g, lane);
                    for r in 0..ROWS {
                        let q = (&raw const (*x.add(r * layout.blocks + b)).q).cast::<u8>();
                        let q_low = s.splat_4(q.add(4 * g));
                        let q_high = s.splat_4(q.add(16 + 4 * g));
                        open[0][r] = dot::<S, C>(s, open[0][r], low, q_low);
                        open[second][r] = dot::<S, C>(s, open[second][r], high, q_high);
                    }
                }
                for half in 0..=second {
                    for r in 0..ROWS {
                        sums[half][r] = match C::OPEN {
                            0 => open[half][r],
                            _ => s.close(open[half][r], sums[half][r]),
                        };
                    }
                }
            }
            let at = At {
                block: tile.add(layout.scales + b * G::BYTES),
                supers: tile.add(layout.supers + b / 8 * G::SUPER_BYTES),
            };
            for half in 0..=second {
                let factor = G::factor(s, at, half, lane);
                for r in 0..ROWS {
                    let d = s.splat((*x.add(r * layout.blocks + b)).d);
                    let sum = s.to_float(sums[half][r]);
                    acc[r] = s.fma(sum, s.mul(factor, d), acc[r]);
                }
                // What is taken from every code comes off like a minimum, unless products do it.
                let offset = if C::OPEN == 0 && S::CENTRES {
                    0
                } else {
                    G::OFFSET
                };
                if G::MINIMUM || offset != 0 {
                    let minimum = match offset {
                        0 => G::minimum(s, at, half, lane),
                        _ => s.mul(factor, s.splat(offset as f32)),
                    };
                    let minimum = s.sub(s.zero(), minimum);
                    for r in 0..ROWS {
                        let x = &*x.add(r * layout.blocks + b);
                        let sum = if G::HALVES { x.d_sums[half] } else { x.d_sum };
                        acc[r] = s.fma(minimum, s.splat(sum), acc[r]);
                    }
                }
            }
        }
    }
    acc
}

/// How many groups of low and of high codes go into one open sum: a divisor of 4.
const fn groups_together<C: Codes, G: Scales>() -> usize {
    // Low and high ones go into the same sum, unless they have scales of their own.
    let groups = if G::HALVES { C::OPEN } else { C::OPEN / 2 };
    match groups {
        0 => 1,
        1..4 => groups,
        _ => 4,
    }
}

/// Adds the products of a group to an open sum, or to the sum itself where codes are too large for that.
#[inline(always)]
fn dot<S: Simd, C: Codes>(s: S, sum: S::I, codes: S::I, q: S::I) -> S::I {
    match C::OPEN {
        0 => s.dot_codes(sum, codes, q),
        _ => s.dot_open(sum, codes, q),
    }
}
