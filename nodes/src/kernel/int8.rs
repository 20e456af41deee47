//! Products with a weight of bytes: a scale for each output, rows quantised as they come.
//!
//! ```text
//! panel p, of 16 columns: outputs 16p .. 16p+15, four inputs at a time
//!   o0: i0 i1 i2 i3 │ o1: i0 i1 i2 i3 │ … o15 ║ o0: i4 i5 i6 i7 │ …
//!   └ one 32-bit lane ┘
//! ```
//!
//! A step of the micro-kernel multiplies four bytes of a row with the four of each output, twice, and
//! adds the products to a lane of 32 bits. That is exact: where a processor adds the products of a step
//! up in 16 bits, bytes are so small that these suffice, those of rows all together and those of weights as
//! far as they meet ([`Simd::LARGEST_BYTE`], [`Simd::LARGEST_FOUR`]). With weights `w ≈ a·v` and inputs
//! `x ≈ b·(q - z)`, the result is `a·b·(Σ v·q - z·Σ v)`. Weights are off by at most half of their
//! output's scale `a`, which is 1/127 of its largest weight if sums have 32 bits.
//!
//! Two kinds of values stay floats, since they would make the steps of all others coarse (as Dettmers
//! et al. 2022, *LLM.int8()*, keep whole columns): of each row of the input the largest, which
//! [`quantize`](super::quantize) leaves out of the bytes, and the few weights that stand far out of
//! their output. Both are added at the end.

use super::{
    ahead::Ahead,
    grid::Grid,
    isa::{Isa, Kernel},
    memory::{Buffer, LINE},
    micro::evenly,
    panel,
    quantize::{Affine, Bytes, STEP},
    simd::{MAX_LANES, Simd},
    target::Target,
};
use crate::compute::Work;
use std::ops::Range;

/// Inputs in a lane.
const GROUP: usize = 4;
/// Bytes of the rows that are taken together.
const BLOCK_BYTES: usize = 144 << 10;
/// Weights whose magnitudes are all below this count as 0.
const LEAST: f32 = 1e-30;
/// Weights beyond this many times the root mean square of their output stay floats.
const FAR_OUT: f32 = 12.0;
/// With more inputs a sum could leave 32 bits: `k * 255 * 127 < 2^31`.
pub(crate) const MAX_INPUTS: usize = 65_536;

/// A weight `[n, k]` of bytes in panels.
pub(crate) struct BytePanels {
    /// What it is packed for.
    isa: Isa,
    n: usize,
    k: usize,
    data: Buffer,
    /// For each output, filled up to whole panels: its scale, and the sum of its bytes.
    scales: Vec<f32>,
    sums: Vec<i32>,
    /// The weights that stay floats, in the order of their outputs; 0 among the bytes.
    far_out: Vec<FarOut>,
}

/// A weight that stays a float.
#[derive(Debug, Clone, Copy)]
struct FarOut {
    output: usize,
    input: usize,
    weight: f32,
}

