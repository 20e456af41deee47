//! Kernels: the arithmetic of models on slices of numbers, and the only `unsafe` code of the crate.
//!
//! From the processor upwards:
//!
//! - [`simd`] says what a kernel needs of a vector unit; [`avx512`], [`avx2`], `neon` and
//!   [`portable`] have it; [`isa`] finds out at run time which of them this processor has.
//! - [`panel`], [`int8`] and [`tile`] multiply rows with a packed weight of floats, of bytes, and of
//!   GGUF's quantised blocks, of which the last can look for the largest results alone. [`quantize`] turns rows into
//!   bytes for the latter two; [`weight`] is any of them. They have in common how work is divided ([`grid`]), what
//!   is asked for [`ahead`] of its turn, and the end: bias, activation, residual ([`target`]).
//! - [`rows`] works row by row: softmax and gates there, and [`norm`] and [`rotary`] positions;
//!   [`low_rank`] adds adapters; [`packed`] and [`causal`] are the two kinds of attention, made of [`head`].
//!   [`micro`] is what floats are multiplied with in both [`panel`] and [`head`].
//!
//! The functions that leave this module are safe: they check the lengths of their slices. They know
//! no tensors and no devices; [`ops`](crate::ops) does.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are plain, and of the same form for all arrays of a kernel"
)]

mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod causal;
mod grid;
mod head;
mod int8;
mod isa;
mod low_rank;
mod math;
mod memory;
mod micro;
#[cfg(target_arch = "aarch64")]
mod neon;
mod norm;
mod packed;
mod panel;
mod portable;
mod quantize;
mod rotary;
mod rows;
mod simd;
mod target;

#[cfg(test)]
mod testing;
mod tile;
mod weight;

pub use causal::{CausalAttention, KvRow};
pub(crate) use causal::{Slab, attention as causal_attention};
pub(crate) use int8::{BytePanels, MAX_INPUTS as MAX_BYTE_INPUTS};
pub(crate) use isa::Isa;
pub(crate) use low_rank::{Factors, Part as LowRankPart, Rows as LowRankRows, add as add_low_rank};
pub(crate) use memory::Growing;
pub(crate) use norm::{Rms, layer_norm, rms_norm};
pub(crate) use packed::attention as packed_attention;
pub(crate) use panel::{Element, Panels};
pub(crate) use rotary::{Angles, Heads, rope};
pub(crate) use rows::{Gate, gated, softmax};
pub(crate) use target::After;
pub use tile::Shortlist;
pub(crate) use tile::{Format, Halved, Tiles};
pub(crate) use weight::{Weight, product, shortlists};

/// Runs `$body` with `$n` as a constant: the largest of some counts (any up to 12, or those in
/// brackets) that is left and within `$limit`, or 1. Other variants are not even compiled. Gives that
/// number.
macro_rules! by_rows {
    ($limit:expr, $left:expr, $n:ident => $body:expr) => {
        crate::kernel::by_rows!($limit, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2], $left, $n => $body)
    };
    ($limit:expr, [$($count:literal),*], $left:expr, $n:ident => $body:expr) => {
        'rows: {
            $(
                if const { $count <= $limit } {
                    if $left >= $count {
                        const $n: usize = $count;
                        $body;
                        break 'rows $n;
                    }
                }
            )*
            const $n: usize = 1;
            $body;
            $n
        }
    };
}
use by_rows;

/// `$body` for each number, one after the other: a compiler unrolls a loop only while its body is small.
macro_rules! unrolled {
    ($n:ident in [$($value:literal),*] => $body:block) => {
        $({
            let $n: usize = $value;
            $body
        })*
    };
}
use unrolled;
