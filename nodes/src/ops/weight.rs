//! Packing weights for the kernels of the processor.

use super::{Quantized, WeightType};
use crate::kernel::{
    BytePanels, Element, Format, Halved, Isa, MAX_BYTE_INPUTS, Panels, Tiles, Weight,
};
use candle_core::{Result, quantized::GgmlDType};
use half::{bf16, f16};

/// Packs floats, row by row.
pub(super) fn pack(n: usize, k: usize, values: &[f32], kind: WeightType) -> Result<Weight> {
    let row = |output: usize| &values[output * k..][..k];
    match kind {
        WeightType::F32 => Ok(Weight::F32(Panels::pack(Isa::best(), n, k, row))),
        WeightType::Int8 if k > MAX_BYTE_INPUTS => {
            candle_core::bail!("a layer of {k} inputs is too wide for int8")
        }
        WeightType::Int8 => Ok(Weight::Int8(BytePanels::pack(Isa::best(), n, k, row))),
    }
}

/// Packs the blocks of a file.
pub(super) fn pack_quantized(part: &Quantized<'_>) -> Result<Weight> {
    let format = match part.dtype {
        GgmlDType::F32 => return numbers(part, f32::from_le_bytes).map(Weight::F32),
        GgmlDType::F16 => return numbers(part, f16::from_le_bytes).map(Weight::F16),
        GgmlDType::BF16 => return numbers(part, bf16::from_le_bytes).map(Weight::Bf16),
        GgmlDType::Q4_0 => Format::Q4_0,
        GgmlDType::Q4_1 => Format::Q4_1,
        GgmlDType::Q5_0 => Format::Q5_0,
        GgmlDType::Q5_1 => Format::Q5_1,
        GgmlDType::Q8_0 => Format::Q8_0,
        GgmlDType::Q2K => Format::Q2K,
        GgmlDType::Q3K => Format::Q3K,
        GgmlDType::Q4K => Format::Q4K,
        GgmlDType::Q5K => Format::Q5K,
        GgmlDType::Q6K => Format::Q6K,
        GgmlDType::Q8_1 | GgmlDType::Q8K => {
            candle_core::bail!(
                "{:?} is a format of activations, not of weights",
                part.dtype
            )
        }
    };
    match Tiles::pack(format, part.rows, part.columns, part.bytes) {
        Some(tiles) => Ok(Weight::Tiles(tiles)),
        None => candle_core::bail!(
            "{} bytes of {:?} are not {} rows of {} values",
            part.bytes.len(),
            part.dtype,
            part.rows,
            part.columns
        ),
    }
}

/// Packs the blocks of a file such that the largest results can be looked for, where that can be done.
pub(super) fn pack_for_shortlists(part: &Quantized<'_>) -> Result<Weight> {
    let halved = match part.dtype {
        GgmlDType::Q8_0 => Halved::pack(part.rows, part.columns, part.bytes),
        _ => None,
    };
    halved.map_or_else(|| pack_quantized(part), |halved| Ok(Weight::Halved(halved)))
}

/// Packs a weight of plain numbers of `N` bytes.
fn numbers<E: Element, const N: usize>(
    part: &Quantized<'_>,
    number: fn([u8; N]) -> E,
) -> Result<Panels<E>> {
    let (n, k) = (part.rows, part.columns);
    let (numbers, rest) = part.bytes.as_chunks::<N>();
    if n.checked_mul(k) != Some(numbers.len()) || !rest.is_empty() {
        candle_core::bail!("{} bytes are not {n} rows of {k} values", part.bytes.len());
    }
    let values: Vec<E> = numbers.iter().map(|bytes| number(*bytes)).collect();
    Ok(Panels::pack(Isa::best(), n, k, |output| {
        &values[output * k..][..k]
    }))
}
