//! The product of quantised rows with tiles.

use super::{
    super::{
        ahead::Ahead,
        by_rows,
        grid::Grid,
        isa::{Isa, Kernel},
        memory::{LINE, borrow_memory, give_back},
        quantize::Block,
        simd::Simd,
        target::Target,
        unrolled,
    },
    Layout, TILE, Tiles,
    codes::{Codes, Full},
    scales::{At, Scales},
    staged,
};
use crate::compute::Work;
use std::{marker::PhantomData, ops::Range};

/// Rows of the input that are taken together.
const ROWS_TOGETHER: usize = 96;
/// The first of them ask for the next tile.
const ASKING_ROWS: usize = 16;
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
            true => staged::memory(ROWS_TOGETHER),
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
                        1 => staged::multiply::<S, C, G, 1>(s, unit, memory),
                        _ => staged::multiply::<S, C, G, 2>(s, unit, memory),
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
    pub(super) layout: Layout,
    pub(super) tile: &'a [u8],
    pub(super) rows: usize,
    x: &'a [Block],
    target: Target<'a>,
    /// Where the result begins: row and column.
    place: (usize, usize),
    /// Outputs of the tile that there are.
    pub(super) columns: usize,
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
    pub(super) fn row(&self, row: usize) -> *const Block {
        self.x[row * self.layout.blocks..].as_ptr()
    }

    /// What so many rows ask for while they are multiplied with so many outputs; nothing where others have
    /// asked for all of the next tile.
    #[inline(always)]
    pub(super) fn ahead<C: Codes, G: Scales>(
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
    pub(super) unsafe fn write<S: Simd>(&self, s: S, row: usize, lane: usize, values: S::F) {
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
            let of_block = sums::<S, C, G, ROWS>(s, codes, x, lane);
            let at = layout.at::<C, G>(tile, b);
            add_scaled::<S, G, ROWS, 1>(s, at, x, lane, of_block, &mut acc);
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
unsafe fn sums<S: Simd, C: Codes, G: Scales, const ROWS: usize>(
    s: S,
    codes: *const u8,
    (x, stride): (*const Block, usize),
    lane: usize,
) -> [[[S::I; 1]; ROWS]; 2] {
    let second = halves::<G>() - 1;
    // Two groups at a time, a low and a high one.
    let together = (const { groups_together::<C, G>() } * (1 + second)).div_ceil(2);
    let mut sums = [[[s.splat_i(0); 1]; ROWS]; 2];
    let mut open = sums;
    // SAFETY: as the caller says, of all groups.
    unsafe {
        unrolled!(g in [0, 1, 2, 3] => {
            if g.is_multiple_of(together) {
                for half in 0..=second {
                    open[half] = opened::<S, C, G, ROWS, 1>(s, half, sums[half], (x, stride));
                }
            }
            let q = (&raw const (*x).q).cast::<u8>();
            let (low, high) = C::groups(s, codes, g, lane);
            add_group::<S, C, ROWS, 1>(s, [low], (q.add(4 * g), stride), &mut open[0]);
            add_group::<S, C, ROWS, 1>(s, [high], (q.add(16 + 4 * g), stride), &mut open[second]);
            if (g + 1).is_multiple_of(together) {
                for half in 0..=second {
                    sums[half] = closed::<S, C, ROWS, 1>(s, open[half], sums[half]);
                }
            }
        });
    }
    sums
}

/// Sums of the products of a half, or of all, that go on from others.
///
/// # Safety
/// There are so many rows, whose blocks are so far apart.
#[inline(always)]
pub(super) unsafe fn opened<
    S: Simd,
    C: Codes,
    G: Scales,
    const ROWS: usize,
    const VECTORS: usize,
>(
    s: S,
    half: usize,
    sums: [[S::I; VECTORS]; ROWS],
    (x, stride): (*const Block, usize),
) -> [[S::I; VECTORS]; ROWS] {
    let mut open = sums;
    for r in 0..ROWS {
        // SAFETY: as the caller says.
        let lacks = unsafe { &(*x.add(r * stride)).lacks };
        let lacks = &raw const lacks[if G::HALVES { half } else { 2 }];
        for v in 0..VECTORS {
            if C::LARGEST > LARGEST_OPEN {
                // Its products are added to the sum itself.
            } else if S::CENTRES && G::OFFSET > 0 {
                // SAFETY: they are there.
                open[r][v] = unsafe { s.open_less(lacks, G::OFFSET) };
            } else {
                open[r][v] = s.open(sums[r][v]);
            }
        }
    }
    open
}

/// What such sums come to.
#[inline(always)]
pub(super) fn closed<S: Simd, C: Codes, const ROWS: usize, const VECTORS: usize>(
    s: S,
    open: [[S::I; VECTORS]; ROWS],
    mut sums: [[S::I; VECTORS]; ROWS],
) -> [[S::I; VECTORS]; ROWS] {
    for r in 0..ROWS {
        for v in 0..VECTORS {
            sums[r][v] = match C::LARGEST > LARGEST_OPEN {
                true => open[r][v],
                false => s.close(open[r][v], sums[r][v]),
            };
        }
    }
    sums
}

/// Adds the products of a group of codes to open sums, with the bytes `q` of rows whose blocks, a line of the cache
/// each, are so far apart.
///
/// # Safety
/// There are so many rows.
#[inline(always)]
pub(super) unsafe fn add_group<S: Simd, C: Codes, const ROWS: usize, const VECTORS: usize>(
    s: S,
    codes: [S::I; VECTORS],
    (q, stride): (*const u8, usize),
    open: &mut [[S::I; VECTORS]; ROWS],
) {
    for r in 0..ROWS {
        // SAFETY: as the caller says.
        let q = unsafe { s.splat_4(q.add(r * stride * LINE)) };
        for v in 0..VECTORS {
            open[r][v] = s.in_order_i(match C::LARGEST > LARGEST_OPEN {
                true => s.dot_codes(open[r][v], codes[v], q),
                false => s.dot_open(open[r][v], codes[v], q),
            });
        }
    }
}

/// Adds a block's sums to results, with the scales that are `at` some place.
///
/// # Safety
/// The scales are there, and so many rows, whose blocks are so far apart.
#[inline(always)]
pub(super) unsafe fn add_scaled<S: Simd, G: Scales, const ROWS: usize, const VECTORS: usize>(
    s: S,
    at: At,
    (x, stride): (*const Block, usize),
    lane: usize,
    sums: [[[S::I; VECTORS]; ROWS]; 2],
    acc: &mut [[S::F; VECTORS]; ROWS],
) {
    // What is taken from every code comes off like a minimum, unless products do it.
    let offset = if S::CENTRES { 0 } else { G::OFFSET };
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
pub(super) const fn halves<G: Scales>() -> usize {
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

/// The largest code whose products are added up in 16 bits: two of them, with bytes of up to 127.
const LARGEST_OPEN: i32 = i16::MAX as i32 / (2 * 127);

/// How many groups go into one open sum, which has two products of each: 1, 2, 4, or all. What is taken from all
/// codes is taken before, which a block's sum begins with once.
pub(super) const fn groups_together<C: Codes, G: Scales>() -> usize {
    let (below, above) = (G::OFFSET, C::LARGEST - G::OFFSET);
    let farthest = if below > above { below } else { above };
    let (room, all) = ((LARGEST_OPEN / farthest) as usize, 8 / halves::<G>());
    if C::LARGEST > LARGEST_OPEN {
        return 1;
    }
    assert!(
        G::OFFSET == 0 || room >= all,
        "a sum with an offset is one open sum"
    );
    match room {
        0 => panic!("not even one group fits"),
        1 => 1,
        2..4 => 2,
        4..8 => 4,
        8.. => all,
    }
}
