//! Weights on another device than the processor: candle's own products.

use super::Quantized;
use candle_core::{
    Device, Module, Result, Tensor,
    quantized::{QMatMul, QStorage, QTensor},
};
use std::{borrow::Cow, sync::Arc};

/// A weight `[n, k]`.
pub(super) enum DeviceWeight {
    Plain(Tensor),
    Quantized(Arc<QTensor>, QMatMul),
}

impl DeviceWeight {
    pub(super) fn quantized(part: &Quantized<'_>, device: &Device) -> Result<Self> {
        let data = QStorage::from_data(Cow::Borrowed(part.bytes), device, part.dtype)?;
        let tensor = Arc::new(QTensor::new(data, (part.rows, part.columns))?);
        let product = QMatMul::from_arc(Arc::clone(&tensor))?;
        Ok(Self::Quantized(tensor, product))
    }

    pub(super) fn product(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => x.broadcast_matmul(&weight.t()?),
            Self::Quantized(_, product) => product.forward(x),
        }
    }

    pub(super) fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => weight.index_select(&Tensor::new(ids, weight.device())?, 0),
            Self::Quantized(weight, _) => weight.embedding(&Tensor::new(ids, &weight.device())?),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Plain(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Self::Quantized(weight, _) => weight.storage_size_in_bytes(),
        }
    }
}
