//! Four lanes of NEON.

use super::{
    isa::{Kernel, arm},
    simd::Simd,
};
use half::{bf16, f16};
use std::arch::{aarch64::*, asm};

/// The token of a processor with NEON.
#[derive(Clone, Copy)]
pub(super) struct Neon(());

impl Neon {
    /// # Safety
    /// The processor has these instructions.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// See [`Simd::in_order`] and [`Simd::in_order_i`].
#[inline]
#[target_feature(enable = "neon")]
fn in_order(mut a: int32x4_t) -> int32x4_t {
    // SAFETY: it does nothing.
    unsafe { asm!("/* {0:q} */", inout(vreg) a, options(nostack, preserves_flags)) };
    a
}

/// Vector instructions on values.
///
/// SAFETY of all: a token exists only where the processor has the instructions ([`Neon::new`]), and
/// they touch no memory.
macro_rules! values {
    ($($name:ident($($arg:ident: $kind:ty),*) -> $out:ty $body:block)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $kind),*) -> $out { unsafe { $body } }
    )*};
}

/// Vector instructions on memory.
///
/// SAFETY of all: as [`values`], and the caller vouches for the memory as the trait says; none needs
/// alignment.
macro_rules! memory {
    ($($name:ident($($arg:ident: $kind:ty),*) -> $out:ty $body:block)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, $($arg: $kind),*) -> $out { unsafe { $body } }
    )*};
}

impl Simd for Neon {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    const ROWS: usize = 8;
    const BYTE_ROWS: usize = 8;
    const TILE_ROWS: usize = 4;
    type F = float32x4_t;
    type I = int32x4_t;

    #[inline(always)]
    fn call(self, kernel: impl Kernel) {
        // SAFETY: there is a token, so there are the instructions.
        unsafe { arm::on_neon(kernel) };
    }

    values! {
        splat(x: f32) -> float32x4_t { vdupq_n_f32(x) }
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t { vdivq_f32(a, b) }
        fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(c, a, b) }
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t { vminq_f32(a, b) }
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmaxq_f32(a, b) }
        abs(a: float32x4_t) -> float32x4_t { vabsq_f32(a) }
        round(a: float32x4_t) -> float32x4_t { vrndnq_f32(a) }
        pow2(a: float32x4_t) -> float32x4_t {
            let exponent = vaddq_s32(vcvtnq_s32_f32(a), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }
        sum(a: float32x4_t) -> f32 { vaddvq_f32(a) }
        largest(a: float32x4_t) -> f32 { vmaxvq_f32(a) }
        splat_i(x: i32) -> int32x4_t { vdupq_n_s32(x) }
        sub_i(a: int32x4_t, b: int32x4_t) -> int32x4_t { vsubq_s32(a, b) }
        mul_i(a: int32x4_t, b: int32x4_t) -> int32x4_t { vmulq_s32(a, b) }
        dot(acc: int32x4_t, u: int32x4_t, i: int32x4_t) -> int32x4_t {
            let (u, i) = (vreinterpretq_u8_s32(u), vreinterpretq_s8_s32(i));
            let u_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(u)));
            let u_high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(u)));
            let (i_low, i_high) = (vmovl_s8(vget_low_s8(i)), vmovl_s8(vget_high_s8(i)));
            // The four products of a lane stand beside each other; two pairwise sums join them.
            let first = vmull_s16(vget_low_s16(u_low), vget_low_s16(i_low));
            let second = vmull_high_s16(u_low, i_low);
            let third = vmull_s16(vget_low_s16(u_high), vget_low_s16(i_high));
            let fourth = vmull_high_s16(u_high, i_high);
            let sums = vpaddq_s32(vpaddq_s32(first, second), vpaddq_s32(third, fourth));
            vaddq_s32(acc, sums)
        }
        in_order(a: float32x4_t) -> float32x4_t {
            vreinterpretq_f32_s32(in_order(vreinterpretq_s32_f32(a)))
        }
        in_order_i(a: int32x4_t) -> int32x4_t { in_order(a) }
        low_nibbles(a: int32x4_t) -> int32x4_t { vandq_s32(a, vdupq_n_s32(0x0f0f_0f0f)) }
        high_nibbles(a: int32x4_t) -> int32x4_t {
            vreinterpretq_s32_u8(vshrq_n_u8::<4>(vreinterpretq_u8_s32(a)))
        }
        put_upper(a: int32x4_t, bits: int32x4_t, at: usize, mask: u8) -> int32x4_t {
            let moved = match at {
                0 => vshlq_n_s32::<4>(bits),
                1 => vshlq_n_s32::<3>(bits),
                2 => vshlq_n_s32::<2>(bits),
                3 => vshlq_n_s32::<1>(bits),
                4 => bits,
                5 => vshrq_n_s32::<1>(bits),
                6 => vshrq_n_s32::<2>(bits),
                _ => vshrq_n_s32::<3>(bits),
            };
            let selected = vreinterpretq_s32_u8(vdupq_n_u8(mask));
            vorrq_s32(a, vandq_s32(moved, selected))
        }
        to_float(a: int32x4_t) -> float32x4_t { vcvtq_f32_s32(a) }
        to_int(a: float32x4_t) -> int32x4_t { vcvtnq_s32_f32(a) }
    }

    memory! {
        load(from: *const f32) -> float32x4_t { vld1q_f32(from) }
        store(to: *mut f32, a: float32x4_t) -> () { vst1q_f32(to, a) }
        load_f16(from: *const f16) -> float32x4_t {
            let a = from.cast::<[f16; 4]>().read_unaligned().map(f16::to_f32);
            vld1q_f32(a.as_ptr())
        }
        load_bf16(from: *const bf16) -> float32x4_t {
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast())))
        }
        load_u8(from: *const u8) -> float32x4_t {
            let a = from.cast::<[u8; 4]>().read_unaligned().map(f32::from);
            vld1q_f32(a.as_ptr())
        }
        load_i8(from: *const i8) -> float32x4_t {
            let a = from.cast::<[i8; 4]>().read_unaligned().map(f32::from);
            vld1q_f32(a.as_ptr())
        }
        load_i(from: *const u8) -> int32x4_t { vreinterpretq_s32_u8(vld1q_u8(from)) }
        store_i(to: *mut u8, a: int32x4_t) -> () { vst1q_u8(to, vreinterpretq_u8_s32(a)) }
        splat_4(from: *const u8) -> int32x4_t {
            vdupq_n_s32(from.cast::<i32>().read_unaligned())
        }
        store_bytes(to: *mut u8, a: int32x4_t) -> () {
            let mut lanes = [0i32; 4];
            vst1q_s32(lanes.as_mut_ptr(), a);
            to.cast::<[u8; 4]>().write_unaligned(lanes.map(|lane| lane as u8));
        }
    }
}
