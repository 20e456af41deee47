//! Tensors in main memory as slices, and back.

use crate::kernel::Isa;
use candle_core::{CpuStorage, Device, Result, Shape, Storage, StorageRef, Tensor};
use std::{
    ops::{Deref, Range},
    sync::OnceLock,
};

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
/// best that there are, or those that the environment variable `ENGINE_ISA` names; `candle` where it
/// says so, and operations are candle's own.
#[must_use]
pub fn instructions() -> String {
    match by_candle_alone() {
        true => "candle".to_owned(),
        false => format!("{:?}", Isa::best()).to_lowercase(),
    }
}

/// Whether the kernels of this crate compute on a device. On others it is candle's operations, and
/// everywhere if `ENGINE_ISA` is `candle`: what runs on a GPU can be tried, and compared, without one.
#[must_use]
pub fn has_kernels(device: &Device) -> bool {
    device.is_cpu() && !by_candle_alone()
}

fn by_candle_alone() -> bool {
    static ALONE: OnceLock<bool> = OnceLock::new();
    *ALONE.get_or_init(|| std::env::var("ENGINE_ISA").is_ok_and(|isa| isa == "candle"))
}

/// Whether a tensor is where the kernels compute.
pub(super) fn is_host(x: &Tensor) -> bool {
    has_kernels(x.device())
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
