//! What is done row by row: norms, softmax, gates, rotary positions.

use super::{
    isa::{Isa, Kernel},
    math,
    memory::{Cells, written},
    quantize::in_parts,
    simd::Simd,
};
use std::ops::Range;

/// Something that makes rows of one width from rows of another.
trait Rowwise: Sync {
    /// Writes every value of row `row` to `out`.
    ///
    /// Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// `out` has room for a row.
    unsafe fn row<S: Simd>(&self, s: S, row: usize, out: *mut f32);
}

/// `m` rows of `width` values.
fn each_row(isa: Isa, m: usize, width: usize, work: &impl Rowwise) -> Vec<f32> {
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

/// `(x - mean) / sqrt(variance + eps) * weight + bias` of rows as wide as the weight.
pub(crate) fn layer_norm(isa: Isa, x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    assert!(
        width > 0 && x.len().is_multiple_of(width) && bias.len() == width,
        "widths"
    );
    let norm = LayerNorm {
        x,
        weight,
        bias,
        eps,
    };
    each_row(isa, x.len() / width, width, &norm)
}

struct LayerNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl Rowwise for LayerNorm<'_> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, s: S, row: usize, out: *mut f32) {
        let width = self.weight.len();
        let x = &self.x[row * width..][..width];
        let mut sum = s.zero();
        for i in (0..width).step_by(S::LANES) {
            sum = s.add(sum, s.get(x, i, 0.0));
        }
        let mean = s.sum(sum) / width as f32;
        let mut squares = s.zero();
        for i in (0..width).step_by(S::LANES) {
            let d = s.sub(s.get(x, i, mean), s.splat(mean));
            squares = s.fma(d, d, squares);
        }
        let scale = 1.0 / (s.sum(squares) / width as f32 + self.eps).sqrt();
        for i in (0..width).step_by(S::LANES) {
            let d = s.sub(s.get(x, i, mean), s.splat(mean));
            let (weight, bias) = (s.get(self.weight, i, 0.0), s.get(self.bias, i, 0.0));
            let y = s.fma(s.mul(d, s.splat(scale)), weight, bias);
            // SAFETY: room for the row.
            unsafe { s.put(out.add(i), width - i, y) };
        }
    }
}

/// A root-mean-square norm: `x / sqrt(mean(x²) + eps) * weight` of groups as wide as the weight.
#[derive(Clone, Copy)]
pub(crate) struct Rms<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
}

/// The norm of every group, and what is added to it.
pub(crate) fn rms_norm(isa: Isa, x: &[f32], norm: Rms<'_>, residual: Option<&[f32]>) -> Vec<f32> {
    let width = norm.weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "widths");
    assert!(residual.is_none_or(|added| added.len() == x.len()), "rows");
    each_row(isa, x.len() / width, width, &Normed { x, norm, residual })
}

struct Normed<'a> {
    x: &'a [f32],
    norm: Rms<'a>,
    residual: Option<&'a [f32]>,
}

impl Rowwise for Normed<'_> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, s: S, row: usize, out: *mut f32) {
        let width = self.norm.weight.len();
        let group = row * width..(row + 1) * width;
        let residual = self.residual.map(|residual| &residual[group.clone()]);
        // SAFETY: room for the row.
        unsafe { self.norm.write(s, &self.x[group], residual, out) };
    }
}

impl Rms<'_> {
    /// Writes the norm of a group, and what is added to it.
    ///
    /// # Safety
    /// `out` has room for it.
    #[inline(always)]
    unsafe fn write<S: Simd>(self, s: S, x: &[f32], residual: Option<&[f32]>, out: *mut f32) {
        let width = x.len();
        let mut squares = s.zero();
        for i in (0..width).step_by(S::LANES) {
            let v = s.get(x, i, 0.0);
            squares = s.fma(v, v, squares);
        }
        let scale = 1.0 / (s.sum(squares) / width as f32 + self.eps).sqrt();
        for i in (0..width).step_by(S::LANES) {
            let v = s.mul(s.get(x, i, 0.0), s.splat(scale));
            let mut y = s.mul(v, s.get(self.weight, i, 0.0));
            if let Some(residual) = residual {
                y = s.add(s.get(residual, i, 0.0), y);
            }
            // SAFETY: as the caller says.
            unsafe { s.put(out.add(i), width - i, y) };
        }
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
            let e = math::exp(s, s.sub(s.get(x, i, 0.0), s.splat(largest)));
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

/// The cosines and sines of rotary positions: `half` of each for a row.
#[derive(Clone, Copy)]
pub(crate) struct Angles<'a> {
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
    pub(crate) half: usize,
    /// Value `2i` goes with `2i + 1`, and not `i` with `half + i`.
    pub(crate) interleaved: bool,
}

