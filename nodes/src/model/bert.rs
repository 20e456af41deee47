//! The encoder of BERT: embeddings, then layers of self-attention and feed-forward, each with a
//! residual and a norm after it.
//!
//! Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2018, over Vaswani
//! et al., "Attention Is All You Need", 2017. The rows of all texts lie one after the other without
//! padding, so that a batch of mixed lengths costs what its tokens cost.

use super::{
    Table, Weights,
    batch::Packed,
    config::{Activation, Config},
    dense::{Dense, LoadResult, Loader, Norm},
};
use crate::{adapter::Linear, ops};
use candle_core::{Device, Result, Tensor};
use std::collections::BTreeMap;

/// Which rows of the last layer are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All.
    All,
    /// The first of each text; the rest of the last layer is not computed.
    First,
}

/// The encoder.
#[derive(Debug)]
pub(super) struct Bert {
    embeddings: Embeddings,
    layers: Vec<Layer>,
}

impl Bert {
    pub(super) fn load(
        config: &Config,
        first_position: usize,
        from: Loader<'_>,
    ) -> LoadResult<Self> {
        let layer = |index| Layer::load(config, index, from);
        Ok(Self {
            embeddings: Embeddings::load(config, first_position, from)?,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<LoadResult<_>>()?,
        })
    }

    /// The linear layers that adapters may add to.
    pub(super) fn linears(config: &Config) -> BTreeMap<String, Linear> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linears = |index| {
            let [query, key, value] = attention_inputs(index);
            [
                (query, hidden, hidden),
                (key, hidden, hidden),
                (value, hidden, hidden),
                (attention_output(index), hidden, hidden),
                (feed_forward_inner(index), inner, hidden),
                (feed_forward_outer(index), hidden, inner),
            ]
        };
        let linears = (0..config.num_hidden_layers).flat_map(linears);
        linears
            .map(|(path, outputs, inputs)| (path, Linear { outputs, inputs }))
            .collect()
    }

    /// `[rows, hidden]`: a row for each token, or for each text where only the first is wanted.
    pub(super) fn forward(&self, batch: &Packed<'_>, wanted: Wanted) -> Result<Tensor> {
        let mut x = self.embeddings.forward(batch)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let last = index + 1 == self.layers.len();
            x = layer.forward(x, batch, if last { wanted } else { Wanted::All })?;
        }
        Ok(x)
    }
}

/// What a token is, where it stands, and which text of a pair it belongs to.
#[derive(Debug)]
struct Embeddings {
    words: Table,
    positions: Vec<f32>,
    types: Vec<f32>,
    first_position: usize,
    width: usize,
    norm: Norm,
    device: Device,
}

impl Embeddings {
    fn load(config: &Config, first_position: usize, from: Loader<'_>) -> LoadResult<Self> {
        let width = config.hidden_size;
        let floats = |weights: &Weights, name: &str, rows| {
            weights.floats(
                &format!("{}embeddings.{name}.weight", from.prefix),
                &[rows, width],
            )
        };
        let words = format!("{}embeddings.word_embeddings.weight", from.prefix);
        Ok(Self {
            words: from.weights.table(&words, config.vocab_size, width)?,
            positions: floats(
                from.weights,
                "position_embeddings",
                config.max_position_embeddings,
            )?,
            types: floats(
                from.weights,
                "token_type_embeddings",
                config.type_vocab_size,
            )?,
            first_position,
            width,
            norm: from.norm("embeddings.LayerNorm", width, config.layer_norm_eps)?,
            device: from.device.clone(),
        })
    }

    fn forward(&self, batch: &Packed<'_>) -> Result<Tensor> {
        let rows = batch.offsets.last().copied().unwrap_or(0);
        let mut x = vec![0.0; rows * self.width];
        let mut lines = x.chunks_exact_mut(self.width);
        for text in &batch.texts {
            for (index, (id, kind)) in text.ids.iter().zip(&text.types).enumerate() {
                let Some(line) = lines.next() else {
                    candle_core::bail!("more tokens than rows");
                };
                self.embed(*id, *kind, self.first_position + index, line)?;
            }
        }
        self.norm
            .forward(&Tensor::from_vec(x, (rows, self.width), &self.device)?)
    }

