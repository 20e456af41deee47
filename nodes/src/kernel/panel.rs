//! Products with a weight of floats, packed once into panels of as many columns as two vectors have.
//!
//! ```text
//! weight [n, k], row-major        panel p, of 16 columns: outputs 16p .. 16p+15
//!   o0: i0 i1 i2 …                  i0: o0 o1 … o15 │ i1: o0 o1 … o15 │ …
//!   o1: i0 i1 i2 …                  └ one step of the micro-kernel ┘
//! ```
//!
//! The micro-kernel holds a block of results, some rows by two vectors of columns, in registers. At
//! each step it loads two vectors of the panel, and multiplies them with one value of each row. A
//! panel of the last columns is filled up with zeros.
//!
//! A panel is gone through in parts that stay in the nearest cache while all rows pass by. Meanwhile
//! the next part is asked for, a share of it with each block of rows: with few rows the weight comes from
//! main memory, which takes about as long as to multiply it.

use super::{
    ahead::Ahead,
    grid::Grid,
    isa::{Isa, Kernel},
    memory::{Buffer, LINE, Plain, borrow_memory, give_back},
    micro::{Steps, evenly, micro, write},
    simd::Simd,
    target::Target,
};
use crate::compute::Work;
use half::{bf16, f16};
use std::{marker::PhantomData, ops::Range};

/// Inputs in a part of a panel.
const PART: usize = 384;
/// Most rows of the input that are taken together, while all panels pass by.
const BLOCK: usize = 96;
/// Values in these rows, so that they stay in the second-level cache.
const BLOCK_VALUES: usize = 2 * 384 * BLOCK;

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
    /// What it is packed for.
    isa: Isa,
    n: usize,
    k: usize,
    data: Buffer,
    element: PhantomData<E>,
}

impl<E: Element> Panels<E> {
    /// Packs a weight whose row `o` is `row(o)`, each of `k` values.
    pub(crate) fn pack<'a>(
        isa: Isa,
        n: usize,
        k: usize,
        row: impl Fn(usize) -> &'a [E] + Sync,
    ) -> Self
    where
        E: 'a,
    {
        let width = width(isa);
        let mut data = Buffer::for_weight::<E>(n.next_multiple_of(width) * k);
        let panels = data.as_mut_slice::<E>();
        if k > 0 {
            for (p, panel) in panels.chunks_exact_mut(k * width).enumerate() {
                for column in 0..width.min(n - p * width) {
                    let row = row(p * width + column);
                    assert_eq!(row.len(), k, "a row of the weight");
                    for (i, value) in row.iter().enumerate() {
                        panel[i * width + column] = *value;
                    }
                }
            }
        }
        Self {
            isa,
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
        let width = width(self.isa);
        let first = output / width * self.k * width + output % width;
        let values = self.data.as_slice::<E>();
        (0..self.k).map(move |i| values[first + i * width])
    }

    /// `x · wᵀ` for `x` of `m` rows.
    pub(crate) fn product<'a>(&'a self, m: usize, x: &'a [f32], target: Target<'a>) -> Work<'a> {
        assert_eq!(x.len(), m * self.k, "the input of a product");
        target.check(m, self.n);
        let panels = self.n.div_ceil(width(self.isa));
        let block = rows_within(BLOCK_VALUES / self.k.max(1)).min(BLOCK);
        let grid = Grid::new(m, block, panels);
        Work::new(grid.units(), move |units| {
            self.isa.run(Product {
                weight: self,
                grid,
                block,
                x,
                target,
                units,
            });
        })
    }
}

/// How many rows are taken together where so many would stay in the cache: whole blocks of any
/// micro-kernel.
pub(super) fn rows_within(rows: usize) -> usize {
    (rows / 24 * 24).max(24)
}

/// Columns of a panel: two vectors.
pub(super) fn width(isa: Isa) -> usize {
    2 * isa.constants().lanes
}

struct Product<'a, E> {
    weight: &'a Panels<E>,
    grid: Grid,
    /// Rows of a unit, at most.
    block: usize,
    x: &'a [f32],
    target: Target<'a>,
    units: Range<usize>,
}

impl<E: Element> Kernel for Product<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (k, width) = (self.weight.k, 2 * S::LANES);
        let mut memory = borrow_memory::<f32>(self.block * width);
        let sums = memory.as_mut_slice();
        for unit in self.units.clone() {
            let (rows, p) = self.grid.unit(unit);
            // Even without inputs there is a result.
            for from in (0..k.max(1)).step_by(PART) {
                let inputs = from..k.min(from + PART);
                // SAFETY: `product` has checked the input and the target, `pack` has made as many panels;
                // no other unit has these rows and columns.
                unsafe { self.part(s, rows.clone(), p, inputs, sums) };
            }
        }
        give_back(memory);
    }
}

