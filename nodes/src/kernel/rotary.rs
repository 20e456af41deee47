//! Rotary positions (Su et al. 2021, *RoFormer*).

use super::{
    isa::Isa,
    norm::Rms,
    rows::{Rowwise, each_row},
    simd::Simd,
};
use std::ops::Range;

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
