//! Products with a weight of bytes: a scale for each output, rows quantised as they come.
//!
//! ```text
//! panel p: outputs 32p .. 32p+31, four inputs at a time
//!   o0: i0 i1 i2 i3 │ o1: i0 i1 i2 i3 │ … o31 ║ o0: i4 i5 i6 i7 │ …
//!   └ one 32-bit lane ┘
//! ```
//!
//! A step of the micro-kernel multiplies four bytes of a row with the four of each output and adds
//! the products to a lane of 32 bits; that is exact. With weights `w ≈ a·v` and inputs
//! `x ≈ b·(q - z)`, the result is `a·b·(Σ v·q - z·Σ v)`. Weights are off by at most 1/254 of the
//! largest of their output.

use super::{
    isa::{Isa, Kernel},
    memory::Buffer,
    panel::WIDTH,
    quantize::{Affine, Bytes},
    simd::Simd,
    target::Target,
};
use crate::compute;
use std::ops::Range;

/// Inputs in a lane.
const GROUP: usize = 4;
/// Rows of the input that are taken together.
const BLOCK: usize = 384;
/// Weights whose magnitudes are all below this count as 0.
const LEAST: f32 = 1e-30;
/// With more inputs a sum could leave 32 bits: `k * 255 * 127 < 2^31`.
pub(crate) const MAX_INPUTS: usize = 65_536;

/// A weight `[n, k]` of bytes in panels.
pub(crate) struct BytePanels {
    n: usize,
    k: usize,
    data: Buffer,
    /// For each output, filled up to whole panels: its scale, and the sum of its bytes.
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl BytePanels {
    /// Quantises and packs a weight whose row `o` is `row(o)`, each of `k` values.
    pub(crate) fn pack<'a>(n: usize, k: usize, row: impl Fn(usize) -> &'a [f32]) -> Self {
        assert!(k <= MAX_INPUTS, "too many inputs for sums of 32 bits");
        let size = Bytes::stride(k) * WIDTH;
        let filled = n.next_multiple_of(WIDTH);
        let mut data = Buffer::zeroed::<i8>(filled / WIDTH * size);
        let (mut scales, mut sums) = (vec![0.0; filled], vec![0; filled]);
        let bytes = data.as_mut_slice::<i8>();
        for output in 0..n {
            let row = row(output);
            assert_eq!(row.len(), k, "a row of the weight");
            let largest = row.iter().fold(0f32, |a, b| a.max(b.abs()));
            let known = largest >= LEAST;
            let inverse = if known { 127.0 / largest } else { 0.0 };
            let panel = &mut bytes[output / WIDTH * size..][..size];
            for (i, w) in row.iter().enumerate() {
                let q = (w * inverse).round() as i8;
                panel[place(i, output % WIDTH)] = q;
                sums[output] += i32::from(q);
            }
            scales[output] = if known { largest / 127.0 } else { 0.0 };
        }
        Self {
            n,
            k,
            data,
            scales,
            sums,
        }
    }

    pub(crate) fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes() + 8 * self.scales.len()
    }

    /// The values of one output, in order.
    pub(crate) fn row(&self, output: usize) -> impl Iterator<Item = f32> + '_ {
        assert!(output < self.n, "no such output");
        let size = Bytes::stride(self.k) * WIDTH;
        let panel = &self.data.as_slice::<i8>()[output / WIDTH * size..][..size];
        let scale = self.scales[output];
        (0..self.k).map(move |i| scale * f32::from(panel[place(i, output % WIDTH)]))
    }

    /// `x · wᵀ` for `x` of `m` rows, quantised into `memory`, on the current pool.
    pub(crate) fn product(
        &self,
        isa: Isa,
        m: usize,
        x: &[f32],
        memory: &mut Bytes,
        target: Target<'_>,
    ) {
        assert_eq!(x.len(), m * self.k, "the input of a product");
        target.check(m, self.n);
        if self.k == 0 {
            memory.quantize(isa, &[], 1);
        }
        let (x, rows) = memory.quantize(isa, x, self.k);
        let empty = vec![Affine::default(); if self.k == 0 { m } else { 0 }];
        let rows = if self.k == 0 { &empty } else { rows };
        let panels = self.n.div_ceil(WIDTH);
        compute::parallel(m.div_ceil(BLOCK) * panels, |units| {
            isa.run(Product {
                weight: self,
                x,
                rows,
                target,
                units,
            });
        });
    }
}

/// Where in its panel the byte of an input and a column is.
fn place(input: usize, column: usize) -> usize {
    (input / GROUP * WIDTH + column) * GROUP + input % GROUP
}

struct Product<'a> {
    weight: &'a BytePanels,
    x: &'a [u8],
    rows: &'a [Affine],
    target: Target<'a>,
    units: Range<usize>,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n, stride) = (self.weight.n, Bytes::stride(self.weight.k));
        let panels = n.div_ceil(WIDTH);
        let data = self.weight.data.as_slice::<i8>();
        for unit in self.units {
            let (block, p) = (unit / panels, unit % panels);
            let first = block * BLOCK;
            let rows = &self.rows[first..][..BLOCK.min(self.rows.len() - first)];
            let panel = Panel {
                bytes: &data[p * stride * WIDTH..][..stride * WIDTH],
                scales: &self.weight.scales[p * WIDTH..][..WIDTH],
                sums: &self.weight.sums[p * WIDTH..][..WIDTH],
                columns: WIDTH.min(n - p * WIDTH),
            };
            let x = &self.x[first * stride..][..rows.len() * stride];
            let mut column = 0;
            while column < panel.columns {
                let mut row = 0;
                while row < rows.len() {
                    let left = rows.len() - row;
                    let input = (&x[row * stride..], &rows[row..]);
                    let place = (first + row, p * WIDTH, column);
                    // SAFETY: as many rows are left, the panel is whole, `product` has checked the
                    // target, and no other unit has these rows and columns.
                    row += super::by_rows!(S::ROWS, left, ROWS => unsafe {
                        micro::<S, ROWS>(s, stride, input, &panel, self.target, place)
                    });
                }
                column += 2 * S::LANES;
            }
        }
    }
}

