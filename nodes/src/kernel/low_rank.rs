//! Low-rank adapters, another for each row: `y += (x · aᵀ) · b`.

use super::{
    isa::{Isa, Kernel},
    memory::Cells,
    quantize::in_parts,
    simd::Simd,
};
use std::ops::Range;

/// An adapter's factors: `a` is `[r, k]`, `b` is `[r, n]`.
#[derive(Clone, Copy)]
pub(crate) struct Factors<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) b: &'a [f32],
    pub(crate) rank: usize,
}

/// Rows that adapters change.
pub(crate) struct Rows<'a> {
    /// `[m, k]`.
    pub(crate) x: &'a [f32],
    /// `[m, width]`, changed from column `first` on.
    pub(crate) y: &'a mut [f32],
    pub(crate) k: usize,
    pub(crate) width: usize,
    pub(crate) first: usize,
}

/// Adds to each row what its adapter makes of it.
pub(crate) fn add(isa: Isa, rows: Rows<'_>, adapters: &[Option<Factors<'_>>]) {
    let Rows {
        x,
        y,
        k,
        width,
        first,
    } = rows;
    let m = adapters.len();
    assert!(x.len() == m * k && y.len() == m * width, "rows");
    for adapter in adapters.iter().flatten() {
        let n = adapter.b.len().checked_div(adapter.rank).unwrap_or(0);
        assert!(
            adapter.a.len() == adapter.rank * k && first + n <= width,
            "adapter"
        );
    }
    let y = Cells::of(y);
    in_parts(m, 16 * k, |part| {
        isa.run(Add {
            x,
            y,
            k,
            width,
            first,
            adapters,
            part,
        });
    });
}

struct Add<'a> {
    x: &'a [f32],
    y: Cells<'a, f32>,
    k: usize,
    width: usize,
    first: usize,
    adapters: &'a [Option<Factors<'a>>],
    part: Range<usize>,
}

impl Kernel for Add<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.part {
            let Some(adapter) = self.adapters[row] else {
                continue;
            };
            let x = &self.x[row * self.k..][..self.k];
            // SAFETY: each row is in one part.
            let y = unsafe { self.y.slice(row * self.width, self.width) };
            let n = adapter.b.len().checked_div(adapter.rank).unwrap_or(0);
            for j in 0..adapter.rank {
                let a = &adapter.a[j * self.k..][..self.k];
                let b = &adapter.b[j * n..][..n];
                add_row(s, x, a, b, &mut y[self.first..self.first + n]);
            }
        }
    }
}

/// `y += (x · a) * b`.
#[inline(always)]
fn add_row<S: Simd>(s: S, x: &[f32], a: &[f32], b: &[f32], y: &mut [f32]) {
    let mut sum = s.zero();
    for i in (0..x.len()).step_by(S::LANES) {
        sum = s.fma(s.get(x, i, 0.0), s.get(a, i, 0.0), sum);
    }
    let sum = s.splat(s.sum(sum));
    for i in (0..y.len()).step_by(S::LANES) {
        let changed = s.fma(sum, s.get(b, i, 0.0), s.get(y, i, 0.0));
        s.set(y, i, changed);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Random, assert_near},
        *,
    };

    #[test]
    fn rows_get_their_own_adapter() {
        let (m, k, width, first) = (7, 37, 50, 11);
        let mut random = Random(3);
        let (x, y) = (random.floats(m * k), random.floats(m * width));
        let (a, b) = (random.floats(5 * k), random.floats(5 * 20));
        let adapters = [
            Some(Factors {
                a: &a,
                b: &b,
                rank: 5,
            }),
            Some(Factors {
                a: &a[..k],
                b: &b[..39],
                rank: 1,
            }),
            None,
            Some(Factors {
                a: &[],
                b: &[],
                rank: 0,
            }),
            None,
            Some(Factors {
                a: &a[k..],
                b: &b[20..],
                rank: 4,
            }),
            Some(Factors {
                a: &a,
                b: &b,
                rank: 5,
            }),
        ];
        let mut want: Vec<f64> = y.iter().map(|y| f64::from(*y)).collect();
        for (row, adapter) in adapters.iter().enumerate() {
            let Some(Factors { a, b, rank }) = adapter else {
                continue;
            };
            for j in 0..*rank {
                let products = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(a[j * k + i]));
                let sum: f64 = products.sum();
                let n = b.len() / rank;
                for i in 0..n {
                    want[row * width + first + i] += sum * f64::from(b[j * n + i]);
                }
            }
        }
        for isa in Isa::available() {
            let mut y = y.clone();
            let rows = Rows {
                x: &x,
                y: &mut y,
                k,
                width,
                first,
            };
            add(isa, rows, &adapters);
            assert_near(&format!("{isa:?}"), &y, &want, |_| 1e-5);
        }
    }
}