impl BytePanels {
    /// Quantises and packs a weight whose row `o` is `row(o)`, each of `k` values.
    pub(crate) fn pack<'a>(isa: Isa, n: usize, k: usize, row: impl Fn(usize) -> &'a [f32]) -> Self {
        assert!(k <= MAX_INPUTS, "too many inputs for sums of 32 bits");
        let width = panel::width(isa);
        let size = Bytes::stride(k) * width;
        let filled = n.next_multiple_of(width);
        let mut data = Buffer::for_weight::<i8>(filled / width * size);
        let (mut scales, mut sums) = (vec![0.0; filled], vec![0; filled]);
        let mut far_out = Vec::new();
        let largest_four = isa.constants().largest_four;
        let mut kept = Vec::with_capacity(k);
        let bytes = data.as_mut_slice::<i8>();
        for output in 0..n {
            let row = row(output);
            assert_eq!(row.len(), k, "a row of the weight");
            kept.clear();
            kept.extend_from_slice(row);
            far_out.extend(take_far_out(output, &mut kept));
            let scale = scale(largest_four, &kept);
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let panel = &mut bytes[output / width * size..][..size];
            for (i, w) in kept.iter().enumerate() {
                let q = (w * inverse).round() as i8;
                panel[place(width, i, output % width)] = q;
                sums[output] += i32::from(q);
            }
            scales[output] = scale;
        }
        Self {
            isa,
            n,
            k,
            data,
            scales,
            sums,
            far_out,
        }
    }

    /// The weights of some outputs that stay floats.
    fn far_out(&self, outputs: Range<usize>) -> &[FarOut] {
        let before = |end: usize| self.far_out.partition_point(|weight| weight.output < end);
        &self.far_out[before(outputs.start)..before(outputs.end)]
    }

    pub(crate) fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes() + 8 * self.scales.len() + size_of_val(&*self.far_out)
    }

    /// The values of one output, in order.
    pub(crate) fn row(&self, output: usize) -> impl Iterator<Item = f32> + '_ {
        assert!(output < self.n, "no such output");
        let width = panel::width(self.isa);
        let size = Bytes::stride(self.k) * width;
        let panel = &self.data.as_slice::<i8>()[output / width * size..][..size];
        let scale = self.scales[output];
        let far_out = self.far_out(output..output + 1);
        (0..self.k).map(move |i| {
            let apart = far_out.iter().find(|weight| weight.input == i);
            let byte = scale * f32::from(panel[place(width, i, output % width)]);
            apart.map_or(byte, |apart| apart.weight)
        })
    }

    /// `x · wᵀ` for `x` of `m` rows, which are quantised as well.
    pub(crate) fn product<'a>(
        &'a self,
        m: usize,
        floats: &'a [f32],
        (x, rows): (&'a [u8], &'a [Affine]),
        target: Target<'a>,
    ) -> Work<'a> {
        assert_eq!(floats.len(), m * self.k, "the input of a product");
        assert!(
            x.len() == m * Bytes::stride(self.k) && rows.len() == m,
            "quantised rows"
        );
        target.check(m, self.n);
        let isa = self.isa;
        let panels = self.n.div_ceil(panel::width(isa));
        let block = panel::rows_within(BLOCK_BYTES / Bytes::stride(self.k).max(1));
        let grid = Grid::new(m, block, panels);
        Work::new(grid.units(), move |units| {
            isa.run(Product {
                weight: self,
                grid,
                floats,
                x,
                rows,
                target,
                units,
            });
        })
    }
}

/// Puts 0 in place of the weights that stand far out of their output, and gives them.
fn take_far_out(output: usize, row: &mut [f32]) -> impl Iterator<Item = FarOut> {
    let square = row.iter().map(|w| w * w).sum::<f32>() / row.len().max(1) as f32;
    let far = FAR_OUT * square.sqrt();
    let far_out = row.iter_mut().enumerate();
    far_out
        .filter(move |(_, weight)| weight.abs() > far)
        .map(move |(input, weight)| FarOut {
            output,
            input,
            weight: std::mem::take(weight),
        })
}

/// The finest scale of an output's weights at which their bytes suffice, and so do the sums of those
/// that meet ([`Simd::LARGEST_FOUR`]); 0 if all count as 0.
fn scale(largest_four: u16, row: &[f32]) -> f32 {
    let (mut largest, mut most) = (0f32, 0f32);
    for step in row.chunks(STEP) {
        let mut meeting = [0.0; 2];
        for (i, weight) in step.iter().enumerate() {
            largest = largest.max(weight.abs());
            meeting[i % GROUP / 2] += weight.abs();
        }
        most = most.max(meeting[0]).max(meeting[1]);
    }
    if largest < LEAST {
        return 0.0;
    }
    // Each of the four may be rounded up by half.
    (largest / 127.0).max(most / f32::from(largest_four - 2))
}

/// Where in its panel of so many columns the byte of an input and a column is.
fn place(width: usize, input: usize, column: usize) -> usize {
    (input / GROUP * width + column) * GROUP + input % GROUP
}

