//! Linear layers: `y = x · wᵀ + bias`, then perhaps an activation or a residual.

use candle_core::{
    D, DType, Device, Result, Tensor,
    quantized::{GgmlDType, QStorage, QTensor},
};
use std::borrow::Cow;

/// How a layer made from plain tensors keeps its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightType {
    /// As `f32`.
    F32,
    /// As `i8` with a scale for each output; activations are quantised row by row as they come.
    Int8,
}

/// What happens to a product before it is written.
#[derive(Debug, Clone, Copy)]
pub enum Then<'a> {
    /// Only the bias, if there is one.
    Nothing,
    /// GELU by the error function (BERT).
    Gelu,
    /// GELU by tanh (Gemma and others).
    GeluTanh,
    /// Negative values become 0.
    Relu,
    /// This is added: a residual of the result's shape.
    Add(&'a Tensor),
}

/// A weight as a GGUF file holds it.
#[derive(Debug, Clone, Copy)]
pub struct Quantized<'a> {
    /// The blocks, row by row.
    pub bytes: &'a [u8],
    /// Their format.
    pub dtype: GgmlDType,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
}

/// A linear layer, its weight packed for the kernels of its device.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer from a weight `[n, k]` (`f32`, `f16` or `bf16`) and a bias `[n]`.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, kind: WeightType) -> Result<Self> {
        Self::stacked(&[(weight, bias)], kind)
    }

    /// Several layers over the same input as one: their results lie one after the other in a row.
    ///
    /// # Errors
    /// There is no part, or the parts' shapes do not fit.
    pub fn stacked(parts: &[(&Tensor, Option<&Tensor>)], _kind: WeightType) -> Result<Self> {
        let weights: Vec<_> = parts
            .iter()
            .map(|(w, _)| w.to_dtype(DType::F32))
            .collect::<Result<_>>()?;
        let weight = Tensor::cat(&weights, 0)?.contiguous()?;
        let bias = if parts.iter().any(|(_, bias)| bias.is_some()) {
            let biases: Vec<_> = parts
                .iter()
                .map(|(w, bias)| match bias {
                    Some(bias) => bias.to_dtype(DType::F32),
                    None => Tensor::zeros(w.dim(0)?, DType::F32, w.device()),
                })
                .collect::<Result<_>>()?;
            Some(Tensor::cat(&biases, 0)?)
        } else {
            None
        };
        Self { weight, bias: None }.with_bias(bias.as_ref())
    }

    /// A layer from quantised weights, stacked in their order; each keeps its own format.
    ///
    /// # Errors
    /// There is no part, a format is not known, or a part's bytes or widths do not fit.
    pub fn quantized(parts: &[Quantized<'_>], device: &Device) -> Result<Self> {
        let weights: Vec<_> = parts
            .iter()
            .map(|part| {
                let data = QStorage::from_data(Cow::Borrowed(part.bytes), device, part.dtype)?;
                QTensor::new(data, (part.rows, part.columns))?.dequantize(device)
            })
            .collect::<Result<_>>()?;
        let weight = Tensor::cat(&weights, 0)?;
        Ok(Self { weight, bias: None })
    }

    /// A layer from quantised tensors of candle, stacked in their order.
    ///
    /// # Errors
    /// As [`Linear::quantized`].
    pub fn from_qtensors(parts: &[&QTensor]) -> Result<Self> {
        let Some(first) = parts.first() else {
            candle_core::bail!("a layer without parts");
        };
        let data: Vec<_> = parts.iter().map(|p| p.data()).collect::<Result<_>>()?;
        let parts: Vec<_> = parts
            .iter()
            .zip(&data)
            .map(|(part, bytes)| {
                let (rows, columns) = part.shape().dims2()?;
                Ok(Quantized {
                    bytes,
                    dtype: part.dtype(),
                    rows,
                    columns,
                })
            })
            .collect::<Result<_>>()?;
        Self::quantized(&parts, &first.device())
    }

    /// The same layer with this bias (`[n]`).
    ///
    /// # Errors
    /// It is not as long as there are outputs.
    pub fn with_bias(mut self, bias: Option<&Tensor>) -> Result<Self> {
        if let Some(bias) = bias
            && bias.dims() != [self.out_features()]
        {
            candle_core::bail!(
                "bias {:?} for {} outputs",
                bias.shape(),
                self.out_features()
            );
        }
        self.bias = bias.cloned();
        Ok(self)
    }

    /// Width of the input.
    #[must_use]
    pub fn in_features(&self) -> usize {
        self.weight.dims()[1]
    }

    /// Width of the result.
    #[must_use]
    pub fn out_features(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Bytes that the packed weight takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        4 * self.weight.elem_count()
    }

    /// The product with `x` (`[m, k]`, or more dimensions before `k`), and what comes after it.
    ///
    /// # Errors
    /// The widths do not fit, or a tensor is not contiguous `f32`.
    pub fn forward(&self, x: &Tensor, then: Then<'_>) -> Result<Tensor> {
        let y = x.broadcast_matmul(&self.weight.t()?)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        match then {
            Then::Nothing => Ok(y),
            Then::Gelu => y.gelu_erf(),
            Then::GeluTanh => y.gelu(),
            Then::Relu => y.relu(),
            Then::Add(residual) => y + residual,
        }
    }

    /// Rows of the weight as `f32`, `[ids, k]`: an embedding table, which a decoder often shares
    /// with its output layer.
    ///
    /// # Errors
    /// An id is not below [`Linear::out_features`].
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        let ids = Tensor::new(ids, self.weight.device())?;
        self.weight.index_select(&ids, D::Minus2)
    }
}
