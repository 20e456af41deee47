//! Products with a weight of floats, packed once into panels of 32 columns.
//!
//! ```text
//! weight [n, k], row-major        panel p: outputs 32p .. 32p+31
//!   o0: i0 i1 i2 …                  i0: o0 o1 … o31 │ i1: o0 o1 … o31 │ …
//!   o1: i0 i1 i2 …                  └ one step of the micro-kernel ┘
//! ```
//!
//! The micro-kernel holds a block of results, some rows by two vectors of columns, in registers. At
//! each step it loads two vectors of the panel, and multiplies them with one value of each row. A
//! panel of the last columns is filled up with zeros.

use super::{
    isa::{Isa, Kernel},
    memory::{Buffer, Plain},
    simd::Simd,
    target::Target,
};
use crate::compute;
use half::{bf16, f16};
use std::{marker::PhantomData, ops::Range};

/// Columns of a panel.
pub(crate) const WIDTH: usize = 32;
/// How far ahead of what is multiplied the weight is asked for, in bytes. With few rows it comes from
/// main memory, and the processor itself does not look beyond a page.
pub(super) const AHEAD: usize = 4096;
/// Rows of the input that are taken together, so that they stay in the second-level cache while all
/// panels pass by.
const BLOCK: usize = 192;

/// A number that a panel may hold.
pub(crate) trait Element: Plain + Send + Sync {
    /// `LANES` of them, as floats.
    ///
    /// # Safety
    /// They can be read.
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F;

    /// One of them.
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F {
        // SAFETY: as the caller says, here and below.
        unsafe { s.load(from) }
    }

    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F {
        unsafe { s.load_f16(from) }
    }

    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F {
        unsafe { s.load_bf16(from) }
    }

    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
}

/// A weight `[n, k]` in panels.
pub(crate) struct Panels<E> {
    n: usize,
    k: usize,
    data: Buffer,
    element: PhantomData<E>,
}

impl<E: Element> Panels<E> {
    /// Packs a weight whose row `o` is `row(o)`, each of `k` values.
    pub(crate) fn pack<'a>(n: usize, k: usize, row: impl Fn(usize) -> &'a [E] + Sync) -> Self
    where
        E: 'a,
    {
        let mut data = Buffer::for_weight::<E>(n.div_ceil(WIDTH) * k * WIDTH);
        let panels = data.as_mut_slice::<E>();
        if k > 0 {
            for (p, panel) in panels.chunks_exact_mut(k * WIDTH).enumerate() {
                for column in 0..WIDTH.min(n - p * WIDTH) {
                    let row = row(p * WIDTH + column);
                    assert_eq!(row.len(), k, "a row of the weight");
                    for (i, value) in row.iter().enumerate() {
                        panel[i * WIDTH + column] = *value;
                    }
                }
            }
        }
        Self {
            n,
            k,
            data,
            element: PhantomData,
        }
    }

    pub(crate) fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// The values of one output, in order.
    pub(crate) fn row(&self, output: usize) -> impl Iterator<Item = E> + '_ {
        assert!(output < self.n, "no such output");
        let first = output / WIDTH * self.k * WIDTH + output % WIDTH;
        let values = self.data.as_slice::<E>();
        (0..self.k).map(move |i| values[first + i * WIDTH])
    }

    /// `x · wᵀ` for `x` of `m` rows, on the current pool.
    pub(crate) fn product(&self, isa: Isa, m: usize, x: &[f32], target: Target<'_>) {
        assert_eq!(x.len(), m * self.k, "the input of a product");
        target.check(m, self.n);
        let panels = self.n.div_ceil(WIDTH);
        // Unit by unit: all panels for one block of rows, then for the next.
        compute::parallel(m.div_ceil(BLOCK) * panels, |units| {
            isa.run(Product {
                weight: self,
                m,
                x,
                target,
                units,
            });
        });
    }
}

struct Product<'a, E> {
    weight: &'a Panels<E>,
    m: usize,
    x: &'a [f32],
    target: Target<'a>,
    units: Range<usize>,
}

