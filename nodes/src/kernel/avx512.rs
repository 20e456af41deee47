//! Sixteen lanes of AVX-512, with the byte products of VNNI.

use super::{
    isa::{Kernel, x86},
    simd::Simd,
};
use half::{bf16, f16};
use std::arch::{asm, x86_64::*};

/// The token of a processor with AVX-512 (F, BW, DQ, VL, VNNI).
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor has these instructions.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// See [`Simd::in_order`] and [`Simd::in_order_i`].
#[inline]
#[target_feature(enable = "avx512f")]
fn in_order(mut a: __m512i) -> __m512i {
    // SAFETY: it does nothing.
    unsafe { asm!("/* {0} */", inout(zmm_reg) a, options(nostack, preserves_flags)) };
    a
}

/// Vector instructions on values.
///
/// SAFETY of all: a token exists only where the processor has the instructions ([`Avx512::new`]),
/// and they touch no memory.
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

impl Simd for Avx512 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const ROWS: usize = 12;
    const BYTE_ROWS: usize = 12;
    const TILE_ROWS: usize = 8;
    type F = __m512;
    type I = __m512i;

    #[inline(always)]
    fn call(self, kernel: impl Kernel) {
        // SAFETY: there is a token, so there are the instructions.
        unsafe { x86::on_avx512(kernel) };
    }

    values! {
        prefetch(at: *const u8) -> () { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        abs(a: __m512) -> __m512 { _mm512_abs_ps(a) }
        round(a: __m512) -> __m512 { _mm512_roundscale_ps(a, 0) }
        pow2(a: __m512) -> __m512 { _mm512_scalef_ps(_mm512_set1_ps(1.0), a) }
        sum(a: __m512) -> f32 { _mm512_reduce_add_ps(a) }
        largest(a: __m512) -> f32 { _mm512_reduce_max_ps(a) }
        splat_i(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        sub_i(a: __m512i, b: __m512i) -> __m512i { _mm512_sub_epi32(a, b) }
        mul_i(a: __m512i, b: __m512i) -> __m512i { _mm512_mullo_epi32(a, b) }
        dot(acc: __m512i, u: __m512i, i: __m512i) -> __m512i { _mm512_dpbusd_epi32(acc, u, i) }
        in_order(a: __m512) -> __m512 {
            _mm512_castsi512_ps(in_order(_mm512_castps_si512(a)))
        }
        in_order_i(a: __m512i) -> __m512i { in_order(a) }
        low_nibbles(a: __m512i) -> __m512i { _mm512_and_si512(a, _mm512_set1_epi8(15)) }
        high_nibbles(a: __m512i) -> __m512i {
            _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15))
        }
        put_upper(a: __m512i, bits: __m512i, at: usize, mask: u8) -> __m512i {
            let moved = match at < 4 {
                true => _mm512_sll_epi16(bits, _mm_cvtsi32_si128(4 - at as i32)),
                false => _mm512_srl_epi16(bits, _mm_cvtsi32_si128(at as i32 - 4)),
            };
            _mm512_or_si512(a, _mm512_and_si512(moved, _mm512_set1_epi8(mask.cast_signed())))
        }
        to_float(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        to_int(a: __m512) -> __m512i { _mm512_cvtps_epi32(a) }
    }

    memory! {
        load(from: *const f32) -> __m512 { _mm512_loadu_ps(from) }
        store(to: *mut f32, a: __m512) -> () { _mm512_storeu_ps(to, a) }
        load_f16(from: *const f16) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        load_bf16(from: *const bf16) -> __m512 {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))
        }
        load_u8(from: *const u8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))
        }
        load_i8(from: *const i8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))
        }
        load_i(from: *const u8) -> __m512i { _mm512_loadu_si512(from.cast()) }
        store_i(to: *mut u8, a: __m512i) -> () { _mm512_storeu_si512(to.cast(), a) }
        splat_4(from: *const u8) -> __m512i {
            _mm512_set1_epi32(from.cast::<i32>().read_unaligned())
        }
        store_bytes(to: *mut u8, a: __m512i) -> () {
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(a))
        }
    }
}
