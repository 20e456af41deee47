//! The product of quantised rows with tiles.

use super::{
    super::{
        ahead::Ahead,
        by_rows,
        grid::Grid,
        isa::{Isa, Kernel},
        memory::{LINE, borrow_memory, give_back},
        quantize::Block,
        simd::{MAX_TILE_ROWS, Simd},
        target::Target,
    },
    Layout, TILE, Tiles,
    codes::{Codes, Full, Unpacked, unpack},
    scales::{At, Scales},
};
use crate::compute::Work;
use std::{hint::black_box, marker::PhantomData, ops::Range};

/// Rows of the input that are taken together.
const ROWS_TOGETHER: usize = 96;
/// The first of them ask for the next tile.
const ASKING_ROWS: usize = 16;
/// Blocks that are unpacked together, so that their codes and sums stay in the nearest cache.
const STAGE: usize = 24;
/// Bytes of their sums, two for each output of the rows that go together.
const STAGED_SUMS: usize = STAGE * 2 * 4 * TILE * MAX_TILE_ROWS;
/// Bytes of both.
const STAGED: usize = STAGED_SUMS + STAGE * Full::BYTES;
/// Bytes of the results of a row, which carry from some blocks to the next.
const CARRIED: usize = 4 * TILE;

/// The product over all tiles; lengths and target are checked.
pub(super) fn work<'a, C: Codes, G: Scales>(
    isa: Isa,
    weight: &'a Tiles,
    m: usize,
    x: &'a [Block],
    target: Target<'a>,
) -> Work<'a> {
    let grid = grid(m, weight.n);
    Work::new(grid.units(), move |units| {
        isa.run(Product::<C, G> {
            weight,
            m,
            grid,
            x,
            target,
            units,
            types: PhantomData,
        });
    })
}

struct Product<'a, C, G> {
    weight: &'a Tiles,
    m: usize,
    grid: Grid,
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
        let is_staged = C::BYTES < Full::BYTES && self.m >= S::STAGED_FROM;
        let mut memory = borrow_memory::<u8>(match is_staged {
            true => STAGED + ROWS_TOGETHER * CARRIED,
            false => 0,
        });
        for unit in self.units {
            let (rows, t) = self.grid.unit(unit);
            let tile = &data[t * layout.size..][..layout.size];
            let unit = Unit::new(layout, tile, (rows, t), (self.x, n), self.target);
            // SAFETY: the tile is whole, the target is checked, no other unit has these rows and columns, and
            // there is so much memory.
            unsafe {
                if is_staged && unit.rows >= S::STAGED_FROM {
                    let memory = memory.as_mut_slice::<u8>().as_mut_ptr();
                    match TILE / S::LANES {
                        1 => multiply_staged::<S, C, G, 1>(s, unit, memory),
                        _ => multiply_staged::<S, C, G, 2>(s, unit, memory),
                    }
                } else {
                    multiply::<S, C, G>(s, unit, tile.as_ptr(), true);
                }
            }
        }
        give_back(memory);
    }
}

/// The units of a product of `m` rows with `n` outputs: some rows times a tile.
pub(super) fn grid(m: usize, n: usize) -> Grid {
    Grid::new(m, ROWS_TOGETHER, n.div_ceil(TILE))
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

    /// The blocks of a row.
    #[inline(always)]
    fn row(&self, row: usize) -> *const Block {
        self.x[row * self.layout.blocks..].as_ptr()
    }

    /// What so many rows ask for while they are multiplied with so many outputs; nothing where others have
    /// asked for all of the next tile.
    #[inline(always)]
    fn ahead<C: Codes, G: Scales>(
        &self,
        (row, rows): (usize, usize),
        (lane, lanes): (usize, usize),
    ) -> Option<Ahead> {
        let asking = self.rows.min(ASKING_ROWS);
        let tile = self.tile.as_ptr();
        (row < asking)
            .then(|| ahead::<C, G>(self.layout, tile, (row..row + rows, asking), (lane, lanes)))
    }

    /// Writes results of a row, for the outputs from `lane` on.
    ///
    /// # Safety
    /// The target is checked for the row and the columns, and nobody else has them.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, s: S, row: usize, lane: usize, values: S::F) {
        if lane < self.columns {
            let (row, column) = (self.place.0 + row, self.place.1 + lane);
            // SAFETY: as the caller says.
            unsafe {
                self.target
                    .write(s, row, column, self.columns - lane, values);
            }
        }
    }
}

