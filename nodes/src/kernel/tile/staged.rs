//! The product of many quantised rows with tiles: codes are brought into bytes first, and sums put down before they
//! are scaled.

use super::{
    super::{
        by_rows,
        quantize::Block,
        simd::{MAX_TILE_ROWS, Simd},
        unrolled,
    },
    TILE,
    codes::{Codes, Full, GROUP, unpack},
    product::{Unit, add_group, add_scaled, closed, groups_together, halves, opened},
    scales::Scales,
};
use std::ops::Range;

/// Blocks that are unpacked together, so that their codes and sums stay in the nearest cache.
const STAGE: usize = 24;
/// Bytes of their sums, two for each output of the rows that go together.
const STAGED_SUMS: usize = STAGE * 2 * 4 * TILE * MAX_TILE_ROWS;
/// Bytes of both.
const STAGED: usize = STAGED_SUMS + STAGE * Full::BYTES;
/// Bytes of the results of a row, which carry from some blocks to the next.
const CARRIED: usize = 4 * TILE;

/// Bytes of memory that so many rows take.
pub(super) fn memory(rows: usize) -> usize {
    STAGED + rows * CARRIED
}

/// As [`super::product::multiply`], for many rows: codes are unpacked first, and `VECTORS` vectors of outputs go
/// together.
///
/// # Safety
/// As there, and there are [`STAGED`] bytes and [`CARRIED`] for each row.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, C: Codes, G: Scales, const VECTORS: usize>(
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
    /// As for [`multiply`], and there are so many rows and outputs.
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
                let of_block = sums::<S, C, G, ROWS, VECTORS>(s, codes, x, lane);
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
                add_scaled::<S, G, ROWS, VECTORS>(s, at, x, lane, of_block, &mut acc);
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

/// As the sums of [`super::product`], of codes that are unpacked.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn sums<S: Simd, C: Codes, G: Scales, const ROWS: usize, const VECTORS: usize>(
    s: S,
    codes: *const u8,
    (x, stride): (*const Block, usize),
    lane: usize,
) -> [[[S::I; VECTORS]; ROWS]; 2] {
    let of_half = 8 / halves::<G>();
    let together = const { groups_together::<C, G>() };
    let none = s.splat_i(0);
    let mut sums = [[[none; VECTORS]; ROWS]; 2];
    let mut open = sums[0];
    // SAFETY: as the caller says, of all groups.
    unsafe {
        unrolled!(g in [0, 1, 2, 3, 4, 5, 6, 7] => {
            let half = g / of_half;
            let q = (&raw const (*x).q).cast::<u8>();
            if g.is_multiple_of(together) {
                open = opened::<S, C, G, ROWS, VECTORS>(s, half, sums[half], (x, stride));
            }
            let mut group = [none; VECTORS];
            for v in 0..VECTORS {
                let lane = lane + v * S::LANES;
                group[v] = s.load_i(codes.add(g * GROUP + lane * 4));
            }
            add_group::<S, C, ROWS, VECTORS>(s, group, (q.add(4 * g), stride), &mut open);
            if (g + 1).is_multiple_of(together) {
                sums[half] = closed::<S, C, ROWS, VECTORS>(s, open, sums[half]);
            }
        });
    }
    sums
}