/// One panel, and what belongs to its columns.
struct Panel<'a> {
    bytes: &'a [i8],
    scales: &'a [f32],
    sums: &'a [i32],
    columns: usize,
}

/// `ROWS` rows times two vectors of columns; `place` is the row, the panel's column, and the column
/// inside of the panel.
///
/// # Safety
/// There are so many rows of `stride` bytes, the panel has as many, the target is checked.
#[inline(always)]
unsafe fn micro<S: Simd, const ROWS: usize>(
    s: S,
    stride: usize,
    (x, rows): (&[u8], &[Affine]),
    panel: &Panel<'_>,
    target: Target<'_>,
    (row, first, column): (usize, usize, usize),
) {
    let mut acc = [[s.splat_i(0); 2]; ROWS];
    // SAFETY: inside of what the caller vouches for.
    unsafe {
        let weights = panel.bytes.as_ptr().cast::<u8>().add(column * GROUP);
        for i in (0..stride).step_by(GROUP) {
            let w = weights.add(i * WIDTH);
            let (w0, w1) = (s.load_i(w), s.load_i(w.add(GROUP * S::LANES)));
            for r in 0..ROWS {
                let x = s.splat_4(x.as_ptr().add(r * stride + i));
                acc[r][0] = s.dot(acc[r][0], x, w0);
                acc[r][1] = s.dot(acc[r][1], x, w1);
            }
        }
        for half in 0..2 {
            let at = column + half * S::LANES;
            if at >= panel.columns {
                break;
            }
            let scale = s.load(panel.scales.as_ptr().add(at));
            let sum = s.load_i(panel.sums.as_ptr().add(at).cast());
            for r in 0..ROWS {
                let Affine { scale: step, zero } = *rows.as_ptr().add(r);
                let exact = s.sub_i(acc[r][half], s.mul_i(sum, s.splat_i(zero)));
                let value = s.mul(s.to_float(exact), s.mul(scale, s.splat(step)));
                target.write(s, row + r, first + at, panel.columns - at, value);
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

    #[test]
    fn products_equal_those_of_the_quantised_numbers() {
        for scale in [1.0, 1e-12, 1e12] {
            let mut all = shapes(7);
            all.push((3, 40, 0));
            for (m, n, k) in all {
                check(m, n, k, scale);
            }
        }
    }

    fn check(m: usize, n: usize, k: usize, scale: f32) {
        let mut random = Random((m * n * k) as u64);
        let mut values = |len| -> Vec<f32> { (0..len).map(|_| random.float() * scale).collect() };
        let (x, w, bias, residual) = (values(m * k), values(n * k), values(n), values(m * n));
        let panels = BytePanels::pack(n, k, |o| &w[o * k..][..k]);
        let read: Vec<Vec<f32>> = (0..n).map(|o| panels.row(o).collect()).collect();
        for (read, w) in read.iter().flatten().zip(&w) {
            assert!((read - w).abs() <= scale / 253.9, "{read} for {w}");
        }
        let mut memory = Bytes::default();
        for isa in Isa::available() {
            // SAFETY: the product writes all rows and columns.
            let got = unsafe {
                written(m * n, |out| {
                    let after = After::Add(&residual);
                    let bias = bias.as_slice();
                    let target = Target {
                        out,
                        stride: n,
                        first: 0,
                        bias,
                        after,
                    };
                    panels.product(isa, m, &x, &mut memory, target);
                })
            };
            let mut want = Vec::new();
            let mut sizes = Vec::new();
            let (bytes, rows) = memory.quantize(isa, &x, k.max(1));
            for row in 0..m {
                for output in 0..n {
                    let products = (0..k).map(|i| {
                        let q = i32::from(bytes[row * Bytes::stride(k) + i]) - rows[row].zero;
                        f64::from(q) * f64::from(rows[row].scale) * f64::from(read[output][i])
                    });
                    let size: f64 = products.clone().map(f64::abs).sum();
                    let rest = f64::from(bias[output]) + f64::from(residual[row * n + output]);
                    want.push(products.sum::<f64>() + rest);
                    sizes.push(size + 3.0 * f64::from(scale));
                }
            }
            let what = format!("{isa:?} {m}x{n}x{k}");
            assert_near(&what, &got, &want, |i| 1e-6 * sizes[i]);
        }
    }

    /// The largest bytes on both sides, where a sum of 16 bits would overflow.
    #[test]
    fn the_largest_products_are_exact() {
        let (x, w) = (vec![1f32; 64], vec![1f32; 64]);
        let panels = BytePanels::pack(1, 64, |_| &w);
        for isa in Isa::available() {
            let mut out = [0.0];
            let target = Target {
                out: super::super::memory::Cells::of(&mut out),
                stride: 1,
                first: 0,
                bias: &[],
                after: After::Nothing,
            };
            panels.product(isa, 1, &x, &mut Bytes::default(), target);
            assert!((out[0] - 64.0).abs() < 1e-4, "{isa:?} {}", out[0]);
        }
    }
}