/// Multiplies a unit, whose tile has these codes. `fetch` says that nobody has asked for the next one yet.
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
    for lane in (0..unit.columns).step_by(S::LANES) {
        let mut row = 0;
        while row < unit.rows {
            // SAFETY: as many rows are left; otherwise as the caller says.
            row += by_rows!(S::TILE_ROWS, [8, 4, 2], unit.rows - row, ROWS => unsafe {
                let ahead = match fetch {
                    true => unit.ahead::<C, G>((row, ROWS), (lane, S::LANES)),
                    false => None,
                };
                let x = unit.row(row);
                let codes = (codes, unit.tile.as_ptr());
                let acc = micro::<S, C, G, ROWS>(s, unit.layout, codes, x, lane, ahead);
                for r in 0..ROWS {
                    unit.write(s, row + r, lane, acc[r]);
                }
            });
        }
    }
}

/// As [`multiply`], for many rows: codes are unpacked first, and `VECTORS` vectors of outputs go together.
///
/// # Safety
/// As there, and there are [`STAGED`] bytes and [`CARRIED`] for each row.
#[inline(always)]
unsafe fn multiply_staged<S: Simd, C: Codes, G: Scales, const VECTORS: usize>(
    s: S,
    unit: Unit<'_>,
    memory: *mut u8,
) {
    let (layout, tile) = (unit.layout, unit.tile.as_ptr());
    // SAFETY: the memory is so large.
    let (codes, carried) = unsafe { (memory.add(STAGED_SUMS), memory.add(STAGED)) };
    let parts = layout.blocks.div_ceil(STAGE).max(1);
    let part = layout.blocks.div_ceil(parts).max(1);
    // Even without blocks there is a result.
    for first in (0..layout.blocks.max(1)).step_by(part) {
        let stage = Stage {
            unit,
            blocks: first..layout.blocks.min(first + part),
            codes,
            sums: memory,
            carried: carried.cast(),
        };
        // SAFETY: the codes of so many blocks are there, and room for them.
        unsafe { unpack::<S, C>(s, stage.blocks.len(), tile.add(first * C::BYTES), codes) };
        for lane in (0..unit.columns).step_by(VECTORS * S::LANES) {
            let mut row = 0;
            while row < unit.rows {
                // SAFETY: as many rows are left; otherwise as the caller says.
                row += by_rows!(S::TILE_ROWS, [8, 4, 2], unit.rows - row, ROWS => unsafe {
                    stage.micro::<S, C, G, ROWS, VECTORS>(s, row, lane);
                });
            }
        }
    }
}

/// Some blocks of a unit, whose codes are unpacked.
struct Stage<'a> {
    unit: Unit<'a>,
    blocks: Range<usize>,
    codes: *const u8,
    /// Room for the sums of [`STAGE`] blocks.
    sums: *mut u8,
    /// The results up to these blocks: [`CARRIED`] bytes a row.
    carried: *mut f32,
}

