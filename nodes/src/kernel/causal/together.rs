//! Rows of one sequence: what they see is copied together as floats, then each head goes through it
//! as through a packed text.

use super::{
    super::{
        head::{self, Head, Lines, QUERIES},
        memory::{borrow_memory, give_back},
        panel::Element,
        simd::Simd,
    },
    Causal,
};
use std::ops::Range;

impl<E: Element> Causal<'_, E> {
    /// Rows of one sequence.
    ///
    /// # Safety
    /// As in `run`.
    #[inline(always)]
    pub(super) unsafe fn together<S: Simd>(
        &self,
        s: S,
        rows: Range<usize>,
        kv_head: usize,
        heads: Range<usize>,
    ) {
        let dim = self.attention.head_dim;
        let run = &self.rows[rows.clone()];
        let (mut start, mut end) = (usize::MAX, 0);
        for row in run {
            let seen = self.attention.seen(row.position);
            (start, end) = (start.min(seen.start), end.max(seen.end));
        }
        let n = end - start;
        let mut seen: [Range<usize>; QUERIES] = [const { 0..0 }; QUERIES];
        for (row, seen) in run.iter().zip(&mut seen) {
            let range = self.attention.seen(row.position);
            *seen = range.start - start..range.end - start;
        }
        let mut memory = borrow_memory::<f32>(2 * n * dim + head::scratch(n, dim));
        let (keys, rest) = memory.as_mut_slice::<f32>().split_at_mut(n * dim);
        let (values, rest) = rest.split_at_mut(n * dim);
        let mut position = start;
        while position < end {
            let (first, length) = self.line(&run[0], kv_head, position);
            let elements = length.min(end - position) * dim;
            let to = (position - start) * dim;
            widen(s, &self.slab.keys[first..][..elements], &mut keys[to..]);
            widen(s, &self.slab.values[first..][..elements], &mut values[to..]);
            position += elements / dim;
        }
        let width = self.attention.heads * dim;
        for head in heads {
            let head_of_all = Head {
                queries: Lines {
                    first: self.q[rows.start * width + head * dim..].as_ptr(),
                    pitch: width,
                },
                keys: Lines {
                    first: keys.as_ptr(),
                    pitch: dim,
                },
                values: Lines {
                    first: values.as_ptr(),
                    pitch: dim,
                },
                n,
                dim,
                scale: self.attention.scale,
                seen: &seen[..run.len()],
            };
            // SAFETY: the lines are there, as the caller says of the target.
            unsafe { head::attend(s, head_of_all, rest, self.target, (rows.start, head * dim)) };
        }
        give_back(memory);
    }
}

/// Puts elements down as floats.
#[inline(always)]
fn widen<S: Simd, E: Element>(s: S, from: &[E], to: &mut [f32]) {
    let whole = from.len() / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: so many elements are there.
        s.set(to, i, unsafe { E::load(s, from.as_ptr().add(i)) });
    }
    for i in whole..from.len() {
        to[i] = from[i].to_f32();
    }
}
