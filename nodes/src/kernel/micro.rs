//! The micro-kernel of floats: some rows times two vectors of columns, held in registers.
//!
//! At each step two vectors of columns are loaded and multiplied with one value of each row. Weights
//! ([`panel`](super::panel)) and attention ([`head`](super::head)) are multiplied so.

use super::{ahead::Ahead, panel::Element, simd::Simd, target::Target};

/// The values that are multiplied one after the other. Distances are counted in values.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub(super) count: usize,
    /// From one row of the input to the next.
    pub(super) stride: usize,
    /// From one value of a row to the next.
    pub(super) step: usize,
    /// From the columns of one value to those of the next.
    pub(super) pitch: usize,
}

/// `ROWS` rows times two vectors of columns, added to `acc`. With each input some memory is asked for.
///
/// # Safety
/// There are so many rows and columns, as far apart as the steps say.
#[inline(always)]
pub(super) unsafe fn micro<S: Simd, E: Element, const ROWS: usize>(
    s: S,
    steps: Steps,
    x: *const f32,
    columns: *const E,
    ahead: Option<Ahead>,
    mut acc: [[S::F; 2]; ROWS],
) -> [[S::F; 2]; ROWS] {
    // SAFETY: as the caller says.
    unsafe {
        for i in 0..steps.count {
            let w = columns.add(i * steps.pitch);
            let (w0, w1) = (E::load(s, w), E::load(s, w.add(S::LANES)));
            if let Some(ahead) = ahead {
                ahead.ask(s, i);
            }
            for r in 0..ROWS {
                let x = s.splat(*x.add(r * steps.stride + i * steps.step));
                acc[r][0] = s.in_order(s.fma(x, w0, acc[r][0]));
                acc[r][1] = s.in_order(s.fma(x, w1, acc[r][1]));
            }
        }
    }
    acc
}

/// Finishes rows of two vectors and writes `columns` of each at most to the target.
///
/// # Safety
/// The target is checked for the place.
#[inline(always)]
pub(super) unsafe fn write<S: Simd, const ROWS: usize>(
    s: S,
    target: Target<'_>,
    (row, column): (usize, usize),
    columns: usize,
    acc: [[S::F; 2]; ROWS],
) {
    for (r, [left, right]) in acc.into_iter().enumerate() {
        // SAFETY: as the caller says.
        unsafe {
            target.write(s, row + r, column, columns, left);
            if columns > S::LANES {
                target.write(s, row + r, column + S::LANES, columns - S::LANES, right);
            }
        }
    }
}

/// How many of the rows that are left are taken next, such that the last ones are not a few for which
/// a step takes as long as for many.
#[inline(always)]
pub(super) fn evenly(left: usize, limit: usize) -> usize {
    if left < 2 * limit {
        left.div_ceil(left.div_ceil(limit))
    } else {
        limit
    }
}