impl Stage<'_> {
    /// `ROWS` rows, from `row` on, times the outputs from `lane` on. Of all blocks the products are added up,
    /// then all sums are scaled: products of bytes and of floats in turns would wait for each other.
    ///
    /// # Safety
    /// As for [`multiply_staged`], and there are so many rows and outputs.
    #[inline(always)]
    unsafe fn micro<S: Simd, C: Codes, G: Scales, const ROWS: usize, const VECTORS: usize>(
        &self,
        s: S,
        row: usize,
        lane: usize,
    ) {
        let Unit { layout, tile, .. } = self.unit;
        let x = self.unit.row(row);
        let ahead = self
            .unit
            .ahead::<C, G>((row, ROWS), (lane, VECTORS * S::LANES));
        let carried = self.carried.wrapping_add(row * TILE + lane);
        let carried = |r: usize, v: usize| carried.wrapping_add(r * TILE + v * S::LANES);
        // SAFETY: as the caller says.
        unsafe {
            let mut to = self.sums;
            for b in self.blocks.clone() {
                if let Some(ahead) = ahead {
                    ahead.ask(s, b);
                }
                let codes = self.codes.add((b - self.blocks.start) * Full::BYTES);
                let x = (x.add(b), layout.blocks);
                let of_block = sums::<S, Unpacked<C>, G, ROWS, VECTORS>(s, codes, x, lane);
                for sum in of_block[..halves::<G>()].as_flattened().as_flattened() {
                    s.store_i(to, *sum);
                    to = to.add(4 * S::LANES);
                }
            }
            let mut acc = [[s.zero(); VECTORS]; ROWS];
            if self.blocks.start > 0 {
                for r in 0..ROWS {
                    for v in 0..VECTORS {
                        acc[r][v] = s.load(carried(r, v));
                    }
                }
            }
            let mut from = self.sums.cast_const();
            for b in self.blocks.clone() {
                let mut of_block = [[[s.splat_i(0); VECTORS]; ROWS]; 2];
                for sum in of_block[..halves::<G>()]
                    .as_flattened_mut()
                    .as_flattened_mut()
                {
                    *sum = s.load_i(from);
                    from = from.add(4 * S::LANES);
                }
                let at = layout.at::<C, G>(tile.as_ptr(), b);
                let x = (x.add(b), layout.blocks);
                add_scaled::<S, Unpacked<C>, G, ROWS, VECTORS>(s, at, x, lane, of_block, &mut acc);
            }
            let is_last = self.blocks.end == layout.blocks;
            for r in 0..ROWS {
                for v in 0..VECTORS {
                    if is_last {
                        self.unit.write(s, row + r, lane + v * S::LANES, acc[r][v]);
                    } else {
                        s.store(carried(r, v), acc[r][v]);
                    }
                }
            }
        }
    }
}

/// `ROWS` rows times the outputs of a tile from `lane` on; its codes stand apart from its scales where they
/// are unpacked. With each block some memory is asked for.
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
    ahead: Option<Ahead>,
) -> [S::F; ROWS] {
    let mut acc = [[s.zero(); 1]; ROWS];
    for b in 0..layout.blocks {
        // SAFETY: inside of the tile and of the rows.
        unsafe {
            if let Some(ahead) = ahead {
                ahead.ask(s, b);
            }
            let (codes, x) = (codes.add(b * C::BYTES), (x.add(b), layout.blocks));
            let of_block = sums::<S, C, G, ROWS, 1>(s, codes, x, lane);
            let at = layout.at::<C, G>(tile, b);
            add_scaled::<S, C, G, ROWS, 1>(s, at, x, lane, of_block, &mut acc);
        }
    }
    acc.map(|[acc]| acc)
}

/// What the products of a block's codes with rows, whose blocks are so far apart, add up to for the outputs from
/// `lane` on; the second half has sums of its own where it has scales.
///
/// # Safety
/// The codes of the block are there, and so many rows.
#[inline(always)]
unsafe fn sums<S: Simd, C: Codes, G: Scales, const ROWS: usize, const VECTORS: usize>(
    s: S,
    codes: *const u8,
    (x, stride): (*const Block, usize),
    lane: usize,
) -> [[[S::I; VECTORS]; ROWS]; 2] {
    let second = halves::<G>() - 1;
    // Where products take several steps, or as many sums are open as there are registers, there are none to
    // prepare the codes of all groups ahead of them, as a loop of known length would.
    let groups = if C::OPEN == 0 && S::CENTRES {
        black_box(4)
    } else {
        4
    };
    let none = s.splat_i(0);
    let mut sums = [[[none; VECTORS]; ROWS]; 2];
    let together = groups_together::<C, G>();
    for first in (0..groups).step_by(together) {
        let mut open = sums;
        if C::OPEN > 0 {
            for half in 0..=second {
                for r in 0..ROWS {
                    for v in 0..VECTORS {
                        open[half][r][v] = s.open(sums[half][r][v]);
                    }
                }
            }
        }
        let end = match VECTORS > 1 && together == 4 {
            true => black_box(first + together),
            false => first + together,
        };
        for g in first..end {
            let mut codes_of = [(none, none); VECTORS];
            for v in 0..VECTORS {
                // SAFETY: the block is whole.
                codes_of[v] = unsafe { C::groups(s, codes, g, lane + v * S::LANES) };
            }
            for r in 0..ROWS {
                // SAFETY: there are so many rows.
                let (low, high) = unsafe {
                    let q = (&raw const (*x.add(r * stride)).q).cast::<u8>();
                    (s.splat_4(q.add(4 * g)), s.splat_4(q.add(16 + 4 * g)))
                };
                for v in 0..VECTORS {
                    open[0][r][v] = dot::<S, C>(s, open[0][r][v], codes_of[v].0, low);
                    open[second][r][v] = dot::<S, C>(s, open[second][r][v], codes_of[v].1, high);
                }
            }
        }
        for half in 0..=second {
            for r in 0..ROWS {
                for v in 0..VECTORS {
                    sums[half][r][v] = match C::OPEN {
                        0 => open[half][r][v],
                        _ => s.close(open[half][r][v], sums[half][r][v]),
                    };
                }
            }
        }
    }
    sums
}