impl<E: Element> Kernel for Product<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n, k) = (self.weight.n, self.weight.k);
        let panels = n.div_ceil(WIDTH);
        let data = self.weight.data.as_slice::<E>();
        for unit in self.units {
            let (block, p) = (unit / panels, unit % panels);
            let first = block * BLOCK;
            let rows = BLOCK.min(self.m - first);
            let panel = &data[p * k * WIDTH..][..k * WIDTH];
            let x = &self.x[first * k..][..rows * k];
            // SAFETY: the slices have `rows` rows and one panel; `product` has checked the target;
            // no other unit has these rows and columns.
            unsafe {
                let shape = Shape {
                    rows,
                    k,
                    stride: k,
                    step: 1,
                    pitch: WIDTH,
                    columns: WIDTH.min(n - p * WIDTH),
                    fetch: true,
                };
                let place = (first, p * WIDTH);
                multiply(s, shape, x.as_ptr(), panel.as_ptr(), self.target, place);
            }
        }
    }
}

/// What [`multiply`] multiplies. Distances are counted in values.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Rows of the input.
    pub(crate) rows: usize,
    /// Values in each.
    pub(crate) k: usize,
    /// From one row of the input to the next.
    pub(crate) stride: usize,
    /// From one value of a row to the next.
    pub(crate) step: usize,
    /// From the columns of one value to those of the next in the panel.
    pub(crate) pitch: usize,
    /// Whether the panel may lie in main memory.
    pub(crate) fetch: bool,
    /// Columns of the panel that are written, at most [`WIDTH`].
    pub(crate) columns: usize,
}

/// Some rows times one panel; the result is written to `target` from `place` (row, column) on.
///
/// # Safety
/// `x` has these rows, `panel` has `k` times [`WIDTH`] values, a pitch apart, and the target is checked
/// for the place.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, E: Element>(
    s: S,
    shape: Shape,
    x: *const f32,
    panel: *const E,
    target: Target<'_>,
    place: (usize, usize),
) {
    s.call(Multiply {
        shape,
        x,
        panel,
        target,
        place,
    });
}

/// Only [`multiply`] makes it.
struct Multiply<'a, E> {
    shape: Shape,
    x: *const f32,
    panel: *const E,
    target: Target<'a>,
    place: (usize, usize),
}

impl<E: Element> Kernel for Multiply<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let shape = self.shape;
        let mut column = 0;
        while column < shape.columns {
            let mut row = 0;
            while row < shape.rows {
                let left = shape.rows - row;
                // SAFETY: inside of what the caller of `multiply` vouches for.
                unsafe {
                    let x = self.x.add(row * shape.stride);
                    let panel = self.panel.add(column);
                    let place = (self.place.0 + row, self.place.1 + column);
                    let shape = Shape {
                        columns: shape.columns - column,
                        fetch: shape.fetch && row == 0,
                        ..shape
                    };
                    row += super::by_rows!(S::ROWS, left, ROWS => {
                        micro::<S, E, ROWS>(s, shape, x, panel, self.target, place)
                    });
                }
            }
            column += 2 * S::LANES;
        }
    }
}

