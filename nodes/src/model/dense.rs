//! Layers as a model file names them: weights found by path, adapters added by the same path.

use super::{Weights, WeightsError, config::Activation};
use crate::{
    adapter::AdapterRows,
    ops::{self, Linear, Then, WeightType},
};
use candle_core::{Device, Result, Tensor};

/// Where tensors are found and brought to.
#[derive(Clone, Copy)]
pub(super) struct Loader<'a> {
    pub(super) weights: &'a Weights,
    /// What stands before each path.
    pub(super) prefix: &'a str,
    pub(super) device: &'a Device,
    pub(super) kind: WeightType,
}

impl Loader<'_> {
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> LoadResult<Tensor> {
        let values = self
            .weights
            .floats(&format!("{}{name}", self.prefix), shape)?;
        Ok(Tensor::from_vec(values, shape, self.device)?)
    }

    /// A linear layer with a bias.
    pub(super) fn dense(&self, path: &str, outputs: usize, inputs: usize) -> LoadResult<Dense> {
        self.stacked(vec![path.to_owned()], outputs, inputs)
    }

    /// Linear layers of one size over the same input, computed as one.
    pub(super) fn stacked(
        &self,
        paths: Vec<String>,
        outputs: usize,
        inputs: usize,
    ) -> LoadResult<Dense> {
        let part = |path: &String| {
            let weight = self.tensor(&format!("{path}.weight"), &[outputs, inputs])?;
            let bias = self.tensor(&format!("{path}.bias"), &[outputs])?;
            LoadResult::Ok((weight, bias))
        };
        let parts = paths.iter().map(part).collect::<LoadResult<Vec<_>>>()?;
        let parts: Vec<_> = parts
            .iter()
            .map(|(weight, bias)| (weight, Some(bias)))
            .collect();
        Ok(Dense {
            linear: Linear::stacked(&parts, self.kind)?,
            width: outputs,
            paths,
        })
    }

    pub(super) fn norm(&self, path: &str, width: usize, eps: f64) -> LoadResult<Norm> {
        // Early checkpoints name the two as TensorFlow did.
        let either = |name: &str, old: &str| match self.tensor(&format!("{path}.{name}"), &[width])
        {
            Err(super::LoadError::Weights(WeightsError::Missing { .. })) => {
                self.tensor(&format!("{path}.{old}"), &[width])
            }
            other => other,
        };
        Ok(Norm {
            weight: either("weight", "gamma")?,
            bias: either("bias", "beta")?,
            eps,
        })
    }
}

pub(super) type LoadResult<T> = std::result::Result<T, super::LoadError>;

/// Linear layers over the same input with what adapters add to each.
#[derive(Debug)]
pub(super) struct Dense {
    linear: Linear,
    /// Outputs of each.
    width: usize,
    paths: Vec<String>,
}

impl Dense {
    /// The product, then what adapters add, then the residual if there is one.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        adapters: &AdapterRows,
    ) -> Result<Tensor> {
        let then = residual.map_or(Then::Nothing, Then::Add);
        let y = self.linear.forward(x, then)?;
        let layers = self.paths.iter().enumerate();
        let layers = layers.map(|(part, path)| (path.as_str(), part * self.width));
        adapters.add(layers, y, x)
    }

    /// The product, then what adapters add, then an activation.
    pub(super) fn activated(
        &self,
        x: &Tensor,
        activation: Activation,
        adapters: &AdapterRows,
    ) -> Result<Tensor> {
        if self.paths.iter().any(|path| adapters.touch(path)) {
            // The activation must see what adapters add, so it cannot be part of the product.
            let y = self.forward(x, None, adapters)?;
            return match activation {
                Activation::Gelu => y.gelu_erf(),
                Activation::GeluTanh => y.gelu(),
                Activation::Relu => y.relu(),
            };
        }
        self.linear.forward(
            x,
            match activation {
                Activation::Gelu => Then::Gelu,
                Activation::GeluTanh => Then::GeluTanh,
                Activation::Relu => Then::Relu,
            },
        )
    }
}

/// Layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Norm {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}
