//! Memory that is asked for before its turn comes.
//!
//! A weight comes from main memory, and while one part of it is multiplied the next can be on its way. All
//! passes over a part ask for some of the next, a little with each step: if the first one asked for all, it
//! would wait for room in the queue of the processor, and memory would be idle during the others.

use super::{memory::LINE, simd::Simd};
use std::ops::Range;

/// What one pass asks for.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    from: *const u8,
    /// Bytes from one step to the next.
    step: usize,
    /// Bytes from one line of a step to the next.
    spacing: usize,
    lines: usize,
}

impl Ahead {
    /// As much of the `bytes` from `next` on, which may be anywhere, as `done` is of `all` work, over so
    /// many steps. Each asks for the same number of lines, to be a constant: to find out where lines begin
    /// would take longer than to ask for some of them twice.
    #[inline(always)]
    pub(super) fn share(
        (next, bytes): (*const u8, usize),
        (done, all): (Range<usize>, usize),
        steps: usize,
        lines: usize,
    ) -> Self {
        let step = (bytes * done.len()).div_ceil((all * steps).max(1));
        debug_assert!(step <= lines * LINE, "a line that nobody asks for");
        Self {
            from: next.wrapping_add(bytes * done.start / all.max(1)),
            step,
            spacing: step.div_ceil(lines.max(1)),
            lines,
        }
    }

    /// Asks for what belongs to a step.
    #[inline(always)]
    pub(super) fn ask<S: Simd>(self, s: S, step: usize) {
        let from = self.from.wrapping_add(step * self.step);
        for line in 0..self.lines {
            s.prefetch(from.wrapping_add(line * self.spacing));
        }
    }
}
