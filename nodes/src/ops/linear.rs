//! Linear layers: `y = x · wᵀ + bias`, then perhaps an activation or a residual.

use super::{
    device::DeviceWeight,
    host::{floats, has_kernels, is_host, tensor},
    weight::{pack, pack_for_shortlists, pack_quantized},
};
pub use crate::kernel::Shortlist;
use crate::kernel::{self, After, Halved, Isa, Weight};
use candle_core::{
    D, DType, Device, Result, Tensor,
    quantized::{GgmlDType, QTensor},
};
use std::sync::Arc;

/// How a layer made from plain tensors keeps its weight in main memory.
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

/// A linear layer, its weight packed for the kernels of its device. Clones share the weight.
///
/// In main memory, quantised weights stay in their format and activations are quantised to 8 bits as
/// they come, in blocks of 32 values: a result is off by at most `Σ |w| * max|x| / 254`, the maximum
/// taken over a block. `WeightType::Int8` quantises whole rows instead, and the weight to 8 bits.
/// `f32`, `f16` and `bf16` weights are multiplied in `f32`.
#[derive(Clone)]
pub struct Linear {
    weights: Weights,
    bias: Option<Tensor>,
    inputs: usize,
    outputs: usize,
}

/// One or more weights, whose outputs lie one after the other.
#[derive(Clone)]
enum Weights {
    Host(Arc<[Weight]>),
    Device(Arc<[DeviceWeight]>),
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Linear")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .field("bias", &self.bias.is_some())
            .field("bytes", &self.bytes())
            .finish()
    }
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
    pub fn stacked(parts: &[(&Tensor, Option<&Tensor>)], kind: WeightType) -> Result<Self> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for (weight, bias) in parts {
            let outputs = weight.dim(0)?;
            weights.push(weight.to_dtype(DType::F32)?);
            biases.push(match bias {
                Some(bias) if bias.dims() == [outputs] => bias.to_dtype(DType::F32)?,
                Some(bias) => candle_core::bail!("bias {:?} for {outputs}", bias.shape()),
                None => Tensor::zeros(outputs, DType::F32, weight.device())?,
            });
        }
        let weight = Tensor::cat(&weights, 0)?.contiguous()?;
        let (outputs, inputs) = weight.dims2()?;
        let weights = if is_host(&weight) {
            let packed = pack(outputs, inputs, &floats(&weight)?, kind)?;
            Weights::Host(Arc::new([packed]))
        } else {
            Weights::Device(Arc::new([DeviceWeight::Plain(weight)]))
        };
        let some = parts.iter().any(|(_, bias)| bias.is_some());
        let bias = some.then(|| Tensor::cat(&biases, 0)).transpose()?;
        Ok(Self {
            weights,
            bias,
            inputs,
            outputs,
        })
    }

    /// A layer from quantised weights, stacked in their order; each keeps its own format.
    ///
    /// Packing is shared out among the threads of the current
    /// [`ComputePool`](crate::compute::ComputePool).
    ///
    /// # Errors
    /// There is no part, a format is not known, or a part's bytes or widths do not fit.
    pub fn quantized(parts: &[Quantized<'_>], device: &Device) -> Result<Self> {
        let Some(inputs) = parts.first().map(|part| part.columns) else {
            candle_core::bail!("a layer without a weight");
        };
        if let Some(other) = parts.iter().find(|part| part.columns != inputs) {
            candle_core::bail!("a stack of layers of {inputs} and {} inputs", other.columns);
        }
        let weights = if has_kernels(device) {
            Weights::Host(parts.iter().map(pack_quantized).collect::<Result<_>>()?)
        } else {
            let parts = parts
                .iter()
                .map(|part| DeviceWeight::quantized(part, device));
            Weights::Device(parts.collect::<Result<_>>()?)
        };
        Ok(Self {
            weights,
            bias: None,
            inputs,
            outputs: parts.iter().map(|part| part.rows).sum(),
        })
    }

    /// A layer with very many outputs, of which mostly the largest are wanted: packed for
    /// [`Linear::shortlists`], if there are kernels for the device and it is of Q8_0.
    ///
    /// # Errors
    /// As [`Linear::quantized`].
    pub fn vocabulary(part: &Quantized<'_>, device: &Device) -> Result<Self> {
        if !has_kernels(device) {
            return Self::quantized(std::slice::from_ref(part), device);
        }
        Ok(Self {
            weights: Weights::Host(Arc::new([pack_for_shortlists(part)?])),
            bias: None,
            inputs: part.columns,
            outputs: part.rows,
        })
    }

    /// A layer from quantised tensors of candle, stacked in their order.
    ///
    /// # Errors
    /// As [`Linear::quantized`].
    pub fn from_qtensors(parts: &[&QTensor]) -> Result<Self> {
        let Some(device) = parts.first().map(|part| part.device()) else {
            candle_core::bail!("a layer without a weight");
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
        Self::quantized(&parts, &device)
    }

    /// The same layer with this bias (`[n]`, any float type), or without one.
    ///
    /// # Errors
    /// It is not as long as there are outputs.
    pub fn with_bias(mut self, bias: Option<&Tensor>) -> Result<Self> {
        if let Some(bias) = bias
            && bias.dims() != [self.outputs]
        {
            candle_core::bail!("bias {:?} for {} outputs", bias.shape(), self.outputs);
        }
        self.bias = bias
            .map(|bias| bias.to_dtype(DType::F32)?.contiguous())
            .transpose()?;
        Ok(self)
    }

    /// Width of the input.
    #[must_use]
    pub fn in_features(&self) -> usize {
        self.inputs
    }

    /// Width of the result.
    #[must_use]
    pub fn out_features(&self) -> usize {
        self.outputs
    }

    /// Bytes that the packed weight takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.weights {
            Weights::Host(parts) => parts.iter().map(Weight::bytes).sum(),
            Weights::Device(parts) => parts.iter().map(DeviceWeight::bytes).sum(),
        }
    }

    /// The product with `x` (`[m, k]`, or more dimensions before `k`), and what comes after it.
    ///
    /// # Errors
    /// The widths do not fit, or a tensor is not contiguous `f32` on the weight's device.
    pub fn forward(&self, x: &Tensor, then: Then<'_>) -> Result<Tensor> {
        if x.dim(D::Minus1)? != self.inputs {
            candle_core::bail!("input {:?} for {} features", x.shape(), self.inputs);
        }
        let mut shape = x.dims().to_vec();
        shape.pop();
        shape.push(self.outputs);
        if let Then::Add(residual) = then
            && residual.dims() != shape
        {
            candle_core::bail!("a residual {:?} for {shape:?}", residual.shape());
        }
        match &self.weights {
            Weights::Host(parts) => tensor(self.on_host(parts, x, then)?, shape),
            Weights::Device(parts) => self.on_device(parts, x, then)?.reshape(shape),
        }
    }

    /// For each row of `x` (`[m, k]`) its largest result, and all results within the row's margin of that:
    /// what [`Linear::forward`] would give, without computing the others.
    ///
    /// None for a row where that cannot be done, or would be no faster: its inputs are not numbers, or
    /// too many results are near the largest; and for all rows of a layer that is not packed for it.
    ///
    /// # Errors
    /// The widths do not fit, there are not as many margins as rows, or `x` is not contiguous `f32` in main
    /// memory.
    pub fn shortlists(&self, x: &Tensor, margins: &[f32]) -> Result<Vec<Option<Shortlist>>> {
        if x.dims() != [margins.len(), self.inputs] {
            let rows = margins.len();
            candle_core::bail!("input {:?} for {rows} rows of {}", x.shape(), self.inputs);
        }
        match self.halved() {
            Some(weight) => Ok(kernel::shortlists(
                Isa::best(),
                weight,
                &floats(x)?,
                margins,
            )),
            None => Ok(vec![None; margins.len()]),
        }
    }

    /// Whether [`Linear::shortlists`] finds any.
    #[must_use]
    pub fn has_shortlists(&self) -> bool {
        self.halved().is_some()
    }

    fn halved(&self) -> Option<&Halved> {
        match (&self.weights, &self.bias) {
            (Weights::Host(parts), None) => match &parts[..] {
                [Weight::Halved(weight)] => Some(weight),
                _ => None,
            },
            _ => None,
        }
    }

    /// Rows of the weight as `f32`, `[ids, k]`: an embedding table, which a decoder often shares
    /// with its output layer.
    ///
    /// # Errors
    /// An id is not below [`Linear::out_features`].
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.outputs) {
            candle_core::bail!("no row {id} in a weight of {}", self.outputs);
        }
        match &self.weights {
            Weights::Host(parts) => {
                let mut values = vec![0.0; ids.len() * self.inputs];
                if self.inputs > 0 {
                    for (id, row) in ids.iter().zip(values.chunks_exact_mut(self.inputs)) {
                        read_row(parts, *id as usize, row);
                    }
                }
                tensor(values, (ids.len(), self.inputs))
            }
            Weights::Device(parts) => match &parts[..] {
                [one] => one.rows(ids),
                _ => candle_core::bail!("rows of a stack are not kept together on a device"),
            },
        }
    }

    fn on_host(&self, parts: &[Weight], x: &Tensor, then: Then<'_>) -> Result<Vec<f32>> {
        let m = x.elem_count().checked_div(self.inputs).unwrap_or(0);
        let x = floats(x)?;
        let bias = self.bias.as_ref().map(floats).transpose()?;
        let residual = match then {
            Then::Add(residual) => Some(floats(residual)?),
            _ => None,
        };
        let after = match (then, &residual) {
            (Then::Add(_), Some(residual)) => After::Add(residual),
            (Then::Gelu, _) => After::Gelu,
            (Then::GeluTanh, _) => After::GeluTanh,
            (Then::Relu, _) => After::Relu,
            _ => After::Nothing,
        };
        let bias: &[f32] = bias.as_deref().unwrap_or_default();
        Ok(kernel::product(Isa::best(), parts, m, &x, bias, after))
    }

    fn on_device(&self, parts: &[DeviceWeight], x: &Tensor, then: Then<'_>) -> Result<Tensor> {
        let products: Vec<_> = parts
            .iter()
            .map(|part| part.product(x))
            .collect::<Result<_>>()?;
        let y = Tensor::cat(&products, D::Minus1)?;
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
}

/// Reads a row of a stack.
fn read_row(parts: &[Weight], row: usize, values: &mut [f32]) {
    let mut row = row;
    for part in parts {
        if row < part.n() {
            return part.row(row, values);
        }
        row -= part.n();
    }
}
