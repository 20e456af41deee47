//! One head's attention for up to 32 queries at once, which both kinds of attention are made of.
//!
//! The queries stand side by side in the lanes, so that neither product needs its keys or values
//! rearranged, and the softmax runs down the lanes without any sum across them:
//!
//! ```text
//! queries, turned      scores                       result
//! [dim, 32]            [n, 32] = keys · queries     [32, dim] = scoresᵀ · values
//!   q0 q1 … q31          k0: q0 q1 … q31              q0: …
//! ```

use super::{
    by_rows,
    isa::Kernel,
    math,
    memory::Cells,
    micro::{Steps, evenly, micro, write},
    simd::Simd,
    target::Target,
};
use std::ops::Range;

/// Queries that attend together: columns of a product.
pub(super) const QUERIES: usize = 32;
/// Values of a head that are multiplied together.
const WIDTH: usize = 32;

/// Lines of floats, each a head wide: queries, keys or values of one head.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub(super) first: *const f32,
    /// From one line to the next, in floats.
    pub(super) pitch: usize,
}

/// What attends to what.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) queries: Lines,
    pub(super) keys: Lines,
    pub(super) values: Lines,
    /// Keys and values.
    pub(super) n: usize,
    /// Width of the head.
    pub(super) dim: usize,
    pub(super) scale: f32,
    /// The keys that each query sees: one range a query, at most [`QUERIES`].
    pub(super) seen: &'a [Range<usize>],
}

/// How many floats [`attend`] needs to work in.
pub(super) fn scratch(n: usize, dim: usize) -> usize {
    let copies = if dim.is_multiple_of(WIDTH) {
        0
    } else {
        n * padded(dim)
    };
    dim * QUERIES + n * QUERIES + copies
}

fn padded(dim: usize) -> usize {
    dim.next_multiple_of(WIDTH)
}

/// Writes the result of each query to a row of `target`, from `place` (row, column) on.
///
/// # Safety
/// The lines are there; `seen` lies inside of `n`; the target is checked for the place.
#[inline(always)]
pub(super) unsafe fn attend<S: Simd>(
    s: S,
    head: Head<'_>,
    memory: &mut [f32],
    target: Target<'_>,
    place: (usize, usize),
) {
    let (n, dim) = (head.n, head.dim);
    let (queries, rest) = memory.split_at_mut(dim * QUERIES);
    let (scores, copies) = rest.split_at_mut(n * QUERIES);
    // SAFETY: as the caller says; the memory is as long as `scratch` says.
    unsafe {
        turn(head, queries);
        s.call(Multiply {
            rows: n,
            columns: head.seen.len().next_multiple_of(S::LANES),
            steps: Steps {
                count: dim,
                stride: head.keys.pitch,
                step: 1,
                pitch: QUERIES,
            },
            x: head.keys.first,
            y: queries.as_ptr(),
            target: Target::whole(Cells::of(scores), QUERIES),
            place: (0, 0),
        });
        for lane in (0..head.seen.len()).step_by(S::LANES) {
            softmax_down(s, scores, head, lane);
        }
        let values = if dim.is_multiple_of(WIDTH) {
            head.values
        } else {
            pad(head, copies)
        };
        for column in (0..dim).step_by(WIDTH) {
            s.call(Multiply {
                rows: head.seen.len(),
                columns: WIDTH.min(dim - column),
                steps: Steps {
                    count: n,
                    stride: 1,
                    step: QUERIES,
                    pitch: values.pitch,
                },
                x: scores.as_ptr(),
                y: values.first.add(column),
                target,
                place: (place.0, place.1 + column),
            });
        }
    }
}

