//! Eight lanes of AVX2, with fused multiply-add and half-precision conversion.

use super::{
    isa::{Kernel, x86},
    simd::Simd,
};
use half::{bf16, f16};
use std::arch::{asm, x86_64::*};

/// The token of a processor with AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor has these instructions.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// See [`Simd::in_order`] and [`Simd::in_order_i`].
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(mut a: __m256i) -> __m256i {
    // SAFETY: it does nothing.
    unsafe { asm!("/* {0} */", inout(ymm_reg) a, options(nostack, preserves_flags)) };
    a
}

/// Vector instructions on values.
///
/// SAFETY of all: a token exists only where the processor has the instructions ([`Avx2::new`]), and
/// they touch no memory but the stack.
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

impl Simd for Avx2 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const ROWS: usize = 6;
    const BYTE_ROWS: usize = 4;
    const TILE_ROWS: usize = 4;
    const STAGED_FROM: usize = 8;
    const CENTRES: bool = true;
    const LARGEST_BYTE: u8 = 177;
    const LARGEST_FOUR: u16 = 185; // 177 * 185 = 32,745
    type F = __m256;
    type I = __m256i;

    #[inline(always)]
    fn call(self, kernel: impl Kernel) {
        // SAFETY: there is a token, so there are the instructions.
        unsafe { x86::on_avx2(kernel) };
    }

    values! {
        prefetch(at: *const u8) -> () { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
        add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        abs(a: __m256) -> __m256 { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
        round(a: __m256) -> __m256 { _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) }
        pow2(a: __m256) -> __m256 {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23))
        }
        sum(a: __m256) -> f32 {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)))
        }
        largest(a: __m256) -> f32 {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)))
        }
        splat_i(x: i32) -> __m256i { _mm256_set1_epi32(x) }
        sub_i(a: __m256i, b: __m256i) -> __m256i { _mm256_sub_epi32(a, b) }
        mul_i(a: __m256i, b: __m256i) -> __m256i { _mm256_mullo_epi32(a, b) }
        dot(acc: __m256i, u: __m256i, i: __m256i) -> __m256i {
            let pairs = _mm256_maddubs_epi16(u, i);
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
        dot_codes(acc: __m256i, u: __m256i, i: __m256i) -> __m256i {
            // The sign changes sides, so that one is without: 2 * 128 * 127 fits into 16 bits.
            let code = _mm256_xor_si256(u, _mm256_set1_epi8(-128));
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(i, code));
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
        open(_sum: __m256i) -> __m256i { _mm256_setzero_si256() }
        dot_open(open: __m256i, u: __m256i, i: __m256i) -> __m256i {
            _mm256_add_epi16(open, _mm256_maddubs_epi16(u, i))
        }
        close(open: __m256i, sum: __m256i) -> __m256i {
            _mm256_add_epi32(sum, _mm256_madd_epi16(open, _mm256_set1_epi16(1)))
        }
        in_order(a: __m256) -> __m256 {
            _mm256_castsi256_ps(in_order(_mm256_castps_si256(a)))
        }
        in_order_i(a: __m256i) -> __m256i { in_order(a) }
        low_nibbles(a: __m256i) -> __m256i { _mm256_and_si256(a, _mm256_set1_epi8(15)) }
        high_nibbles(a: __m256i) -> __m256i {
            _mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(15))
        }
        put_upper(a: __m256i, bits: __m256i, at: usize, mask: u8) -> __m256i {
            let moved = match at < 4 {
                true => _mm256_sll_epi16(bits, _mm_cvtsi32_si128(4 - at as i32)),
                false => _mm256_srl_epi16(bits, _mm_cvtsi32_si128(at as i32 - 4)),
            };
            _mm256_or_si256(a, _mm256_and_si256(moved, _mm256_set1_epi8(mask.cast_signed())))
        }
        to_float(a: __m256i) -> __m256 { _mm256_cvtepi32_ps(a) }
        to_int(a: __m256) -> __m256i { _mm256_cvtps_epi32(a) }
    }

    memory! {
        load(from: *const f32) -> __m256 { _mm256_loadu_ps(from) }
        store(to: *mut f32, a: __m256) -> () { _mm256_storeu_ps(to, a) }
        load_f16(from: *const f16) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        load_bf16(from: *const bf16) -> __m256 {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))
        }
        load_u8(from: *const u8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))
        }
        load_i8(from: *const i8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())))
        }
        load_i(from: *const u8) -> __m256i { _mm256_loadu_si256(from.cast()) }
        store_i(to: *mut u8, a: __m256i) -> () { _mm256_storeu_si256(to.cast(), a) }
        open_less(lacks: *const [i16; 2], offset: i32) -> __m256i {
            // Sums that leave the 16 bits on their way are back in them at their end.
            let lacks = _mm256_set1_epi32(lacks.cast::<i32>().read_unaligned());
            _mm256_mullo_epi16(lacks, _mm256_set1_epi16(offset as i16))
        }
        splat_4(from: *const u8) -> __m256i {
            _mm256_set1_epi32(from.cast::<i32>().read_unaligned())
        }
        store_bytes(to: *mut u8, a: __m256i) -> () {
            let low = _mm256_shuffle_epi8(
                a,
                _mm256_setr_epi8(
                    0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                    0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                ),
            );
            let (a, b) = (_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
            _mm_storel_epi64(to.cast(), _mm_unpacklo_epi32(a, b))
        }
    }
}
