//! Rotary position embedding: pairs of values are turned by an angle that grows with the position.

use super::{
    host::{floats, is_host, tensor},
    norm::RmsNorm,
};
use crate::kernel::{self, Angles, Heads, Isa};
use candle_core::{Device, Result, Tensor};
use std::ops::Range;

/// Which values form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// Value `i` with value `i + dim / 2` (NeoX: Gemma, Qwen, transformers' Llama).
    Halves,
    /// Value `2i` with value `2i + 1` (GGUF files of the Llama family).
    Interleaved,
}

/// How a model turns its heads.
#[derive(Debug, Clone)]
pub struct Rope {
    /// How many of a head's values are turned, from the first; even. The rest stay as they are.
    pub dim: usize,
    /// The frequency base, such as 10 000.
    pub base: f64,
    /// What positions are multiplied by; 1 without linear scaling, 1/8 for a factor of 8.
    pub scale: f64,
    /// Divisors of the `dim / 2` frequencies (`rope_freqs.weight` of Llama 3); none: all 1.
    pub factors: Option<Vec<f32>>,
    /// Which values form a pair.
    pub layout: RopeLayout,
}

impl Rope {
    /// The plain rotation over `dim` values of every head.
    #[must_use]
    pub fn new(dim: usize, base: f64, layout: RopeLayout) -> Self {
        Self {
            dim,
            base,
            scale: 1.0,
            factors: None,
            layout,
        }
    }

    /// The angle by which pair `i` is turned from one position to the next.
    fn angle(&self, i: usize) -> f64 {
        let frequency = self.base.powf(-2.0 * i as f64 / self.dim as f64);
        let factor = self.factors.as_ref().map_or(1.0, |f| f64::from(f[i]));
        self.scale * frequency / factor
    }
}

/// Cosines and sines for the rows of one forward, made once and used by every layer.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// `[m, dim / 2]` each.
    cos: Tensor,
    sin: Tensor,
    layout: RopeLayout,
}

impl RopeTable {
    /// The table for rows at these positions.
    ///
    /// # Errors
    /// `dim` is odd, or there are not `dim / 2` factors.
    pub fn new(rope: &Rope, positions: &[u32], device: &Device) -> Result<Self> {
        let half = rope.dim / 2;
        if !rope.dim.is_multiple_of(2) || rope.factors.as_ref().is_some_and(|f| f.len() != half) {
            candle_core::bail!("rotary positions need an even width and as many factors as pairs");
        }
        let mut cos = Vec::with_capacity(positions.len() * half);
        let mut sin = Vec::with_capacity(positions.len() * half);
        let angles: Vec<f64> = (0..half).map(|i| rope.angle(i)).collect();
        for &position in positions {
            for angle in &angles {
                let (s, c) = (f64::from(position) * angle).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        let shape = (positions.len(), half);
        Ok(Self {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
            layout: rope.layout,
        })
    }

    /// Turns heads that are some columns of `x` (`[m, n]`, row `i` at the table's position `i`), each normalised
    /// before if there is a norm. The result has these columns alone.
    ///
    /// # Errors
    /// `x` has other rows than the table, or not these columns; heads are narrower than `dim`, or of another
    /// width than the norm.
    pub fn apply(
        &self,
        x: &Tensor,
        columns: Range<usize>,
        head_dim: usize,
        norm: Option<&RmsNorm>,
    ) -> Result<Tensor> {
        let (m, n) = x.dims2()?;
        let (rows, half) = self.cos.dims2()?;
        let fits = |norm: &RmsNorm| norm.weight.dims() == [head_dim];
        if rows != m
            || columns.end > n
            || head_dim < (2 * half).max(1)
            || !columns.len().is_multiple_of(head_dim)
            || !norm.is_none_or(fits)
        {
            candle_core::bail!(
                "a table of {rows} rows and {half} pairs does not fit {columns:?} of {:?} with heads of {head_dim}",
                x.shape()
            );
        }
        if is_host(x) {
            let (cos, sin) = (floats(&self.cos)?, floats(&self.sin)?);
            let angles = Angles {
                cos: &cos,
                sin: &sin,
                half,
                interleaved: self.layout == RopeLayout::Interleaved,
            };
            let weight = norm.map(|norm| floats(&norm.weight)).transpose()?;
            let heads = Heads {
                x: &floats(x)?,
                pitch: n,
                columns: columns.clone(),
                head_dim,
                norm: norm.zip(weight.as_deref()).map(|(norm, w)| norm.on_host(w)),
                angles,
            };
            let values = kernel::rope(Isa::best(), &heads);
            return tensor(values, (m, columns.len()));
        }
        let heads = x.narrow(1, columns.start, columns.len())?.contiguous()?;
        let heads = match norm {
            Some(norm) => norm.forward(&heads)?,
            None => heads,
        };
        if m == 0 || half == 0 {
            return Ok(heads);
        }
        self.apply_by_candle(&heads, head_dim)
    }

    /// The same with candle's operations.
    pub(super) fn apply_by_candle(&self, x: &Tensor, head_dim: usize) -> Result<Tensor> {
        let (m, width) = x.dims2()?;
        let half = self.cos.dim(1)?;
        let heads = x.reshape((1, m, width / head_dim, head_dim))?;
        let turned = heads.narrow(3, 0, 2 * half)?.contiguous()?;
        let turned = match self.layout {
            RopeLayout::Halves => candle_nn::rotary_emb::rope_thd(&turned, &self.cos, &self.sin)?,
            RopeLayout::Interleaved => {
                let turned = turned.transpose(1, 2)?.contiguous()?;
                let turned = candle_nn::rotary_emb::rope_i(&turned, &self.cos, &self.sin)?;
                turned.transpose(1, 2)?.contiguous()?
            }
        };
        let rest = head_dim - 2 * half;
        let all = match rest {
            0 => turned,
            _ => Tensor::cat(&[&turned, &heads.narrow(3, 2 * half, rest)?], 3)?,
        };
        all.reshape((m, width))
    }
}
