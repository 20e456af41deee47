//! The Llama family (Touvron et al. 2023; Grattafiori et al. 2024), Mistral's models among them.
//!
//! A norm before each part, SiLU, rotary positions, for Llama 3 with frequencies that the file
//! stretches. Qwen's models are of the same build; [`super::qwen`] says how they differ.

use super::{
    Network,
    batch::Batch,
    block::{Activation, Attention, AttentionKind, Ends, FeedForward, LayerFile},
    config::Config,
    gguf::{Gguf, GgufError},
    logits::Logits,
};
use crate::{
    adapter::Base,
    ops::{RmsNorm, Rope, RopeTable, Then},
};
use candle_core::{Device, Result};

/// The layers of a Llama model.
#[derive(Debug)]
pub(super) struct Llama {
    ends: Ends,
    layers: Vec<Layer>,
    rope: Rope,
}

#[derive(Debug)]
struct Layer {
    attention_norm: RmsNorm,
    attention: Attention,
    feed_forward_norm: RmsNorm,
    feed_forward: FeedForward,
}

/// How a model of this build differs from Llama.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    /// Queries and keys are normalised head by head.
    pub(super) head_norms: bool,
    /// The file has queries and keys in the order of interleaved rotation.
    pub(super) interleaved: bool,
    /// How many positions a row sees; none: all. (Mistral's first models have a window.)
    pub(super) window: Option<usize>,
}

impl Llama {
    pub(super) fn load(
        file: &Gguf,
        config: &Config,
        device: &Device,
    ) -> std::result::Result<Self, GgufError> {
        let variant = Variant {
            head_norms: false,
            interleaved: true,
            window: config.window,
        };
        Self::load_variant(file, config, variant, device)
    }

    pub(super) fn load_variant(
        file: &Gguf,
        config: &Config,
        variant: Variant,
        device: &Device,
    ) -> std::result::Result<Self, GgufError> {
        let layers = (0..config.layers).map(|layer| {
            let from = LayerFile {
                file,
                config,
                device,
                layer,
            };
            Layer::load(&from, variant)
        });
        Ok(Self {
            ends: Ends::load(file, config, device)?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            rope: Rope {
                factors: frequency_factors(file, config)?,
                ..config.rope()
            },
        })
    }
}

/// What Llama 3 divides its frequencies by.
fn frequency_factors(
    file: &Gguf,
    config: &Config,
) -> std::result::Result<Option<Vec<f32>>, GgufError> {
    const NAME: &str = "rope_freqs.weight";
    if !file.has(NAME) {
        return Ok(None);
    }
    let factors = file.vector(NAME, config.rope_dim / 2, &Device::Cpu)?;
    let factors = factors.to_vec1().map_err(|source| GgufError::Candle {
        what: NAME.to_owned(),
        source,
    })?;
    Ok(Some(factors))
}

impl Layer {
    fn load(from: &LayerFile<'_>, variant: Variant) -> std::result::Result<Self, GgufError> {
        let config = from.config;
        let kind = AttentionKind {
            scale: (config.head_dim as f32).sqrt().recip(),
            window: variant.window,
            head_norms: variant.head_norms,
            interleaved: variant.interleaved,
        };
        Ok(Self {
            attention_norm: from.norm("attn_norm", config.width)?,
            attention: Attention::load(from, kind)?,
            feed_forward_norm: from.norm("ffn_norm", config.width)?,
            feed_forward: FeedForward::load(from, Activation::Silu)?,
        })
    }
}

impl Network for Llama {
    fn forward(&self, batch: &mut Batch<'_>) -> Result<Logits> {
        let mut x = self.ends.embed(batch)?;
        let rope = RopeTable::new(&self.rope, &batch.positions, x.device())?;
        for layer in &self.layers {
            let read = layer.attention_norm.forward(&x)?;
            x = layer
                .attention
                .forward(&read, &rope, batch, Then::Add(&x))?;
            let read = layer.feed_forward_norm.forward(&x)?;
            x = layer.feed_forward.forward(&read, batch, Then::Add(&x))?;
        }
        self.ends.logits(&x, batch)
    }

    fn describe(&self, base: &mut Base) {
        for layer in &self.layers {
            layer.attention.describe(base);
            layer.feed_forward.describe(base);
        }
    }
}