/// Some rows of `x` times some columns of `y`, at most [`WIDTH`]; the result is written from a place (row,
/// column) on. Only [`attend`] makes it: the rows and columns are there, whole vectors of these, and the target is
/// checked.
struct Multiply<'a> {
    rows: usize,
    columns: usize,
    steps: Steps,
    x: *const f32,
    y: *const f32,
    target: Target<'a>,
    place: (usize, usize),
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for column in (0..self.columns).step_by(2 * S::LANES) {
            let mut row = 0;
            while row < self.rows {
                let left = evenly(self.rows - row, S::ROWS);
                row += by_rows!(S::ROWS, left, ROWS => {
                    let x = self.x.wrapping_add(row * self.steps.stride);
                    let y = self.y.wrapping_add(column);
                    let place = (self.place.0 + row, self.place.1 + column);
                    let none = [[s.zero(); 2]; ROWS];
                    // SAFETY: inside of what `attend` vouches for.
                    unsafe {
                        let acc = micro(s, self.steps, x, y, None, none);
                        write(s, self.target, place, self.columns - column, acc);
                    }
                });
            }
        }
    }
}

/// Queries as columns, multiplied with the scale; columns without a query are 0.
///
/// # Safety
/// The queries are there.
#[inline(always)]
unsafe fn turn(head: Head<'_>, to: &mut [f32]) {
    let count = head.seen.len();
    // Value by value and not query by query: the first round fetches all rows into the cache at once.
    for (i, to) in to.chunks_exact_mut(QUERIES).enumerate() {
        for (query, to) in to[..count].iter_mut().enumerate() {
            // SAFETY: as the caller says.
            *to = unsafe { *head.queries.first.add(query * head.queries.pitch + i) } * head.scale;
        }
        to[count..].fill(0.0);
    }
}

/// Values with zeros behind them, so that whole vectors can be read.
///
/// # Safety
/// The values are there.
#[inline(always)]
unsafe fn pad(head: Head<'_>, to: &mut [f32]) -> Lines {
    let pitch = padded(head.dim);
    for (line, to) in to.chunks_exact_mut(pitch).take(head.n).enumerate() {
        // SAFETY: as the caller says.
        let values = unsafe {
            let first = head.values.first.add(line * head.values.pitch);
            std::slice::from_raw_parts(first, head.dim)
        };
        to[..head.dim].copy_from_slice(values);
        to[head.dim..].fill(0.0);
    }
    Lines {
        first: to.as_ptr(),
        pitch,
    }
}

/// Softmax of the queries from `lane` on, each over the keys that it sees; the others become 0.
///
/// # Safety
/// There are `n` times [`QUERIES`] scores.
#[inline(always)]
unsafe fn softmax_down<S: Simd>(s: S, scores: &mut [f32], head: Head<'_>, lane: usize) {
    let first = scores.as_mut_ptr().wrapping_add(lane);
    let seen = &head.seen[lane..head.seen.len().min(lane + S::LANES)];
    // SAFETY, of all below: as the caller says.
    unsafe { hide(first, seen, head.n) };
    let mut largest = s.splat(f32::NEG_INFINITY);
    for key in 0..head.n {
        largest = s.max(largest, unsafe { s.load(first.add(key * QUERIES)) });
    }
    let mut sum = s.zero();
    for key in 0..head.n {
        unsafe {
            let at = first.add(key * QUERIES);
            let e = math::weight(s, s.sub(s.load(at), largest));
            s.store(at, e);
            sum = s.add(sum, e);
        }
    }
    let scale = s.div(s.splat(1.0), sum);
    for key in 0..head.n {
        unsafe {
            let at = first.add(key * QUERIES);
            s.store(at, s.mul(s.load(at), scale));
        }
    }
    for (query, seen) in seen.iter().enumerate() {
        if seen.is_empty() {
            for key in 0..head.n {
                unsafe { *first.add(key * QUERIES + query) = 0.0 };
            }
        }
    }
}

/// Makes the scores of keys that a query does not see very small.
///
/// # Safety
/// As [`softmax_down`].
#[inline(always)]
unsafe fn hide(first: *mut f32, seen: &[Range<usize>], n: usize) {
    /// Small enough to vanish beside any score, and far from leaving the range of floats.
    const HIDDEN: f32 = -1e30;
    for (query, seen) in seen.iter().enumerate() {
        for key in (0..seen.start).chain(seen.end..n) {
            // SAFETY: as the caller says.
            unsafe { *first.add(key * QUERIES + query) = HIDDEN };
        }
    }
}