/// Heads to be turned: some columns of rows that lie `pitch` values apart.
pub(crate) struct Heads<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) pitch: usize,
    pub(crate) columns: Range<usize>,
    pub(crate) head_dim: usize,
    /// What is done with every head before.
    pub(crate) norm: Option<Rms<'a>>,
    pub(crate) angles: Angles<'a>,
}

/// Turns the first `2 * half` values of every head; the result has the heads' columns alone.
pub(crate) fn rope(isa: Isa, heads: &Heads<'_>) -> Vec<f32> {
    let (width, angles) = (heads.columns.len(), heads.angles);
    assert!(
        heads.head_dim > 0
            && width.is_multiple_of(heads.head_dim)
            && 2 * angles.half <= heads.head_dim,
        "heads"
    );
    assert!(
        heads.columns.end <= heads.pitch
            && heads
                .norm
                .is_none_or(|norm| norm.weight.len() == heads.head_dim),
        "columns"
    );
    let m = heads.x.len().checked_div(heads.pitch).unwrap_or(0);
    let len = m * angles.half;
    assert!(
        m * heads.pitch == heads.x.len() && angles.cos.len() == len && angles.sin.len() == len,
        "rows"
    );
    each_row(isa, m, width, heads)
}

impl Rowwise for Heads<'_> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, s: S, row: usize, out: *mut f32) {
        let x = &self.x[row * self.pitch..][self.columns.clone()];
        for (head, x) in x.chunks_exact(self.head_dim).enumerate() {
            let out = out.wrapping_add(head * self.head_dim);
            // SAFETY: room for the row; the whole head is written before it is turned.
            unsafe {
                match self.norm {
                    Some(norm) => norm.write(s, x, None, out),
                    None => std::ptr::copy_nonoverlapping(x.as_ptr(), out, x.len()),
                }
                self.angles.turn(s, row, out);
            }
        }
    }
}