    fn embed(&self, id: u32, kind: u32, position: usize, line: &mut [f32]) -> Result<()> {
        // Where a model knows one kind of text only, pairs are marked by their separators.
        let kind = (kind as usize).min(self.types.len() / self.width - 1);
        let (Some(position), Some(kind)) = (
            self.row(&self.positions, position),
            self.row(&self.types, kind),
        ) else {
            candle_core::bail!("position {position} lies beyond the model's last");
        };
        if !self.words.read(id as usize, line) {
            candle_core::bail!("the token {id} is not in the model's vocabulary");
        }
        let added = position.iter().zip(kind);
        line.iter_mut()
            .zip(added)
            .for_each(|(x, (p, k))| *x += p + k);
        Ok(())
    }

    fn row<'a>(&self, table: &'a [f32], index: usize) -> Option<&'a [f32]> {
        table.chunks_exact(self.width).nth(index)
    }
}

/// Self-attention and feed-forward.
#[derive(Debug)]
struct Layer {
    heads: usize,
    query_key_value: Dense,
    attention_output: Dense,
    attention_norm: Norm,
    inner: Dense,
    activation: Activation,
    outer: Dense,
    norm: Norm,
}

impl Layer {
    fn load(config: &Config, index: usize, from: Loader<'_>) -> LoadResult<Self> {
        let (hidden, inner, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.layer_norm_eps,
        );
        let norm = |path: &str| from.norm(&format!("encoder.layer.{index}.{path}"), hidden, eps);
        Ok(Self {
            heads: config.num_attention_heads,
            query_key_value: from.stacked(attention_inputs(index).into(), hidden, hidden)?,
            attention_output: from.dense(&attention_output(index), hidden, hidden)?,
            attention_norm: norm("attention.output.LayerNorm")?,
            inner: from.dense(&feed_forward_inner(index), inner, hidden)?,
            activation: config.hidden_act,
            outer: from.dense(&feed_forward_outer(index), hidden, inner)?,
            norm: norm("output.LayerNorm")?,
        })
    }

    fn forward(&self, x: Tensor, batch: &Packed<'_>, wanted: Wanted) -> Result<Tensor> {
        let qkv = self.query_key_value.forward(&x, None, &batch.adapters)?;
        let mixed = ops::attention_packed(&qkv, self.heads, &batch.offsets)?;
        let (x, mixed, adapters) = match wanted {
            Wanted::All => (x, mixed, &batch.adapters),
            Wanted::First => {
                let first = &batch.offsets[..batch.texts.len()];
                let first: Vec<u32> = first.iter().map(|row| *row as u32).collect();
                let first = Tensor::new(first, x.device())?;
                let rows = |x: &Tensor| x.index_select(&first, 0);
                (rows(&x)?, rows(&mixed)?, &batch.text_adapters)
            }
        };
        let x = self.attention_output.forward(&mixed, Some(&x), adapters)?;
        let x = self.attention_norm.forward(&x)?;
        let inner = self.inner.activated(&x, self.activation, adapters)?;
        let x = self.outer.forward(&inner, Some(&x), adapters)?;
        self.norm.forward(&x)
    }
}

fn attention_inputs(layer: usize) -> [String; 3] {
    ["query", "key", "value"].map(|part| format!("encoder.layer.{layer}.attention.self.{part}"))
}

fn attention_output(layer: usize) -> String {
    format!("encoder.layer.{layer}.attention.output.dense")
}

fn feed_forward_inner(layer: usize) -> String {
    format!("encoder.layer.{layer}.intermediate.dense")
}

fn feed_forward_outer(layer: usize) -> String {
    format!("encoder.layer.{layer}.output.dense")
}
