//! Gemma 3 (Gemma Team 2025, *Gemma 3 Technical Report*).
//!
//! Norms before and after each part, norms on queries and keys, five layers of six with a sliding
//! window and a rotary base of their own, GELU in its tanh form, a scaled and tied embedding. Norm
//! weights are stored in GGUF with the 1 added that the paper's formula has.

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
    ops::{RmsNorm, Rope, RopeLayout, RopeTable, Then},
};
use candle_core::{Device, Result};

/// Every sixth layer sees all positions.
const GLOBAL_EVERY: usize = 6;
/// The rotary base of the layers with a window.
const LOCAL_BASE: f64 = 10_000.0;
/// Layers of the 27B model, which scales its scores by the width of the model over its heads.
const LAYERS_27B: usize = 62;

/// The layers of a Gemma 3 model.
#[derive(Debug)]
pub(super) struct Gemma3 {
    ends: Ends,
    layers: Vec<Layer>,
    embedding_scale: f64,
    global: Rope,
    local: Rope,
}

#[derive(Debug)]
struct Layer {
    is_global: bool,
    attention_norm: RmsNorm,
    attention: Attention,
    after_attention_norm: RmsNorm,
    feed_forward_norm: RmsNorm,
    feed_forward: FeedForward,
    after_feed_forward_norm: RmsNorm,
}

impl Gemma3 {
    pub(super) fn load(
        file: &Gguf,
        config: &Config,
        device: &Device,
    ) -> std::result::Result<Self, GgufError> {
        let layers = (0..config.layers).map(|layer| {
            Layer::load(&LayerFile {
                file,
                config,
                device,
                layer,
            })
        });
        Ok(Self {
            ends: Ends::load(file, config, device)?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            embedding_scale: (config.width as f64).sqrt(),
            global: config.rope(),
            local: Rope::new(config.rope_dim, LOCAL_BASE, RopeLayout::Halves),
        })
    }

    /// How many positions each layer sees.
    pub(super) fn windows(config: &Config) -> Vec<Option<usize>> {
        let window = |layer| config.window.filter(|_| !is_global(layer));
        (0..config.layers).map(window).collect()
    }
}

fn is_global(layer: usize) -> bool {
    (layer + 1).is_multiple_of(GLOBAL_EVERY)
}

impl Layer {
    fn load(from: &LayerFile<'_>) -> std::result::Result<Self, GgufError> {
        let config = from.config;
        let per_head = match config.layers {
            LAYERS_27B => config.width / config.heads,
            _ => config.head_dim,
        };
        let kind = AttentionKind {
            scale: (per_head as f32).sqrt().recip(),
            window: config.window.filter(|_| !is_global(from.layer)),
            head_norms: true,
            interleaved: false,
        };
        let norm = |tensor| from.norm(tensor, config.width);
        Ok(Self {
            is_global: is_global(from.layer),
            attention_norm: norm("attn_norm")?,
            attention: Attention::load(from, kind)?,
            after_attention_norm: norm("post_attention_norm")?,
            feed_forward_norm: norm("ffn_norm")?,
            feed_forward: FeedForward::load(from, Activation::Gelu)?,
            after_feed_forward_norm: norm("post_ffw_norm")?,
        })
    }
}

impl Network for Gemma3 {
    fn forward(&self, batch: &mut Batch<'_>) -> Result<Logits> {
        let mut x = (self.ends.embed(batch)? * self.embedding_scale)?;
        let global = RopeTable::new(&self.global, &batch.positions, x.device())?;
        let local = RopeTable::new(&self.local, &batch.positions, x.device())?;
        for layer in &self.layers {
            let rope = if layer.is_global { &global } else { &local };
            let read = layer.attention_norm.forward(&x)?;
            let attended = layer.attention.forward(&read, rope, batch, Then::Nothing)?;
            x = layer.after_attention_norm.added_to(&x, &attended)?;
            let read = layer.feed_forward_norm.forward(&x)?;
            let fed = layer.feed_forward.forward(&read, batch, Then::Nothing)?;
            x = layer.after_feed_forward_norm.added_to(&x, &fed)?;
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
