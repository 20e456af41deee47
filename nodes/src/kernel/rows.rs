//! What is done row by row; softmax and gates.

use super::{
    isa::{Isa, Kernel},
    math,
    memory::{Cells, written},
    quantize::in_parts,
    simd::Simd,
};
use std::ops::Range;

/// Something that makes rows of one width from rows of another.
pub(super) trait Rowwise: Sync {
    /// Writes every value of row `row` to `out`.
    ///
    /// Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// `out` has room for a row.
    unsafe fn row<S: Simd>(&self, s: S, row: usize, out: *mut f32);
}

/// `m` rows of `width` values.
pub(super) fn each_row(isa: Isa, m: usize, width: usize, work: &impl Rowwise) -> Vec<f32> {
    struct Part<'a, W> {
        work: &'a W,
        rows: Range<usize>,
        width: usize,
        out: Cells<'a, f32>,
    }
    impl<W: Rowwise> Kernel for Part<'_, W> {
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for row in self.rows {
                // SAFETY: room for `m` rows, each of which one part writes.
                unsafe {
                    self.work
                        .row(s, row, self.out.at(row * self.width, self.width))
                };
            }
        }
    }
    // SAFETY: all rows are written, each whole, as the trait says.
    unsafe {
        written(m * width, |out| {
            in_parts(m, width, |rows| {
                isa.run(Part {
                    work,
                    rows,
                    width,
                    out,
                });
            });
        })
    }
}

/// Softmax of rows of `width` values.
pub(crate) fn softmax(isa: Isa, x: &[f32], width: usize) -> Vec<f32> {
    assert!(width > 0 && x.len().is_multiple_of(width), "width");
    each_row(isa, x.len() / width, width, &Softmax { x, width })
}

struct Softmax<'a> {
    x: &'a [f32],
    width: usize,
}

impl Rowwise for Softmax<'_> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, s: S, row: usize, out: *mut f32) {
        let x = &self.x[row * self.width..][..self.width];
        let largest = largest(s, x);
        let mut sum = s.zero();
        for i in (0..x.len()).step_by(S::LANES) {
            let room = x.len() - i;
            let e = math::weight(s, s.sub(s.get(x, i, 0.0), s.splat(largest)));
            // SAFETY: room for the row; what is read has just been written.
            unsafe {
                s.put(out.add(i), room, e);
                sum = s.add(
                    sum,
                    if room >= S::LANES {
                        e
                    } else {
                        s.load_some(out.add(i), room, 0.0)
                    },
                );
            }
        }
        let scale = s.splat(1.0 / s.sum(sum));
        for i in (0..x.len()).step_by(S::LANES) {
            // SAFETY: written above.
            unsafe {
                let room = x.len() - i;
                let v = s.load_some(out.add(i), room, 0.0);
                s.put(out.add(i), room, s.mul(v, scale));
            }
        }
    }
}

/// The largest value; minus infinity if there is none.
#[inline(always)]
pub(crate) fn largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut all = s.splat(f32::NEG_INFINITY);
    for i in (0..x.len()).step_by(S::LANES) {
        all = s.max(all, s.get(x, i, f32::NEG_INFINITY));
    }
    s.largest(all)
}

/// What is applied to a gate before it multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    GeluTanh,
    Silu,
}

/// `gate(x[..width]) * x[width..]` of rows of twice `width` values.
pub(crate) fn gated(isa: Isa, x: &[f32], width: usize, gate: Gate) -> Vec<f32> {
    assert!(width > 0 && x.len().is_multiple_of(2 * width), "width");
    each_row(isa, x.len() / (2 * width), width, &Gated { x, width, gate })
}

struct Gated<'a> {
    x: &'a [f32],
    width: usize,
    gate: Gate,
}

impl Rowwise for Gated<'_> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, s: S, row: usize, out: *mut f32) {
        let (gate, up) = self.x[2 * row * self.width..][..2 * self.width].split_at(self.width);
        for i in (0..self.width).step_by(S::LANES) {
            let g = s.get(gate, i, 0.0);
            let g = match self.gate {
                Gate::GeluTanh => math::gelu_tanh(s, g),
                Gate::Silu => math::silu(s, g),
            };
            // SAFETY: room for the row.
            unsafe { s.put(out.add(i), self.width - i, s.mul(g, s.get(up, i, 0.0))) };
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::testing::{Random, assert_near},
        *,
    };

    const WIDTHS: [usize; 9] = [1, 2, 5, 15, 16, 17, 64, 100, 384];

    /// Compares a row-wise function with one in f64, for widths with and without full vectors.
    pub(in crate::kernel) fn check(
        name: &str,
        scales: &[f32],
        got: impl Fn(Isa, &[f32], usize) -> Vec<f32>,
        want: impl Fn(&[f64], usize) -> Vec<f64>,
    ) {
        for width in WIDTHS {
            for m in [0, 1, 3, 200] {
                for &scale in scales {
                    let mut random = Random((width + m) as u64);
                    let x: Vec<f32> = (0..m * width).map(|_| random.float() * scale).collect();
                    let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                    let want = want(&wide, width);
                    for isa in Isa::available() {
                        let what = format!("{name} {isa:?} {m}x{width} of {scale}");
                        assert_near(&what, &got(isa, &x, width), &want, |i| {
                            3e-5 * want[i].abs().max(0.03)
                        });
                    }
                }
            }
        }
    }

    #[test]
    fn softmax_equals_the_formula() {
        check("softmax", &[1.0, 50.0, 1e30], softmax, |x, width| {
            let row = |x: &[f64]| -> Vec<f64> {
                let largest = x.iter().fold(f64::MIN, |a, b| a.max(*b));
                let e: Vec<f64> = x.iter().map(|x| (x - largest).exp()).collect();
                let sum: f64 = e.iter().sum();
                e.iter().map(|e| e / sum).collect()
            };
            x.chunks(width).flat_map(row).collect()
        });
    }

    #[test]
    fn gates_equal_the_formulas() {
        for gate in [Gate::Silu, Gate::GeluTanh] {
            let got = |isa, x: &[f32], width| {
                let both: Vec<f32> = x.chunks(width).flat_map(|x| [x, x].concat()).collect();
                gated(isa, &both, width, gate)
            };
            check("gate", &[1.0, 30.0], got, |x, _| {
                let gated = |x: &f64| match gate {
                    Gate::Silu => x * x / (1.0 + (-x).exp()),
                    Gate::GeluTanh => {
                        let z = 0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3));
                        0.5 * x * x * (1.0 + z.tanh())
                    }
                };
                x.iter().map(gated).collect()
            });
        }
    }
}