impl Angles<'_> {
    /// Turns a head of a row where it is.
    ///
    /// # Safety
    /// There are `2 * half` values.
    #[inline(always)]
    unsafe fn turn<S: Simd>(self, s: S, row: usize, head: *mut f32) {
        let half = self.half;
        let cos = &self.cos[row * half..][..half];
        let sin = &self.sin[row * half..][..half];
        if self.interleaved {
            for i in 0..half {
                // SAFETY: as the caller says.
                let (a, b) = unsafe { (&mut *head.add(2 * i), &mut *head.add(2 * i + 1)) };
                (*a, *b) = (*a * cos[i] - *b * sin[i], *a * sin[i] + *b * cos[i]);
            }
            return;
        }
        for i in (0..half).step_by(S::LANES) {
            let (c, d) = (s.get(cos, i, 0.0), s.get(sin, i, 0.0));
            let room = half - i;
            // SAFETY: as the caller says.
            unsafe {
                let (first, second) = (head.add(i), head.add(half + i));
                let (a, b) = (
                    s.load_some(first, room, 0.0),
                    s.load_some(second, room, 0.0),
                );
                s.put(first, room, s.sub(s.mul(a, c), s.mul(b, d)));
                s.put(second, room, s.fma(a, d, s.mul(b, c)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Random, assert_near},
        *,
    };

    const WIDTHS: [usize; 9] = [1, 2, 5, 15, 16, 17, 64, 100, 384];

    /// Compares a row-wise function with one in f64, for widths with and without full vectors.
    fn check(
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

    fn weights(width: usize) -> (Vec<f32>, Vec<f32>) {
        let mut random = Random(width as u64 + 99);
        (random.floats(width), random.floats(width))
    }

    #[test]
    fn layer_norm_equals_the_formula() {
        let got = |isa, x: &[f32], width| {
            let (weight, bias) = weights(width);
            layer_norm(isa, x, &weight, &bias, 1e-6)
        };
        check("layer norm", &[1.0, 1e4], got, |x, width| {
            let (weight, bias) = weights(width);
            let row = |x: &[f64]| -> Vec<f64> {
                let mean = x.iter().sum::<f64>() / width as f64;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                let scale = 1.0 / (variance + 1e-6).sqrt();
                let y = x.iter().zip(&weight).zip(&bias);
                y.map(|((x, w), b)| (x - mean) * scale * f64::from(*w) + f64::from(*b))
                    .collect()
            };
            x.chunks(width).flat_map(row).collect()
        });
    }

    #[test]
    fn rms_norm_equals_the_formula() {
        let got = |isa, x: &[f32], width| {
            let (weight, residual) = weights(width);
            let norm = Rms {
                weight: &weight,
                eps: 1e-6,
            };
            let plain = rms_norm(isa, x, norm, None);
            let residual: Vec<f32> = residual.iter().cycle().copied().take(x.len()).collect();
            let added = rms_norm(isa, x, norm, Some(&residual));
            for ((added, plain), residual) in added.iter().zip(&plain).zip(residual) {
                assert_eq!(*added, residual + plain);
            }
            plain
        };
        check("rms norm", &[1.0, 1e15, 1e-8], got, |x, width| {
            let (weight, _) = weights(width);
            let row = |x: &[f64]| -> Vec<f64> {
                let square = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
                let scale = 1.0 / (square + 1e-6).sqrt();
                x.iter()
                    .zip(&weight)
                    .map(|(x, w)| x * scale * f64::from(*w))
                    .collect()
            };
            x.chunks(width).flat_map(row).collect()
        });
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

    #[test]
    fn heads_are_normed_and_their_pairs_turned() {
        for (head_dim, half) in [(2, 1), (8, 4), (10, 3), (64, 32), (80, 16), (256, 128)] {
            for interleaved in [false, true] {
                let (m, width, pitch) = (3, 2 * head_dim, 2 * head_dim + 5);
                let columns = 3..3 + width;
                let mut random = Random(head_dim as u64);
                let (x, weight) = (random.floats(m * pitch), random.floats(head_dim));
                let turns: Vec<f64> = (0..m * half).map(|_| f64::from(random.float())).collect();
                let cos: Vec<f32> = turns.iter().map(|a| a.cos() as f32).collect();
                let sin: Vec<f32> = turns.iter().map(|a| a.sin() as f32).collect();
                let rows = x.chunks(pitch).flat_map(|row| &row[columns.clone()]);
                let plain: Vec<f64> = rows.map(|x| f64::from(*x)).collect();
                let mut normed = plain.clone();
                for head in normed.chunks_mut(head_dim) {
                    let squares: f64 = head.iter().map(|x| x * x).sum();
                    let scale = (squares / head_dim as f64 + 1e-6).sqrt().recip();
                    for (x, weight) in head.iter_mut().zip(&weight) {
                        *x *= scale * f64::from(*weight);
                    }
                }
                let turn = |(i, head): (usize, &mut [f64])| {
                    for pair in 0..half {
                        let (a, b) = match interleaved {
                            true => (2 * pair, 2 * pair + 1),
                            false => (pair, half + pair),
                        };
                        let (sin, cos) = turns[i / 2 * half + pair].sin_cos();
                        (head[a], head[b]) =
                            (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
                    }
                };
                let angles = Angles {
                    cos: &cos,
                    sin: &sin,
                    half,
                    interleaved,
                };
                let norm = Rms {
                    weight: &weight,
                    eps: 1e-6,
                };
                for (norm, mut want, most) in [(None, plain, 1e-6), (Some(norm), normed, 1e-5)] {
                    want.chunks_mut(head_dim).enumerate().for_each(turn);
                    let heads = Heads {
                        x: &x,
                        pitch,
                        columns: columns.clone(),
                        head_dim,
                        norm,
                        angles,
                    };
                    for isa in Isa::available() {
                        let got = rope(isa, &heads);
                        assert_near(&format!("{isa:?} {head_dim}"), &got, &want, |_| most);
                    }
                }
            }
        }
    }
}
