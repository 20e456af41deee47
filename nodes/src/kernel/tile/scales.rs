//! How the scales of 16 outputs lie in a tile.

use super::{super::simd::Simd, TILE, format::ScalesRead};
use half::f16;

/// The scales of 16 outputs by 32 inputs, and what eight such blocks share.
pub(super) trait Scales: 'static {
    /// Bytes of a block.
    const BYTES: usize;
    /// Bytes that eight blocks share.
    const SUPER_BYTES: usize = 0;
    /// What is taken from a code: 0, or a power of two.
    const OFFSET: i32 = 0;
    /// Whether the first and the last 16 inputs have scales of their own.
    const HALVES: bool = false;
    /// Whether there are minimums.
    const MINIMUM: bool = false;

    /// Puts the scales of one output.
    fn put(block: &mut [u8], supers: &mut [u8], lane: usize, scales: &ScalesRead);

    /// The scales of one output.
    fn read(block: &[u8], supers: &[u8], lane: usize) -> ScalesRead;

    /// What the codes of the outputs from `lane` on are multiplied by.
    ///
    /// # Safety
    /// There are so many bytes of both, and `lane + LANES` is at most 16.
    unsafe fn factor<S: Simd>(s: S, at: At, half: usize, lane: usize) -> S::F;

    /// What is taken away afterwards.
    ///
    /// # Safety
    /// As [`Scales::factor`].
    #[inline(always)]
    unsafe fn minimum<S: Simd>(s: S, _at: At, _half: usize, _lane: usize) -> S::F {
        s.zero()
    }
}

/// Where the scales of a block are.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) block: *const u8,
    pub(super) supers: *const u8,
}

const F16S: usize = 2 * TILE;

fn put_f16(to: &mut [u8], lane: usize, value: f16) {
    to[2 * lane..][..2].copy_from_slice(&value.to_ne_bytes());
}

fn get_f16(from: &[u8], lane: usize) -> f16 {
    f16::from_ne_bytes([from[2 * lane], from[2 * lane + 1]])
}

/// One factor: 16 halves. For Q4_0, Q5_0, Q8_0.
pub(super) struct Plain<const OFFSET: i32>;

impl<const OFFSET: i32> Scales for Plain<OFFSET> {
    const BYTES: usize = F16S;
    const OFFSET: i32 = OFFSET;

    fn put(block: &mut [u8], _supers: &mut [u8], lane: usize, scales: &ScalesRead) {
        put_f16(block, lane, scales.d);
    }

    fn read(block: &[u8], _supers: &[u8], lane: usize) -> ScalesRead {
        ScalesRead {
            d: get_f16(block, lane),
            m: f16::ZERO,
            scale: [1; 2],
            minimum: [0; 2],
        }
    }

    #[inline(always)]
    unsafe fn factor<S: Simd>(s: S, at: At, _half: usize, lane: usize) -> S::F {
        // SAFETY: as the caller says.
        unsafe { s.load_f16(at.block.cast::<f16>().add(lane)) }
    }
}

/// One factor and one minimum: 16 halves of each. For Q4_1, Q5_1.
pub(super) struct Pair;

impl Scales for Pair {
    const BYTES: usize = 2 * F16S;
    const MINIMUM: bool = true;

    fn put(block: &mut [u8], _supers: &mut [u8], lane: usize, scales: &ScalesRead) {
        put_f16(block, lane, scales.d);
        put_f16(&mut block[F16S..], lane, scales.m);
    }

    fn read(block: &[u8], _supers: &[u8], lane: usize) -> ScalesRead {
        ScalesRead {
            d: get_f16(block, lane),
            m: get_f16(&block[F16S..], lane),
            scale: [1; 2],
            minimum: [1; 2],
        }
    }

    #[inline(always)]
    unsafe fn factor<S: Simd>(s: S, at: At, _half: usize, lane: usize) -> S::F {
        // SAFETY: as the caller says.
        unsafe { s.load_f16(at.block.cast::<f16>().add(lane)) }
    }

    #[inline(always)]
    unsafe fn minimum<S: Simd>(s: S, at: At, _half: usize, lane: usize) -> S::F {
        // SAFETY: as the caller says.
        unsafe { s.load_f16(at.block.add(F16S).cast::<f16>().add(lane)) }
    }
}

/// A scale and a minimum of a byte each, and `d` and `m` for 256 inputs. For Q4_K, Q5_K.
pub(super) struct Super;

impl Scales for Super {
    const BYTES: usize = 2 * TILE;
    const SUPER_BYTES: usize = 2 * F16S;
    const MINIMUM: bool = true;

