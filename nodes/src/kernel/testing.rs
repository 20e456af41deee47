//! What the tests of kernels share: random numbers and comparison with an error bound.

/// Random numbers that are the same in every run (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From -1 to 1.
    pub(super) fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(super) fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }
}

/// Sizes of products: of no row, of one, of all remainders that the micro-kernels know, with and
/// without full panels and tiles; `k` is a multiple of `step`.
pub(super) fn shapes(step: usize) -> Vec<(usize, usize, usize)> {
    let mut random = Random(7);
    let mut shapes = vec![
        (0, 32, step),
        (1, 1, step),
        (1, 262, 3 * step),
        (12, 32, 2 * step),
        (25, 33, step),
        (193, 48, step),
        (200, 100, 2 * step),
    ];
    for m in 1..16 {
        let (n, k) = (1 + random.below(100), step * (1 + random.below(5)));
        shapes.push((m, n, k));
    }
    shapes
}

/// Every value is within `bound` of the reference.
pub(super) fn assert_near(what: &str, got: &[f32], want: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        let bound = bound(i);
        assert!(
            error <= bound,
            "{what}: [{i}] is {got}, not {want} ± {bound}"
        );
    }
}

/// So many values of Q8_0 with every bit pattern of codes and reasonable scales.
pub(super) fn random_q8_0(values: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..values / 32 {
        let scale = half::f16::from_f32(random.float().abs() / 128.0);
        bytes.extend(scale.to_le_bytes());
        bytes.extend((0..32).map(|_| random.bits() as u8));
    }
    bytes
}
