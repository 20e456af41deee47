//! Where a product writes, and what it does to a value just before.

use super::{math, memory::Cells, simd::Simd};

/// What happens to a value before it is written.
#[derive(Clone, Copy)]
pub(crate) enum After<'a> {
    Nothing,
    Gelu,
    GeluTanh,
    Relu,
    /// The residual, with the shape of the whole result.
    Add(&'a [f32]),
}

/// A part of a result `[m, stride]`: the columns from `first` on.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) out: Cells<'a, f32>,
    pub(crate) stride: usize,
    pub(crate) first: usize,
    /// One value a column of this part, or empty.
    pub(crate) bias: &'a [f32],
    pub(crate) after: After<'a>,
}

impl<'a> Target<'a> {
    /// A whole result with rows of `stride` values, which are written as they are.
    pub(crate) fn whole(out: Cells<'a, f32>, stride: usize) -> Self {
        Self {
            out,
            stride,
            first: 0,
            bias: &[],
            after: After::Nothing,
        }
    }

    /// Checks what [`Target::write`] relies on, once for a product of `m` rows and `n` columns.
    pub(crate) fn check(&self, m: usize, n: usize) {
        assert!(self.first + n <= self.stride, "columns outside of the rows");
        assert!(m * self.stride <= self.out.len(), "rows outside");
        assert!(self.bias.is_empty() || self.bias.len() == n, "bias");
        if let After::Add(residual) = self.after {
            assert!(residual.len() >= m * self.stride, "residual");
        }
    }

    /// Finishes a vector and writes `count` lanes (at most `LANES`) of it at `row` and `column`.
    ///
    /// # Safety
    /// The target is [checked](Target::check) for this row and `column + count` columns, and no
    /// other thread writes there.
    #[inline(always)]
    pub(crate) unsafe fn write<S: Simd>(
        &self,
        s: S,
        row: usize,
        column: usize,
        count: usize,
        value: S::F,
    ) {
        let at = row * self.stride + self.first + column;
        let mut value = value;
        if !self.bias.is_empty() {
            value = s.add(value, s.get(self.bias, column, 0.0));
        }
        let value = match self.after {
            After::Nothing => value,
            After::Gelu => math::gelu(s, value),
            After::GeluTanh => math::gelu_tanh(s, value),
            After::Relu => math::relu(s, value),
            After::Add(residual) => s.add(value, s.get(residual, at, 0.0)),
        };
        // SAFETY: checked, so many floats are there, and nobody else writes them.
        unsafe { s.put(self.out.at(at, count.min(S::LANES)), count, value) };
    }
}
