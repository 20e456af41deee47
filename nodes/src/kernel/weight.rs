//! A packed weight of any kind, and the product with several of them at once.

use super::{
    int8::BytePanels,
    isa::Isa,
    memory::{Buffer, written},
    panel::Panels,
    quantize::{Blocks, Bytes},
    target::{After, Target},
    tile::{Halved, Shortlist, Tiles},
};
use crate::compute;
use half::{bf16, f16};
use std::cell::Cell;

thread_local! {
    /// Quantised inputs of this thread; their memory is used again.
    static BLOCKS: Cell<Blocks> = Cell::default();
    static BYTES: Cell<Bytes> = Cell::default();
    /// Bounds of results, likewise.
    static BOUNDS: Cell<Buffer> = Cell::default();
}

/// A weight `[n, k]` in one of the forms that there are kernels for.
pub(crate) enum Weight {
    F32(Panels<f32>),
    F16(Panels<f16>),
    Bf16(Panels<bf16>),
    Int8(BytePanels),
    Tiles(Tiles),
    Halved(Halved),
}

impl Weight {
    /// Outputs.
    pub(crate) fn n(&self) -> usize {
        match self {
            Self::F32(weight) => weight.n(),
            Self::F16(weight) => weight.n(),
            Self::Bf16(weight) => weight.n(),
            Self::Int8(weight) => weight.n(),
            Self::Tiles(weight) => weight.n(),
            Self::Halved(weight) => weight.n(),
        }
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F32(weight) => weight.bytes(),
            Self::F16(weight) => weight.bytes(),
            Self::Bf16(weight) => weight.bytes(),
            Self::Int8(weight) => weight.bytes(),
            Self::Tiles(weight) => weight.bytes(),
            Self::Halved(weight) => weight.bytes(),
        }
    }

    /// Writes the values of one output, in order.
    pub(crate) fn row(&self, output: usize, values: &mut [f32]) {
        fn copy(values: &mut [f32], row: impl Iterator<Item = f32>) {
            values
                .iter_mut()
                .zip(row)
                .for_each(|(to, value)| *to = value);
        }
        match self {
            Self::F32(weight) => copy(values, weight.row(output)),
            Self::F16(weight) => copy(values, weight.row(output).map(f16::to_f32)),
            Self::Bf16(weight) => copy(values, weight.row(output).map(bf16::to_f32)),
            Self::Int8(weight) => copy(values, weight.row(output)),
            Self::Tiles(weight) => weight.row(output, values),
            Self::Halved(weight) => weight.row(output, values),
        }
    }

    /// Whether rows are quantised in blocks for it.
    fn takes_blocks(&self) -> bool {
        matches!(self, Self::Tiles(_) | Self::Halved(_))
    }

    /// Whether rows are quantised as a whole for it.
    fn takes_bytes(&self) -> bool {
        matches!(self, Self::Int8(_))
    }
}

/// `x · wᵀ` of `m` rows with each weight, the results beside each other; `bias` has a value for each
/// output of all, or none.
pub(crate) fn product(
    isa: Isa,
    weights: &[Weight],
    m: usize,
    x: &[f32],
    bias: &[f32],
    after: After<'_>,
) -> Vec<f32> {
    let stride = weights.iter().map(Weight::n).sum();
    let k = x.len().checked_div(m).unwrap_or(0);
    let (mut memory, mut bytes) = (BLOCKS.take(), BYTES.take());
    let blocks = if m > 0 && weights.iter().any(Weight::takes_blocks) {
        memory.quantize(isa, x, k)
    } else {
        &[]
    };
    let bytes_of_rows = if weights.iter().any(Weight::takes_bytes) {
        bytes.quantize(isa, m, x)
    } else {
        (&[][..], &[][..])
    };
    // SAFETY: each weight's product writes its columns of all rows, and together they have all.
    let values = unsafe {
        written(m * stride, |out| {
            let mut first = 0;
            let works = weights.iter().map(|weight| {
                let columns = first..first + weight.n();
                first = columns.end;
                let target = Target {
                    out,
                    stride,
                    first: columns.start,
                    bias: if bias.is_empty() {
                        bias
                    } else {
                        &bias[columns]
                    },
                    after,
                };
                match weight {
                    Weight::F32(weight) => weight.product(m, x, target),
                    Weight::F16(weight) => weight.product(m, x, target),
                    Weight::Bf16(weight) => weight.product(m, x, target),
                    Weight::Int8(weight) => weight.product(m, x, bytes_of_rows, target),
                    Weight::Tiles(weight) => weight.product(isa, m, blocks, target),
                    Weight::Halved(weight) => weight.product(isa, m, blocks, target),
                }
            });
            compute::run_all(&works.collect::<Vec<_>>());
        })
    };
    BLOCKS.set(memory);
    BYTES.set(bytes);
    values
}

/// For each row of `x` its largest result, and all within its margin of that; none where the whole product is
/// to be computed.
pub(crate) fn shortlists(
    isa: Isa,
    weight: &Halved,
    x: &[f32],
    margins: &[f32],
) -> Vec<Option<Shortlist>> {
    let k = x.len().checked_div(margins.len()).unwrap_or(0);
    let (mut memory, mut bounds) = (BLOCKS.take(), BOUNDS.take());
    let lists = weight.shortlists(isa, memory.quantize(isa, x, k), margins, &mut bounds);
    BLOCKS.set(memory);
    BOUNDS.set(bounds);
    lists
}