struct Product<'a> {
    weight: &'a BytePanels,
    grid: Grid,
    floats: &'a [f32],
    x: &'a [u8],
    rows: &'a [Affine],
    target: Target<'a>,
    units: Range<usize>,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n, k, width) = (self.weight.n, self.weight.k, 2 * S::LANES);
        let stride = Bytes::stride(k);
        let data = self.weight.data.as_slice::<i8>();
        for unit in self.units {
            let (rows, p) = self.grid.unit(unit);
            let first = rows.start;
            let rows = &self.rows[rows];
            let panel = Panel {
                bytes: &data[p * stride * width..][..stride * width],
                scales: &self.weight.scales[p * width..][..width],
                sums: &self.weight.sums[p * width..][..width],
                far_out: self.weight.far_out(p * width..(p + 1) * width),
                first: p * width,
                columns: width.min(n - p * width),
            };
            let floats = &self.floats[first * k..][..rows.len() * k];
            let x = &self.x[first * stride..][..rows.len() * stride];
            let next = panel.bytes.as_ptr_range().end.cast();
            let mut row = 0;
            while row < rows.len() {
                let input = Input {
                    floats: &floats[row * k..],
                    bytes: &x[row * stride..],
                    rows: &rows[row..],
                    k,
                };
                let left = evenly(rows.len() - row, S::BYTE_ROWS);
                // SAFETY: as many rows are left, the panel is whole, `product` has checked the
                // target, and no other unit has these rows and columns.
                row += super::by_rows!(S::BYTE_ROWS, left, ROWS => unsafe {
                    let done = (row..row + ROWS, rows.len());
                    let next = (next, panel.bytes.len());
                    let lines = (STEP * width).div_ceil(LINE);
                    let ahead = Ahead::share(next, done, stride / STEP, lines);
                    micro::<S, ROWS>(s, input, &panel, ahead, self.target, first + row)
                });
            }
        }
    }
}

/// One panel, and what belongs to its columns.
struct Panel<'a> {
    bytes: &'a [i8],
    scales: &'a [f32],
    sums: &'a [i32],
    far_out: &'a [FarOut],
    /// Its first output.
    first: usize,
    columns: usize,
}

/// Rows of the input, of `k` values.
struct Input<'a> {
    floats: &'a [f32],
    /// [`Bytes::stride`] apart.
    bytes: &'a [u8],
    rows: &'a [Affine],
    k: usize,
}