/// `ROWS` rows times two vectors of columns. The shape's columns are those that are left.
#[inline(always)]
unsafe fn micro<S: Simd, E: Element, const ROWS: usize>(
    s: S,
    shape: Shape,
    x: *const f32,
    panel: *const E,
    target: Target<'_>,
    place: (usize, usize),
) {
    let columns = shape.columns;
    let mut acc = [[s.zero(); 2]; ROWS];
    // SAFETY: the caller's rows and panel; the target is checked for them.
    unsafe {
        for i in 0..shape.k {
            let w = panel.add(i * shape.pitch);
            let (w0, w1) = (E::load(s, w), E::load(s, w.add(S::LANES)));
            if shape.fetch {
                s.prefetch(w.cast::<u8>().wrapping_add(AHEAD));
            }
            for r in 0..ROWS {
                let x = s.splat(*x.add(r * shape.stride + i * shape.step));
                acc[r][0] = s.fma(x, w0, acc[r][0]);
                acc[r][1] = s.fma(x, w1, acc[r][1]);
            }
        }
        for r in 0..ROWS {
            let (row, column) = (place.0 + r, place.1);
            target.write(s, row, column, columns, acc[r][0]);
            if columns > S::LANES {
                target.write(s, row, column + S::LANES, columns - S::LANES, acc[r][1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            memory::written,
            target::After,
            testing::{Random, assert_near, shapes},
        },
        *,
    };

    /// `x · wᵀ + bias` in f64, and the sums of the products' magnitudes.
    fn reference(x: &[f32], w: &[f32], bias: &[f32], k: usize) -> (Vec<f64>, Vec<f64>) {
        let mut sums = (Vec::new(), Vec::new());
        for x in x.chunks_exact(k) {
            for (w, bias) in w.chunks_exact(k).zip(bias) {
                let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                sums.0
                    .push(products.clone().sum::<f64>() + f64::from(*bias));
                sums.1
                    .push(products.map(f64::abs).sum::<f64>() + f64::from(bias.abs()));
            }
        }
        sums
    }

    fn check<E: Element>(from: fn(f32) -> E, to: fn(E) -> f32, scale: f32) {
        for (m, n, k) in shapes(7) {
            let mut random = Random((m * n * k) as u64);
            let mut values =
                |len| -> Vec<f32> { (0..len).map(|_| random.float() * scale).collect() };
            let (x, bias, residual) = (values(m * k), values(n), values(m * n));
            let w: Vec<E> = values(n * k).into_iter().map(from).collect();
            let exact: Vec<f32> = w.iter().map(|w| to(*w)).collect();
            let (want, size) = reference(&x, &exact, &bias, k);
            let panels = Panels::pack(n, k, |o| &w[o * k..][..k]);
            for (o, row) in exact.chunks_exact(k).enumerate() {
                assert!(panels.row(o).map(to).eq(row.iter().copied()));
            }
            for isa in Isa::available() {
                for after in [After::Nothing, After::Relu, After::Add(&residual)] {
                    // SAFETY: the product writes all rows and columns.
                    let got = unsafe {
                        written(m * n, |out| {
                            let bias = bias.as_slice();
                            let target = Target {
                                out,
                                stride: n,
                                first: 0,
                                bias,
                                after,
                            };
                            panels.product(isa, m, &x, target);
                        })
                    };
                    let want: Vec<f64> = want
                        .iter()
                        .enumerate()
                        .map(|(i, y)| match after {
                            After::Relu => y.max(0.0),
                            After::Add(residual) => y + f64::from(residual[i]),
                            _ => *y,
                        })
                        .collect();
                    let what = format!("{isa:?} {m}x{n}x{k}");
                    let unit = f64::from(f32::EPSILON) * (k + 2) as f64;
                    assert_near(&what, &got, &want, |i| unit * (size[i] + want[i].abs()));
                }
            }
        }
    }

    #[test]
    fn products_of_every_element_and_isa_equal_the_reference() {
        for scale in [1.0, 1e-18, 1e15] {
            check::<f32>(|x| x, |x| x, scale);
        }
        check(f16::from_f32, f16::to_f32, 1.0);
        check(bf16::from_f32, bf16::to_f32, 1.0);
    }

    #[test]
    fn columns_outside_of_the_target_stay_as_they_are() {
        let (w, x) = (vec![1f32; 5 * 3], vec![2f32; 2 * 3]);
        let panels = Panels::pack(5, 3, |o| &w[o * 3..][..3]);
        for isa in Isa::available() {
            let mut out = vec![-1f32; 2 * 9];
            let target = Target {
                out: super::super::memory::Cells::of(&mut out),
                stride: 9,
                first: 2,
                bias: &[],
                after: After::Nothing,
            };
            panels.product(isa, 2, &x, target);
            let row = [-1.0, -1.0, 6.0, 6.0, 6.0, 6.0, 6.0, -1.0, -1.0];
            assert_eq!(out, [row, row].concat(), "{isa:?}");
        }
    }
}
