//! Tensors in main memory as slices, and back.

use crate::kernel::Isa;
use candle_core::{CpuStorage, Device, Result, Shape, Storage, StorageRef, Tensor};
use std::ops::{Deref, Range};

/// The floats of a tensor, as long as this lives.
pub(super) struct Floats<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => {
                unreachable!("checked by `floats`, and a tensor's storage does not change its type")
            }
        }
    }
}

/// The instructions that kernels use on this processor: `portable`, `neon`, `avx2` or `avx512`. The
/// best that there are, or those that the environment variable `ENGINE_ISA` names.
#[must_use]
pub fn instructions() -> String {
    format!("{:?}", Isa::best()).to_lowercase()
}

/// Whether a tensor is in main memory, where the kernels work.
pub(super) fn is_host(x: &Tensor) -> bool {
    x.device().is_cpu()
}

/// The floats of a contiguous tensor in main memory.
pub(super) fn floats(x: &Tensor) -> Result<Floats<'_>> {
    let (storage, layout) = x.storage_and_layout();
    let range = layout.contiguous_offsets();
    match (&*storage, range) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => Ok(Floats {
            storage,
            range: start..end,
        }),
        (_, range) => candle_core::bail!(
            "a kernel needs contiguous f32 in main memory, this is {:?} on {:?}{}",
            x.dtype(),
            x.device().location(),
            if range.is_none() { ", with gaps" } else { "" },
        ),
    }
}

/// A tensor of what a kernel has written.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}