/// `ROWS` rows times a panel, which are the rows of the target from `row` on.
///
/// # Safety
/// There are so many rows, the panel has as many bytes an output as a row, the target is checked.
#[inline(always)]
unsafe fn micro<S: Simd, const ROWS: usize>(
    s: S,
    x: Input<'_>,
    panel: &Panel<'_>,
    ahead: Ahead,
    target: Target<'_>,
    row: usize,
) {
    let width = 2 * S::LANES;
    let mut acc = [[s.splat_i(0); 2]; ROWS];
    let stride = Bytes::stride(x.k);
    // SAFETY: inside of what the caller vouches for.
    unsafe {
        let weights = panel.bytes.as_ptr().cast::<u8>();
        for i in (0..stride).step_by(STEP) {
            let w = weights.add(i * width);
            ahead.ask(s, i / STEP);
            let (next, half) = (w.add(GROUP * width), GROUP * S::LANES);
            let w = [
                [s.load_i(w), s.load_i(next)],
                [s.load_i(w.add(half)), s.load_i(next.add(half))],
            ];
            for r in 0..ROWS {
                let x = x.bytes.as_ptr().add(r * stride + i);
                let x = [s.splat_4(x), s.splat_4(x.add(GROUP))];
                for half in 0..2 {
                    let open = s.dot_open(s.open(acc[r][half]), x[0], w[half][0]);
                    acc[r][half] = s.close(s.dot_open(open, x[1], w[half][1]), acc[r][half]);
                }
            }
        }
        // Put down first: what follows is too long to be unrolled, and sums that are counted through
        // would leave their registers in the loop above.
        let mut sums = [[[0.0; MAX_LANES]; 2]; ROWS];
        for half in 0..2 {
            let sum = s.load_i(panel.sums.as_ptr().add(half * S::LANES).cast());
            for r in 0..ROWS {
                let zero = s.splat_i((*x.rows.as_ptr().add(r)).zero);
                let exact = s.to_float(s.sub_i(acc[r][half], s.mul_i(sum, zero)));
                s.store(sums[r][half].as_mut_ptr(), exact);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let affine = &*x.rows.as_ptr().add(r);
            let (scale, largest) = (s.splat(affine.scale), s.splat(affine.largest));
            // The weights of the input that is left out: its byte of a group of four.
            let group = affine.largest_at / GROUP * width * GROUP;
            let one = s.splat_i((1i32 << (8 * (affine.largest_at % GROUP))).to_le());
            for half in 0..2 {
                let at = half * S::LANES;
                if at >= panel.columns {
                    break;
                }
                let mut value = s.mul(s.load(sums[half].as_ptr()), scale);
                if x.k > 0 {
                    let weight = s.load_i(weights.add(group + at * GROUP));
                    let weight = s.to_float(s.dot(s.splat_i(0), one, weight));
                    value = s.fma(weight, largest, value);
                }
                value = s.mul(value, s.load(panel.scales.as_ptr().add(at)));
                let output = panel.first + at;
                if !panel.far_out.is_empty() {
                    let x = &x.floats[r * x.k..][..x.k];
                    value = s.add(value, far_out(s, x, panel.far_out, (output, S::LANES)));
                }
                target.write(s, row + r, output, panel.columns - at, value);
            }
        }
    }
}

/// What the weights that stay floats add to so many outputs from a first one on.
#[inline(always)]
fn far_out<S: Simd>(s: S, x: &[f32], weights: &[FarOut], outputs: (usize, usize)) -> S::F {
    let mut lanes = [0.0; MAX_LANES];
    for weight in weights {
        let lane = weight.output.wrapping_sub(outputs.0);
        if lane < outputs.1 {
            lanes[lane] += x[weight.input] * weight.weight;
        }
    }
    // SAFETY: there are as many lanes as a vector can have.
    unsafe { s.load(lanes.as_ptr()) }
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
        let mut memory = Bytes::default();
        for isa in Isa::available() {
            let panels = BytePanels::pack(isa, n, k, |o| &w[o * k..][..k]);
            let read: Vec<Vec<f32>> = (0..n).map(|o| panels.row(o).collect()).collect();
            let steps = f32::from(isa.constants().largest_four - 2) / 4.0;
            for (read, w) in read.iter().flatten().zip(&w) {
                assert!((read - w).abs() <= 0.501 * scale / steps, "{read} for {w}");
            }
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
                    let quantised = memory.quantize(isa, m, &x);
                    run_all(&[panels.product(m, &x, quantised, target)]);
                })
            };
            let mut want = Vec::new();
            let mut sizes = Vec::new();
            let (bytes, rows) = memory.quantize(isa, m, &x);
            for row in 0..m {
                for output in 0..n {
                    let products = (0..k).map(|i| {
                        rows[row].read(i, bytes[row * Bytes::stride(k) + i])
                            * f64::from(read[output][i])
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

    /// The largest bytes of rows with weights that are as large together as they may be, where a sum of
    /// 16 bits would overflow first.
    #[test]
    fn the_largest_products_are_exact() {
        let patterns = [
            [1.0; 8],
            [-1.0; 8],
            [1.0, 0.4, 0.0, -0.1, 0.0, 0.05, -1.0, -0.4],
        ];
        for (isa, pattern) in Isa::available()
            .into_iter()
            .flat_map(|isa| patterns.map(|p| (isa, p)))
        {
            let (x, w) = ([1f32; 64], pattern.repeat(8));
            let panels = BytePanels::pack(isa, 1, 64, |_| &w);
            let mut out = [0.0];
            let target = Target::whole(super::super::memory::Cells::of(&mut out), 1);
            let mut memory = Bytes::default();
            let quantised = memory.quantize(isa, 1, &x);
            run_all(&[panels.product(1, &x, quantised, target)]);
            let want: f32 = panels.row(0).sum();
            assert!((out[0] - want).abs() < 1e-4, "{isa:?} {} {want}", out[0]);
        }
    }
}