impl<E: Element> Product<'_, E> {
    /// A block of rows times some inputs of a panel. `sums` carry from one part to the next.
    ///
    /// # Safety
    /// There are these rows, this panel and inputs, and nobody else writes to that part of the target.
    #[inline(always)]
    unsafe fn part<S: Simd>(
        &self,
        s: S,
        rows: Range<usize>,
        panel: usize,
        inputs: Range<usize>,
        sums: &mut [f32],
    ) {
        let (n, k, width) = (self.weight.n, self.weight.k, 2 * S::LANES);
        let values = &self.weight.data.as_slice::<E>()[(panel * k + inputs.start) * width..];
        let columns = width.min(n - panel * width);
        let steps = Steps {
            count: inputs.len(),
            stride: k,
            step: 1,
            pitch: width,
        };
        let part = &values[..inputs.len() * width];
        let next = (part.as_ptr_range().end.cast(), size_of_val(part));
        let mut row = 0;
        while row < rows.len() {
            let x = self.x[(rows.start + row) * k + inputs.start..].as_ptr();
            let sums = sums[row * width..].as_mut_ptr();
            row += super::by_rows!(S::ROWS, evenly(rows.len() - row, S::ROWS), ROWS => unsafe {
                // SAFETY: as the caller says; `sums` have room for a block of rows.
                let begun = match inputs.start {
                    0 => [[s.zero(); 2]; ROWS],
                    _ => load(s, sums),
                };
                let done = (row..row + ROWS, rows.len());
                let lines = (width * size_of::<E>()).div_ceil(LINE);
                let ahead = Ahead::share(next, done, inputs.len(), lines);
                let acc = micro(s, steps, x, values.as_ptr(), Some(ahead), begun);
                if inputs.end == k {
                    let place = (rows.start + row, panel * width);
                    write(s, self.target, place, columns, acc);
                } else {
                    store(s, sums, acc);
                }
            });
        }
    }
}

/// Sums of rows, one after the other.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn load<S: Simd, const ROWS: usize>(s: S, from: *const f32) -> [[S::F; 2]; ROWS] {
    let mut acc = [[s.zero(); 2]; ROWS];
    for (i, acc) in acc.as_flattened_mut().iter_mut().enumerate() {
        // SAFETY: as the caller says.
        *acc = unsafe { s.load(from.add(i * S::LANES)) };
    }
    acc
}

/// The reverse of [`load`].
///
/// # Safety
/// There is room.
#[inline(always)]
unsafe fn store<S: Simd, const ROWS: usize>(s: S, to: *mut f32, acc: [[S::F; 2]; ROWS]) {
    for (i, acc) in acc.as_flattened().iter().enumerate() {
        // SAFETY: as the caller says.
        unsafe { s.store(to.add(i * S::LANES), *acc) };
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
    use crate::compute::run_all;

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
        let parts = [(7, 40, 2 * PART + 5), (25, 33, PART)];
        for (m, n, k) in shapes(7).into_iter().chain(parts) {
            let mut random = Random((m * n * k) as u64);
            let mut values =
                |len| -> Vec<f32> { (0..len).map(|_| random.float() * scale).collect() };
            let (x, bias, residual) = (values(m * k), values(n), values(m * n));
            let w: Vec<E> = values(n * k).into_iter().map(from).collect();
            let exact: Vec<f32> = w.iter().map(|w| to(*w)).collect();
            let (want, size) = reference(&x, &exact, &bias, k);
            for isa in Isa::available() {
                let panels = Panels::pack(isa, n, k, |o| &w[o * k..][..k]);
                for (o, row) in exact.chunks_exact(k).enumerate() {
                    assert!(panels.row(o).map(to).eq(row.iter().copied()));
                }
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
                            run_all(&[panels.product(m, &x, target)]);
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
        for isa in Isa::available() {
            let panels = Panels::pack(isa, 5, 3, |o| &w[o * 3..][..3]);
            let mut out = vec![-1f32; 2 * 9];
            let target = Target {
                out: super::super::memory::Cells::of(&mut out),
                stride: 9,
                first: 2,
                bias: &[],
                after: After::Nothing,
            };
            run_all(&[panels.product(2, &x, target)]);
            let row = [-1.0, -1.0, 6.0, 6.0, 6.0, 6.0, 6.0, -1.0, -1.0];
            assert_eq!(out, [row, row].concat(), "{isa:?}");
        }
    }
}
