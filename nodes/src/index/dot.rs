//! Inner products over rows of vectors, the inner loop of a search.
//!
//! The loops are written so that the compiler vectorises them, and compiled several times by `pulp`
//! for the instruction sets that the machine may have. The order of the additions is fixed by the
//! source and nothing is fused, so that every machine gives the same bits.

/// Partial sums of an inner product: enough to fill the widest registers several times.
const LANES: usize = 64;

/// The inner product of two vectors of the same size.
pub(super) fn dot(one: &[f32], other: &[f32]) -> f32 {
    vectorised(
        #[inline(always)]
        || dot_f32(one, other),
    )
}

/// Puts the inner product of `query` with each row into `scores`.
pub(super) fn scan_f32<'a>(
    query: &[f32],
    rows: impl Iterator<Item = &'a [f32]>,
    scores: &mut Vec<f32>,
) {
    vectorised(
        #[inline(always)]
        || {
            scores.clear();
            scores.extend(rows.map(|row| dot_f32(query, row)));
        },
    );
}

/// Puts the inner product of `query` with each row, times the row's scale, into `scores`.
pub(super) fn scan_i8<'a>(
    query: &[i8],
    rows: impl Iterator<Item = (&'a [i8], f32)>,
    scores: &mut Vec<f32>,
) {
    vectorised(
        #[inline(always)]
        || {
            scores.clear();
            scores.extend(rows.map(|(row, scale)| dot_i8(query, row) as f32 * scale));
        },
    );
}

#[inline(always)]
fn dot_f32(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (ones, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let (one_rest, other_rest) = (ones.remainder(), others.remainder());
    for (one, other) in ones.zip(others) {
        for lane in 0..LANES {
            sums[lane] += one[lane] * other[lane];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    let rest: f32 = one_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum();
    sums[0] + rest
}

#[inline(always)]
fn dot_i8(one: &[i8], other: &[i8]) -> i32 {
    let products = one.iter().zip(other);
    products
        .map(|(a, b)| i32::from(i16::from(*a) * i16::from(*b)))
        .sum()
}

/// Runs `work`, compiled for the best instruction set that this machine has.
#[cfg(target_arch = "x86_64")]
#[inline]
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    use pulp::x86::{V3, V4};
    if let Some(machine) = V4::try_new() {
        machine.vectorize(work)
    } else if let Some(machine) = V3::try_new() {
        machine.vectorize(work)
    } else {
        work()
    }
}

/// Runs `work`: elsewhere, the base instruction set is what there is.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_plain_sum(pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 1..300)) {
            let (one, other): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let plain: f64 = one.iter().zip(&other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            prop_assert!((f64::from(dot(&one, &other)) - plain).abs() < 1e-4);
        }

        #[test]
        fn bytes_are_exact(pairs in prop::collection::vec((-127i8..=127, -127i8..=127), 1..300)) {
            let (one, other): (Vec<i8>, Vec<i8>) = pairs.into_iter().unzip();
            let plain: i64 = one.iter().zip(&other).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
            let mut scores = Vec::new();
            scan_i8(&one, std::iter::once((&other[..], 1.0)), &mut scores);
            prop_assert_eq!(scores, vec![plain as f32]);
        }
    }
}
