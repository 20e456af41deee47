//! Layer norm and root-mean-square norm over rows.

use super::host::{floats, is_host, tensor};
use crate::kernel::{self, Isa, Rms};
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

/// A root-mean-square norm, `x / sqrt(mean(x²) + eps) * weight`, over groups of the weight's width.
///
/// The last dimension of what is normalised is a multiple of that width: `[m, heads * head_dim]` is normalised
/// head by head with a weight of `head_dim` values. (GGUF files store Gemma's weights with the 1 added
/// already.)
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// A value for each of a group.
    pub weight: Tensor,
    /// What is added under the root.
    pub eps: f64,
}

impl RmsNorm {
    /// The norm of every group of `x`.
    ///
    /// # Errors
    /// The widths do not fit, or a tensor is not contiguous `f32`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.of(x, None)
    }

    /// The norm of every group of `x`, added to the residual.
    ///
    /// # Errors
    /// As [`RmsNorm::forward`], and the residual has another shape.
    pub fn added_to(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        if residual.dims() != x.dims() {
            candle_core::bail!("{:?} cannot be added to {:?}", x.shape(), residual.shape());
        }
        self.of(x, Some(residual))
    }

    fn of(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let width = self.weight.elem_count();
        if width == 0 || x.dim(D::Minus1)? % width != 0 {
            candle_core::bail!("a norm of width {width} does not fit rows {:?}", x.shape());
        }
        if is_host(x) {
            let (weight, residual) = (floats(&self.weight)?, residual.map(floats).transpose()?);
            let values = kernel::rms_norm(
                Isa::best(),
                &floats(x)?,
                self.on_host(&weight),
                residual.as_deref(),
            );
            return tensor(values, x.shape());
        }
        let groups = x.reshape((x.elem_count() / width, width))?;
        let normed = candle_nn::ops::rms_norm(&groups, &self.weight, self.eps as f32)?;
        let normed = normed.reshape(x.shape())?;
        match residual {
            Some(residual) => residual + normed,
            None => Ok(normed),
        }
    }

    /// As kernels take it.
    pub(super) fn on_host<'a>(&self, weight: &'a [f32]) -> Rms<'a> {
        Rms {
            weight,
            eps: self.eps as f32,
        }
    }
}
