//! What a kernel needs of a vector unit.
//!
//! A kernel is written once over this trait. The implementors are tokens: [`Isa`](super::Isa) makes
//! one only after it has found the instructions on this processor, so arithmetic is safe to call;
//! only what follows a pointer is `unsafe`. Everything is `#[inline(always)]`, so that it ends up
//! inside of the one function in [`isa`](super::isa) that is compiled for those instructions. For the
//! same reason kernels use plain loops: a closure would be compiled without them.

use super::isa::Kernel;
use half::{bf16, f16};

/// The most lanes that a vector has.
pub(crate) const MAX_LANES: usize = 16;
/// The most that [`Simd::TILE_ROWS`] is.
pub(crate) const MAX_TILE_ROWS: usize = 8;

/// A vector unit: `LANES` values of 32 bits, or four times as many bytes.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Values in a vector: 4, 8 or 16.
    const LANES: usize;
    /// Vectors that there is room for in the processor.
    const REGISTERS: usize;
    /// How many rows of two accumulators a micro-kernel may keep in registers.
    const ROWS: usize;
    /// The same for products of bytes.
    const BYTE_ROWS: usize;
    /// How many rows the micro-kernel of quantised tiles takes, at most [`MAX_TILE_ROWS`]; it needs more
    /// registers a row.
    const TILE_ROWS: usize;
    /// From how many rows on the codes of a tile are brought into bytes, and their sums put down, before they
    /// are scaled; never, unless that was measured to pay.
    const STAGED_FROM: usize = usize::MAX;
    /// `LANES` floats.
    type F: Copy;
    /// `LANES` integers of 32 bits, or their bytes.
    type I: Copy;

    /// Runs another kernel as a function of its own, compiled once for all that call it so.
    fn call(self, kernel: impl Kernel);

    fn splat(self, x: f32) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, fused where the processor can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// To the nearest integer, for magnitudes below 2^22.
    fn round(self, a: Self::F) -> Self::F;
    /// 2 to the power of an integral value from -126 to 127.
    fn pow2(self, a: Self::F) -> Self::F;
    /// The sum of the lanes.
    fn sum(self, a: Self::F) -> f32;
    /// The largest lane.
    fn largest(self, a: Self::F) -> f32;

    /// # Safety
    /// `LANES` floats can be read.
    unsafe fn load(self, from: *const f32) -> Self::F;
    /// # Safety
    /// `LANES` floats can be written.
    unsafe fn store(self, to: *mut f32, a: Self::F);
    /// # Safety
    /// `LANES` values can be read.
    unsafe fn load_f16(self, from: *const f16) -> Self::F;
    /// # Safety
    /// `LANES` values can be read.
    unsafe fn load_bf16(self, from: *const bf16) -> Self::F;
    /// Bytes without a sign, one a lane.
    ///
    /// # Safety
    /// `LANES` bytes can be read.
    unsafe fn load_u8(self, from: *const u8) -> Self::F;
    /// Bytes with a sign, one a lane.
    ///
    /// # Safety
    /// `LANES` bytes can be read.
    unsafe fn load_i8(self, from: *const i8) -> Self::F;

    fn splat_i(self, x: i32) -> Self::I;
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// # Safety
    /// `4 * LANES` bytes can be read.
    unsafe fn load_i(self, from: *const u8) -> Self::I;
    /// # Safety
    /// `4 * LANES` bytes can be written.
    unsafe fn store_i(self, to: *mut u8, a: Self::I);
    /// The same four bytes in every lane.
    ///
    /// # Safety
    /// Four bytes can be read.
    unsafe fn splat_4(self, from: *const u8) -> Self::I;
    /// The largest byte of a row that is multiplied with bytes of a weight.
    const LARGEST_BYTE: u8 = 255;
    /// The most that the magnitudes of a weight's bytes may add up to where two open products of such a
    /// row meet in 16 bits: two bytes of each product. Four of 127, each rounded up, always may otherwise.
    const LARGEST_FOUR: u16 = 4 * 127 + 2;
    /// In each lane: `acc` plus the four products of the bytes of `u` (no sign) and `i` (signed). Two of
    /// them next to each other are added first, in 16 bits on some processors.
    fn dot(self, acc: Self::I, u: Self::I, i: Self::I) -> Self::I;
    /// Whether products can take an offset from codes: [`Simd::dot_codes`] 128, and an open sum what it began
    /// with ([`Simd::open_less`]).
    const CENTRES: bool = false;
    /// As [`Simd::dot`], for all bytes of `u`, and bytes of `i` above -128.
    #[inline(always)]
    fn dot_codes(self, acc: Self::I, u: Self::I, i: Self::I) -> Self::I {
        self.dot(acc, u, i)
    }
    /// Begins a sum of products that goes on from `sum`. It may be kept in 16 bits up to its end.
    #[inline(always)]
    fn open(self, sum: Self::I) -> Self::I {
        sum
    }
    /// Begins a sum of products of bytes that are `offset` too large, with others whose sums lack what is there
    /// to 0: of the first two of each lane, and of the last two.
    ///
    /// # Safety
    /// Both can be read.
    #[inline(always)]
    unsafe fn open_less(self, lacks: *const [i16; 2], offset: i32) -> Self::I {
        // SAFETY: as the caller says.
        let [first, last] = unsafe { lacks.read() };
        self.open(self.splat_i((i32::from(first) + i32::from(last)) * offset))
    }
    /// Adds to an open sum as [`Simd::dot`], for bytes of `i` above -128. What the first two products
    /// of each lane add up to over all calls must stay within 16 bits, and so must the last two.
    #[inline(always)]
    fn dot_open(self, open: Self::I, u: Self::I, i: Self::I) -> Self::I {
        self.dot(open, u, i)
    }
    /// The end of an open sum that began with `sum`.
    #[inline(always)]
    fn close(self, open: Self::I, _sum: Self::I) -> Self::I {
        open
    }
    /// The same numbers, before which nothing is computed or read that stands after it. Of a long row of products a
    /// compiler prepares all factors first, or adds them up in another order, and has no registers left for sums.
    #[inline(always)]
    fn in_order(self, a: Self::F) -> Self::F {
        a
    }
    /// As [`Simd::in_order`].
    #[inline(always)]
    fn in_order_i(self, a: Self::I) -> Self::I {
        a
    }
    /// The lower four bits of each byte.
    fn low_nibbles(self, a: Self::I) -> Self::I;
    /// The upper four bits of each byte, moved down.
    fn high_nibbles(self, a: Self::I) -> Self::I;
    /// Moves the bits from `at` on of each byte of `bits` to the fifth bit, and puts those that `mask`
    /// selects into `a`, where they are 0.
    fn put_upper(self, a: Self::I, bits: Self::I, at: usize, mask: u8) -> Self::I;
    fn to_float(self, a: Self::I) -> Self::F;
    /// To the nearest integer.
    fn to_int(self, a: Self::F) -> Self::I;
    /// Writes the low byte of each lane.
    ///
    /// # Safety
    /// `LANES` bytes can be written.
    unsafe fn store_bytes(self, to: *mut u8, a: Self::I);

    /// Asks for the cache line at an address, which may be anywhere.
    #[inline(always)]
    fn prefetch(self, _at: *const u8) {}

    fn zero(self) -> Self::F {
        self.splat(0.0)
    }

    /// The first `count` lanes from memory, the others `fill`.
    ///
    /// # Safety
    /// `count` floats can be read.
    #[inline(always)]
    unsafe fn load_some(self, from: *const f32, count: usize, fill: f32) -> Self::F {
        let mut lanes = [fill; MAX_LANES];
        let count = count.min(Self::LANES);
        // SAFETY: the caller has `count` floats, and `lanes` has room for `LANES` of them.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            self.load(lanes.as_ptr())
        }
    }

    /// The first `count` lanes to memory.
    ///
    /// # Safety
    /// `count` floats can be written.
    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, a: Self::F, count: usize) {
        let mut lanes = [0.0; MAX_LANES];
        let count = count.min(Self::LANES);
        // SAFETY: `lanes` has room for `LANES` floats, and the caller for `count` of them.
        unsafe {
            self.store(lanes.as_mut_ptr(), a);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }

    /// The values of a slice from `i` on, `fill` behind its end.
    #[inline(always)]
    fn get(self, x: &[f32], i: usize, fill: f32) -> Self::F {
        assert!(i <= x.len(), "behind the end");
        let left = x.len() - i;
        // SAFETY: `left` floats follow `i`.
        unsafe {
            let from = x.as_ptr().add(i);
            if left >= Self::LANES {
                self.load(from)
            } else {
                self.load_some(from, left, fill)
            }
        }
    }

    /// Writes to a slice from `i` on, as far as it goes.
    #[inline(always)]
    fn set(self, to: &mut [f32], i: usize, a: Self::F) {
        assert!(i <= to.len(), "behind the end");
        // SAFETY: so many floats follow `i`.
        unsafe { self.put(to.as_mut_ptr().add(i), to.len() - i, a) }
    }

    /// Writes as many lanes as there is room for.
    ///
    /// # Safety
    /// `room` floats can be written.
    #[inline(always)]
    unsafe fn put(self, to: *mut f32, room: usize, a: Self::F) {
        // SAFETY: as the caller says.
        unsafe {
            if room >= Self::LANES {
                self.store(to, a);
            } else {
                self.store_some(to, a, room);
            }
        }
    }
}
