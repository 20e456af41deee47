//! Kernels: the arithmetic of models on slices of numbers, and the only `unsafe` code of the crate.
//!
//! From the processor upwards:
//!
//! - [`simd`] says what a kernel needs of a vector unit; [`avx512`], [`avx2`], [`neon`] and
//!   [`portable`] have it; [`isa`] finds out at run time which of them this processor has.
//! - [`panel`], [`int8`] and [`tile`] multiply rows with a packed weight of floats, of bytes, and of
//!   GGUF's quantised blocks; [`target`] is what they have in common at the end: bias, activation,
//!   residual. [`quantize`] turns rows into bytes for the latter two.
//! - [`rows`] works row by row (norms, softmax, gates, rotary positions, low-rank adapters);
//!   [`packed`] and [`causal`] are the two kinds of attention.
//!
//! The functions that leave this module are safe: they check the lengths of their slices. They know
//! no tensors and no devices; [`ops`](crate::ops) does.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod int8;
mod isa;
mod math;
mod memory;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panel;
mod portable;
mod quantize;
mod simd;
mod target;

#[cfg(test)]
mod testing;
mod tile;

pub(crate) use isa::Isa;
pub(crate) use memory::{Cells, written};
pub(crate) use panel::Panels;
pub(crate) use target::{After, Target};

/// Runs `$body` with `$n` as a constant: the most of 12, 8, 6, 4, 3, 2 or 1 rows that are left and
/// that the vector unit `$simd` has registers for. Gives that number.
macro_rules! by_rows {
    ($simd:ty, $left:expr, $n:ident => $body:expr) => {
        match $left.min(<$simd>::ROWS) {
            12.. => crate::kernel::by_rows!(@ 12, $n, $body),
            8.. => crate::kernel::by_rows!(@ 8, $n, $body),
            6.. => crate::kernel::by_rows!(@ 6, $n, $body),
            4.. => crate::kernel::by_rows!(@ 4, $n, $body),
            3 => crate::kernel::by_rows!(@ 3, $n, $body),
            2 => crate::kernel::by_rows!(@ 2, $n, $body),
            _ => crate::kernel::by_rows!(@ 1, $n, $body),
        }
    };
    (@ $count:literal, $n:ident, $body:expr) => {{
        const $n: usize = $count;
        $body;
        $n
    }};
}
use by_rows;
