//! Low-rank adapters, another for each row: `y += (x · aᵀ) · b`.

use super::{
    by_rows,
    isa::{Isa, Kernel},
    memory::Cells,
    quantize::in_parts,
    simd::Simd,
};
use std::ops::Range;

/// Lines of the factors that are taken together: sums of one alone would wait for each other.
const MOST_RANKS: usize = 4;

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
    /// `[m, width]`.
    pub(crate) y: &'a mut [f32],
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) width: usize,
}

/// The adapters of all rows for the columns from `first` on.
pub(crate) struct Part<'a> {
    pub(crate) first: usize,
    pub(crate) adapters: Vec<Option<Factors<'a>>>,
}

/// Adds to each row what its adapters make of it.
pub(crate) fn add(isa: Isa, rows: Rows<'_>, parts: &[Part<'_>]) {
    let Rows { x, y, m, k, width } = rows;
    assert!(x.len() == m * k && y.len() == m * width, "rows");
    for Part { first, adapters } in parts {
        assert_eq!(adapters.len(), m, "adapters");
        for adapter in adapters.iter().flatten() {
            let n = adapter.b.len().checked_div(adapter.rank).unwrap_or(0);
            assert!(
                adapter.a.len() == adapter.rank * k && first + n <= width,
                "adapter"
            );
        }
    }
    let y = Cells::of(y);
    in_parts(m, 16 * k, |rows| {
        isa.run(Add {
            x,
            y,
            k,
            width,
            parts,
            rows,
        });
    });
}

struct Add<'a> {
    x: &'a [f32],
    y: Cells<'a, f32>,
    k: usize,
    width: usize,
    parts: &'a [Part<'a>],
    rows: Range<usize>,
}

impl Kernel for Add<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.rows {
            let x = &self.x[row * self.k..][..self.k];
            // SAFETY: each row is in one range.
            let y = unsafe { self.y.slice(row * self.width, self.width) };
            for Part { first, adapters } in self.parts {
                let Some(adapter) = adapters[row] else {
                    continue;
                };
                let n = adapter.b.len().checked_div(adapter.rank).unwrap_or(0);
                let y = &mut y[*first..first + n];
                let mut j = 0;
                while j < adapter.rank {
                    j += by_rows!(MOST_RANKS, [4, 2], adapter.rank - j, RANKS => {
                        let (a, b) = (&adapter.a[j * self.k..], &adapter.b[j * n..]);
                        add_row::<S, RANKS>(s, x, a, b, y);
                    });
                }
            }
        }
    }
}

/// `y += (x · a) * b` for the first so many lines of `a` and `b`, which are as long as `x` and `y`.
#[inline(always)]
fn add_row<S: Simd, const RANKS: usize>(s: S, x: &[f32], a: &[f32], b: &[f32], y: &mut [f32]) {
    let (k, n) = (x.len(), y.len());
    let (a, b) = (&a[..RANKS * k], &b[..RANKS * n]);
    let (mut sums, mut factors) = ([s.zero(); RANKS], [s.zero(); RANKS]);
    for i in (0..k).step_by(S::LANES) {
        let x = s.get(x, i, 0.0);
        for j in 0..RANKS {
            sums[j] = s.fma(x, s.get(&a[j * k..][..k], i, 0.0), sums[j]);
        }
    }
    for j in 0..RANKS {
        factors[j] = s.splat(s.sum(sums[j]));
    }
    for i in (0..n).step_by(S::LANES) {
        let mut value = s.get(y, i, 0.0);
        for j in 0..RANKS {
            value = s.fma(factors[j], s.get(&b[j * n..][..n], i, 0.0), value);
        }
        s.set(y, i, value);
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
        let (m, k, width) = (7, 37, 50);
        let mut random = Random(3);
        let (x, y) = (random.floats(m * k), random.floats(m * width));
        let (a, b) = (random.floats(5 * k), random.floats(5 * 20));
        let adapters = vec![
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
        let mut others = adapters.clone();
        others.rotate_left(2);
        others[2] = None;
        let parts = [(11, adapters), (3, others)];
        let parts = parts.map(|(first, adapters)| Part { first, adapters });
        let mut want: Vec<f64> = y.iter().map(|y| f64::from(*y)).collect();
        for Part { first, adapters } in &parts {
            for (row, adapter) in adapters.iter().enumerate() {
                let Some(Factors { a, b, rank }) = adapter else {
                    continue;
                };
                for j in 0..*rank {
                    let at = |i| f64::from(x[row * k + i]) * f64::from(a[j * k + i]);
                    let sum: f64 = (0..k).map(at).sum();
                    let n = b.len() / rank;
                    for i in 0..n {
                        want[row * width + first + i] += sum * f64::from(b[j * n + i]);
                    }
                }
            }
        }
        for isa in Isa::available() {
            let mut y = y.clone();
            let rows = Rows {
                x: &x,
                y: &mut y,
                m,
                k,
                width,
            };
            add(isa, rows, &parts);
            assert_near(&format!("{isa:?}"), &y, &want, |_| 1e-5);
        }
    }
}
