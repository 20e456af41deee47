//! Four lanes in plain Rust, for every other processor; the compiler makes of it what it can.

use super::{isa::Kernel, simd::Simd};
use half::{bf16, f16};

/// The token that every processor has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

const LANES: usize = 4;
/// Adding and taking away 1.5 * 2^23 rounds what is much smaller to an integer.
const ROUNDER: f32 = 12_582_912.0;

#[inline(always)]
fn each(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Simd for Portable {
    const LANES: usize = LANES;
    const REGISTERS: usize = 16;
    const ROWS: usize = 4;
    const BYTE_ROWS: usize = 4;
    const TILE_ROWS: usize = 1;
    type F = [f32; LANES];
    /// Each lane as its four bytes, the lowest first.
    type I = [[u8; 4]; LANES];

    #[inline(never)]
    fn call(self, kernel: impl Kernel) {
        kernel.run(self);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        each(a, a, |a, _| a.abs())
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        each(a, a, |a, _| (a + ROUNDER) - ROUNDER)
    }
    #[inline(always)]
    fn pow2(self, a: Self::F) -> Self::F {
        each(a, a, |a, _| {
            f32::from_bits(((a as i32 + 127) << 23).cast_unsigned())
        })
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        a[0].max(a[1]).max(a[2].max(a[3]))
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::F {
        // SAFETY: the caller vouches for the memory, here and below; arrays of floats or bytes
        // have no invalid values, and the reads need no alignment.
        unsafe { from.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: Self::F) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<Self::F>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> Self::F {
        // SAFETY: as in `load`.
        let a = unsafe { from.cast::<[f16; LANES]>().read_unaligned() };
        a.map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> Self::F {
        // SAFETY: as in `load`.
        let a = unsafe { from.cast::<[bf16; LANES]>().read_unaligned() };
        a.map(bf16::to_f32)
    }
    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> Self::F {
        // SAFETY: as in `load`.
        let a = unsafe { from.cast::<[u8; LANES]>().read_unaligned() };
        a.map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> Self::F {
        // SAFETY: as in `load`.
        let a = unsafe { from.cast::<[i8; LANES]>().read_unaligned() };
        a.map(f32::from)
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [x.to_le_bytes(); LANES]
    }
    #[inline(always)]
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanes(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanes(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn load_i(self, from: *const u8) -> Self::I {
        // SAFETY: as in `load`.
        unsafe { from.cast::<Self::I>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_i(self, to: *mut u8, a: Self::I) {
        // SAFETY: as in `store`.
        unsafe { to.cast::<Self::I>().write_unaligned(a) };
    }
    #[inline(always)]
    unsafe fn splat_4(self, from: *const u8) -> Self::I {
        // SAFETY: as in `load`.
        [unsafe { from.cast::<[u8; 4]>().read_unaligned() }; LANES]
    }
    #[inline(always)]
    fn dot(self, acc: Self::I, u: Self::I, i: Self::I) -> Self::I {
        let mut out = acc;
        for lane in 0..LANES {
            let mut sum = i32::from_le_bytes(acc[lane]);
            for byte in 0..4 {
                sum += i32::from(u[lane][byte]) * i32::from(i[lane][byte].cast_signed());
            }
            out[lane] = sum.to_le_bytes();
        }
        out
    }
    #[inline(always)]
    fn low_nibbles(self, a: Self::I) -> Self::I {
        a.map(|lane| lane.map(|byte| byte & 15))
    }
    #[inline(always)]
    fn high_nibbles(self, a: Self::I) -> Self::I {
        a.map(|lane| lane.map(|byte| byte >> 4))
    }
    #[inline(always)]
    fn put_upper(self, a: Self::I, bits: Self::I, at: usize, mask: u8) -> Self::I {
        let mut out = a;
        for lane in 0..LANES {
            for byte in 0..4 {
                let moved = u16::from(bits[lane][byte]) << 4 >> at;
                out[lane][byte] |= moved as u8 & mask;
            }
        }
        out
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        a.map(|lane| i32::from_le_bytes(lane) as f32)
    }
    #[inline(always)]
    fn to_int(self, a: Self::F) -> Self::I {
        self.round(a).map(|x| (x as i32).to_le_bytes())
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, a: Self::I) {
        // SAFETY: as in `load`.
        unsafe {
            to.cast::<[u8; LANES]>()
                .write_unaligned(a.map(|lane| lane[0]))
        }
    }
}

#[inline(always)]
fn lanes(a: [[u8; 4]; 4], b: [[u8; 4]; 4], f: impl Fn(i32, i32) -> i32) -> [[u8; 4]; 4] {
    let mut out = a;
    for i in 0..LANES {
        out[i] = f(i32::from_le_bytes(a[i]), i32::from_le_bytes(b[i])).to_le_bytes();
    }
    out
}
