//! Norms.

use super::{
    isa::Isa,
    rows::{Rowwise, each_row},
    simd::Simd,
};

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
    pub(super) unsafe fn write<S: Simd>(
        self,
        s: S,
        x: &[f32],
        residual: Option<&[f32]>,
        out: *mut f32,
    ) {
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

#[cfg(test)]
mod tests {
    use super::{
        super::{rows::tests::check, testing::Random},
        *,
    };

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
}