    fn put(block: &mut [u8], supers: &mut [u8], lane: usize, scales: &ScalesRead) {
        block[lane] = scales.scale[0].cast_unsigned();
        block[TILE + lane] = scales.minimum[0];
        put_f16(supers, lane, scales.d);
        put_f16(&mut supers[F16S..], lane, scales.m);
    }

    fn read(block: &[u8], supers: &[u8], lane: usize) -> ScalesRead {
        ScalesRead {
            d: get_f16(supers, lane),
            m: get_f16(&supers[F16S..], lane),
            scale: [block[lane].cast_signed(); 2],
            minimum: [block[TILE + lane]; 2],
        }
    }

    #[inline(always)]
    unsafe fn factor<S: Simd>(s: S, at: At, _half: usize, lane: usize) -> S::F {
        // SAFETY: as the caller says.
        unsafe {
            let d = s.load_f16(at.supers.cast::<f16>().add(lane));
            s.mul(d, s.load_u8(at.block.add(lane)))
        }
    }

    #[inline(always)]
    unsafe fn minimum<S: Simd>(s: S, at: At, _half: usize, lane: usize) -> S::F {
        // SAFETY: as the caller says.
        unsafe {
            let m = s.load_f16(at.supers.add(F16S).cast::<f16>().add(lane));
            s.mul(m, s.load_u8(at.block.add(TILE + lane)))
        }
    }
}

/// For each half a scale of a byte, and `d` for 256 inputs. For Q3_K, Q6_K.
pub(super) struct Halves<const OFFSET: i32>;

impl<const OFFSET: i32> Scales for Halves<OFFSET> {
    const BYTES: usize = 2 * TILE;
    const SUPER_BYTES: usize = F16S;
    const OFFSET: i32 = OFFSET;
    const HALVES: bool = true;

    fn put(block: &mut [u8], supers: &mut [u8], lane: usize, scales: &ScalesRead) {
        for half in 0..2 {
            block[half * TILE + lane] = scales.scale[half].cast_unsigned();
        }
        put_f16(supers, lane, scales.d);
    }

    fn read(block: &[u8], supers: &[u8], lane: usize) -> ScalesRead {
        ScalesRead {
            d: get_f16(supers, lane),
            m: f16::ZERO,
            scale: [block[lane], block[TILE + lane]].map(u8::cast_signed),
            minimum: [0; 2],
        }
    }

    #[inline(always)]
    unsafe fn factor<S: Simd>(s: S, at: At, half: usize, lane: usize) -> S::F {
        // SAFETY: as the caller says.
        unsafe {
            let d = s.load_f16(at.supers.cast::<f16>().add(lane));
            s.mul(d, s.load_i8(at.block.add(half * TILE + lane).cast()))
        }
    }
}

/// For each half a scale and a minimum of a byte each, and `d` and `m` for 256 inputs. For Q2_K.
pub(super) struct HalvesMin;

impl Scales for HalvesMin {
    const BYTES: usize = 4 * TILE;
    const SUPER_BYTES: usize = 2 * F16S;
    const HALVES: bool = true;
    const MINIMUM: bool = true;

    fn put(block: &mut [u8], supers: &mut [u8], lane: usize, scales: &ScalesRead) {
        for half in 0..2 {
            block[half * TILE + lane] = scales.scale[half].cast_unsigned();
            block[(2 + half) * TILE + lane] = scales.minimum[half];
        }
        put_f16(supers, lane, scales.d);
        put_f16(&mut supers[F16S..], lane, scales.m);
    }

    fn read(block: &[u8], supers: &[u8], lane: usize) -> ScalesRead {
        ScalesRead {
            d: get_f16(supers, lane),
            m: get_f16(&supers[F16S..], lane),
            scale: [block[lane], block[TILE + lane]].map(u8::cast_signed),
            minimum: [block[2 * TILE + lane], block[3 * TILE + lane]],
        }
    }

    #[inline(always)]
    unsafe fn factor<S: Simd>(s: S, at: At, half: usize, lane: usize) -> S::F {
        // SAFETY: as the caller says.
        unsafe {
            let d = s.load_f16(at.supers.cast::<f16>().add(lane));
            s.mul(d, s.load_u8(at.block.add(half * TILE + lane)))
        }
    }

    #[inline(always)]
    unsafe fn minimum<S: Simd>(s: S, at: At, half: usize, lane: usize) -> S::F {
        // SAFETY: as the caller says.
        unsafe {
            let m = s.load_f16(at.supers.add(F16S).cast::<f16>().add(lane));
            s.mul(m, s.load_u8(at.block.add((2 + half) * TILE + lane)))
        }
    }
}
