//! Activations over whole rows: the gated ones of decoders, and softmax.

use super::host::{floats, is_host, tensor};
use crate::kernel::{self, Gate, Isa};
use candle_core::{D, Result, Tensor};

/// `gelu(gate) * up`, with the tanh form of GELU that Gemma uses.
///
/// `gate_up` is `[m, 2n]`: each row holds its gate values, then its up values, as a stacked
/// [`Linear`](super::Linear) gives them. The result is `[m, n]`.
///
/// # Errors
/// The last dimension is odd, or the tensor is not contiguous `f32`.
pub fn gelu_mul(gate_up: &Tensor) -> Result<Tensor> {
    if is_host(gate_up) {
        return gated(gate_up, Gate::GeluTanh);
    }
    let (gate, up) = halves(gate_up)?;
    gate.gelu()?.mul(&up)
}

/// `silu(gate) * up`, as Llama and Qwen have it; shapes as for [`gelu_mul`].
///
/// # Errors
/// The last dimension is odd, or the tensor is not contiguous `f32`.
pub fn silu_mul(gate_up: &Tensor) -> Result<Tensor> {
    if is_host(gate_up) {
        return gated(gate_up, Gate::Silu);
    }
    let (gate, up) = halves(gate_up)?;
    gate.silu()?.mul(&up)
}

/// Softmax over the last dimension.
///
/// # Errors
/// The tensor is not contiguous `f32`.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    if is_host(x) && width > 0 {
        return tensor(kernel::softmax(Isa::best(), &floats(x)?, width), x.shape());
    }
    candle_nn::ops::softmax_last_dim(x)
}

fn gated(gate_up: &Tensor, gate: Gate) -> Result<Tensor> {
    let width = half_width(gate_up)?;
    let values = kernel::gated(Isa::best(), &floats(gate_up)?, width, gate);
    let mut shape = gate_up.dims().to_vec();
    shape.pop();
    shape.push(width);
    tensor(values, shape)
}

fn half_width(gate_up: &Tensor) -> Result<usize> {
    let width = gate_up.dim(D::Minus1)?;
    if width == 0 || width % 2 != 0 {
        candle_core::bail!("gate and up values need an even width, this is {width}");
    }
    Ok(width / 2)
}

fn halves(gate_up: &Tensor) -> Result<(Tensor, Tensor)> {
    let width = 2 * half_width(gate_up)?;
    let gate = gate_up.narrow(D::Minus1, 0, width / 2)?.contiguous()?;
    let up = gate_up.narrow(D::Minus1, width / 2, width / 2)?;
    Ok((gate, up.contiguous()?))
}
