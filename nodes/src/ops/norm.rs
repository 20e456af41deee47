//! Layer norm and root-mean-square norm over rows.

use super::host::{floats, is_host, tensor};
use crate::kernel::{self, Isa};
use candle_core::{D, Result, Tensor};

/// `(x - mean) / sqrt(variance + eps) * weight + bias`, over the last dimension.
///
/// # Errors
/// `weight` or `bias` is not as wide as a row, or a tensor is not contiguous `f32`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    if width == 0 || weight.dims() != [width] || bias.dims() != [width] {
        candle_core::bail!(
            "a norm {:?} does not fit rows {:?}",
            weight.shape(),
            x.shape()
        );
    }
    if is_host(x) {
        let (values, weight, bias) = (floats(x)?, floats(weight)?, floats(bias)?);
        let values = kernel::layer_norm(Isa::best(), &values, &weight, &bias, eps as f32);
        return tensor(values, x.shape());
    }
    candle_nn::ops::layer_norm(x, weight, bias, eps as f32)
}

/// `x / sqrt(mean(x²) + eps) * weight`, over groups of `weight`'s width.
///
/// The last dimension of `x` is a multiple of that width, so `[m, heads * head_dim]` is normalised
/// head by head with a weight of `head_dim` values. (GGUF files store Gemma's weights with the 1
/// added already.)
///
/// # Errors
/// The widths do not fit, or a tensor is not contiguous `f32`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let width = weight.elem_count();
    if width == 0 || x.dim(D::Minus1)? % width != 0 {
        candle_core::bail!("a norm of width {width} does not fit rows {:?}", x.shape());
    }
    if is_host(x) {
        let values = kernel::rms_norm(Isa::best(), &floats(x)?, &floats(weight)?, eps as f32);
        return tensor(values, x.shape());
    }
    let groups = x.reshape((x.elem_count() / width, width))?;
    candle_nn::ops::rms_norm(&groups, weight, eps as f32)?.reshape(x.shape())
}