/// Adds a block's sums to results, with the scales that are `at` some place.
///
/// # Safety
/// The scales are there, and so many rows, whose blocks are so far apart.
#[inline(always)]
unsafe fn add_scaled<S: Simd, C: Codes, G: Scales, const ROWS: usize, const VECTORS: usize>(
    s: S,
    at: At,
    (x, stride): (*const Block, usize),
    lane: usize,
    sums: [[[S::I; VECTORS]; ROWS]; 2],
    acc: &mut [[S::F; VECTORS]; ROWS],
) {
    // What is taken from every code comes off like a minimum, unless products do it.
    let offset = if C::OPEN == 0 && S::CENTRES {
        0
    } else {
        G::OFFSET
    };
    for half in 0..halves::<G>() {
        let (mut factors, mut minimums) = ([s.zero(); VECTORS], [s.zero(); VECTORS]);
        for v in 0..VECTORS {
            let lane = lane + v * S::LANES;
            // SAFETY: as the caller says.
            factors[v] = unsafe { G::factor(s, at, half, lane) };
            let minimum = match offset {
                // SAFETY: as the caller says.
                0 => unsafe { G::minimum(s, at, half, lane) },
                _ => s.mul(factors[v], s.splat(offset as f32)),
            };
            minimums[v] = s.sub(s.zero(), minimum);
        }
        for r in 0..ROWS {
            // SAFETY: as the caller says.
            let x = unsafe { &*x.add(r * stride) };
            let d = s.splat(x.d);
            let sum = s.splat(if G::HALVES { x.d_sums[half] } else { x.d_sum });
            for v in 0..VECTORS {
                let value = s.to_float(sums[half][r][v]);
                acc[r][v] = s.fma(value, s.mul(factors[v], d), acc[r][v]);
                if G::MINIMUM || offset != 0 {
                    acc[r][v] = s.fma(minimums[v], sum, acc[r][v]);
                }
            }
        }
    }
}

/// How many sums a block has for each row and output.
const fn halves<G: Scales>() -> usize {
    if G::HALVES { 2 } else { 1 }
}

/// What some of so many rows ask for, the next tile, while they are multiplied with the outputs from `lane` on, of
/// which `lanes` go together.
#[inline(always)]
pub(super) fn ahead<C: Codes, G: Scales>(
    layout: Layout,
    tile: *const u8,
    (rows, all): (Range<usize>, usize),
    (lane, lanes): (usize, usize),
) -> Ahead {
    let next = (tile.wrapping_add(layout.size), layout.size);
    let begun = lane / lanes * all;
    let done = (begun + rows.start..begun + rows.end, all * TILE / lanes);
    let bytes = C::BYTES + G::BYTES + G::SUPER_BYTES.div_ceil(8);
    // One more for what a tile is filled up with, and for what else it may hold.
    let lines = (bytes * lanes / TILE).div_ceil(LINE) + 1;
    Ahead::share(next, done, layout.blocks, lines)
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
