//! Activations over whole rows: the gated ones of decoders, and softmax.

use candle_core::{D, Result, Tensor};

/// `gelu(gate) * up`, with the tanh form of GELU that Gemma uses.
///
/// `gate_up` is `[m, 2n]`: each row holds its gate values, then its up values, as a stacked
/// [`Linear`](super::Linear) gives them. The result is `[m, n]`.
///
/// # Errors
/// The last dimension is odd, or the tensor is not contiguous `f32`.
pub fn gelu_mul(gate_up: &Tensor) -> Result<Tensor> {
    let (gate, up) = halves(gate_up)?;
    gate.gelu()?.mul(&up)
}

/// `silu(gate) * up`, as Llama and Qwen have it; shapes as for [`gelu_mul`].
///
/// # Errors
/// The last dimension is odd, or the tensor is not contiguous `f32`.
pub fn silu_mul(gate_up: &Tensor) -> Result<Tensor> {
    let (gate, up) = halves(gate_up)?;
    gate.silu()?.mul(&up)
}

/// Softmax over the last dimension.
///
/// # Errors
/// The tensor is not contiguous `f32`.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax_last_dim(x)
}

fn halves(gate_up: &Tensor) -> Result<(Tensor, Tensor)> {
    let width = gate_up.dim(D::Minus1)?;
    if width % 2 != 0 {
        candle_core::bail!("gate and up values need an even width, this is {width}");
    }
    let gate = gate_up.narrow(D::Minus1, 0, width / 2)?.contiguous()?;
    let up = gate_up.narrow(D::Minus1, width / 2, width / 2)?;
    Ok((gate, up.contiguous()?))
}
