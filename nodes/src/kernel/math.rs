//! Exponential and the activations made of it, a vector at a time.

use super::simd::Simd;
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

/// ln 2 in two parts: the first has few bits, so that its multiples are exact.
const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
/// The Taylor series of `e^r` from the sixth power down to the second.
const EXP: [f32; 5] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5];
/// `erf(x / √2)` is `x * p(x²) / q(x²)` up to here, and as good as 1 beyond: the highest power first.
/// Fitted to the least error of [`gelu`] by Lawson's reweighting of a linear fit (C. L. Lawson 1961,
/// *Contributions to the theory of linear least maximum approximation*).
const ERF_END: f32 = 5.543_717;
const ERF_P: [f32; 7] = [
    2.206_611_4e-10,
    -4.459_745e-8,
    6.765_155e-6,
    3.642_403_2e-4,
    9.163_016e-3,
    7.405_475e-2,
    0.797_883_9,
];
const ERF_Q: [f32; 5] = [
    6.637_839_4e-5,
    1.897_008e-3,
    2.973_635_5e-2,
    0.259_476_75,
    1.0,
];

/// `e^x` with a relative error below 4e-7; outside of -87 to 88 it stays at those ends' values, so
/// it is never 0 nor infinite.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.min(s.max(x, s.splat(-87.0)), s.splat(88.0));
    let n = s.round(s.mul(x, s.splat(LOG2_E)));
    let r = s.fma(n, s.splat(-LN_2.0), x);
    let r = s.fma(n, s.splat(-LN_2.1), r);
    let p = polynomial(s, &EXP, r);
    let p = s.fma(s.mul(p, r), r, s.add(r, s.splat(1.0)));
    s.mul(p, s.pow2(n))
}

/// `e^x` for the softmax of what lies `x` below the largest: off by at most 1e-30, and 0 where it would be less than
/// that. Numbers near the end of their range take some processors a hundred times as long to multiply.
#[inline(always)]
pub(crate) fn weight<S: Simd>(s: S, x: S::F) -> S::F {
    s.max(s.sub(exp(s, x), s.splat(1e-30)), s.zero())
}

/// `x / 2 * (1 + erf(x / √2))`, with an absolute error below 3e-7 * max(1, |x|).
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    let near = s.min(s.max(x, s.splat(-ERF_END)), s.splat(ERF_END));
    let square = s.mul(near, near);
    let p = polynomial(s, &ERF_P, square);
    let q = polynomial(s, &ERF_Q, square);
    let erf = s.mul(near, s.div(p, q));
    let half = s.mul(x, s.splat(0.5));
    s.fma(half, erf, half)
}

#[inline(always)]
fn polynomial<S: Simd>(s: S, coefficients: &[f32], x: S::F) -> S::F {
    let mut p = s.splat(coefficients[0]);
    for c in &coefficients[1..] {
        p = s.fma(p, x, s.splat(*c));
    }
    p
}

/// `x / (1 + e^-x)`, with a relative error below 1e-6.
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    let e = exp(s, s.sub(s.splat(0.0), x));
    s.div(x, s.add(e, s.splat(1.0)))
}

/// `x / 2 * (1 + tanh(√(2/π) * (x + 0.044715 x³)))`, with an absolute error below
/// 1e-6 * max(1, |x|).
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    // (1 + tanh z) / 2 = 1 / (1 + e^-2z)
    const MINUS_TWO_ROOT: f32 = -2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    let cube = s.mul(s.mul(x, x), s.mul(x, s.splat(0.044_715)));
    let e = exp(s, s.mul(s.add(x, cube), s.splat(MINUS_TWO_ROOT)));
    s.div(x, s.add(e, s.splat(1.0)))
}

/// The larger of `x` and 0.
#[inline(always)]
pub(crate) fn relu<S: Simd>(s: S, x: S::F) -> S::F {
    s.max(x, s.splat(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::isa::{Isa, Kernel};

    /// Applies every function to values, `LANES` at a time.
    struct All<'a> {
        x: &'a [f32],
        out: &'a mut Vec<[f32; 6]>,
    }

    impl Kernel for All<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for x in self.x {
                let mut row = [0f32; 6];
                let v = s.splat(*x);
                let all = [
                    exp(s, v),
                    gelu(s, v),
                    silu(s, v),
                    gelu_tanh(s, v),
                    relu(s, v),
                    weight(s, v),
                ];
                for i in 0..6 {
                    // SAFETY: one lane fits into one float.
                    unsafe { s.store_some(&mut row[i], all[i], 1) };
                }
                self.out.push(row);
            }
        }
    }

    #[test]
    fn functions_keep_their_stated_errors() {
        let mut x: Vec<f32> = (-90_000..90_000).map(|i| i as f32 / 1000.0).collect();
        x.extend([0.0, -0.0, 1e-30, -1e-30, 1e4, -1e4, f32::MAX, f32::MIN]);
        for isa in Isa::available() {
            let mut out = Vec::new();
            isa.run(All {
                x: &x,
                out: &mut out,
            });
            for (x, [e, g, s, t, r, w]) in x.iter().zip(&out) {
                let wide = f64::from(*x);
                let magnitude = wide.abs().max(1.0);
                let near = |what: &str, got: f32, want: f64, bound: f64| {
                    let error = (f64::from(got) - want).abs();
                    assert!(error <= bound, "{isa:?} {what}({x}) = {got}, not {want}");
                };
                let exact = wide.clamp(-87.0, 88.0).exp();
                near("exp", *e, exact, 4e-7 * exact);
                near("weight", *w, exact, 4e-7 * exact + 1.1e-30);
                assert!(*w == 0.0 || *w > 1e-37, "{isa:?} weight({x}) = {w}");
                near("gelu", *g, reference_gelu(wide), 3e-7 * magnitude);
                near("silu", *s, wide / (1.0 + (-wide).exp()), 1e-6 * magnitude);
                let tanh = (0.797_884_560_802_865_4 * (wide + 0.044_715 * wide.powi(3))).tanh();
                near("gelu_tanh", *t, 0.5 * wide * (1.0 + tanh), 1e-6 * magnitude);
                near("relu", *r, wide.max(0.0), 0.0);
            }
        }
    }

    /// Through the series of erf near 0 and its continued fraction elsewhere.
    fn reference_gelu(x: f64) -> f64 {
        let z = x.abs() * std::f64::consts::FRAC_1_SQRT_2;
        let erf = if z < 2.5 {
            let (mut term, mut sum) = (z, z);
            for n in 1..80 {
                let n = f64::from(n);
                term *= -z * z / n;
                sum += term / (2.0 * n + 1.0);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let mut fraction = 0.0;
            for n in (1..80).rev() {
                fraction = f64::from(n) / 2.0 / (z + fraction);
            }
            1.0 - (-z * z).exp() / (z + fraction) / std::f64::consts::PI.sqrt()
        };
        0.5 * x * (1.0 + erf * x.signum())
    }
}
