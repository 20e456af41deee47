//! What the layers of all families are made of: attention and the gated feed-forward part.

use super::{
    batch::{Batch, select},
    config::Config,
    gguf::{Gguf, GgufError, Matrix},
    logits::Logits,
};
use crate::{
    adapter::{self, Base},
    ops::{CausalAttention, Linear, RmsNorm, RopeTable, Then, gelu_mul, silu_mul},
};
use candle_core::{Device, Result, Tensor};

/// Loads the parts of a layer by name.
pub(super) struct LayerFile<'a> {
    pub(super) file: &'a Gguf,
    pub(super) config: &'a Config,
    pub(super) device: &'a Device,
    pub(super) layer: usize,
}

impl LayerFile<'_> {
    fn name(&self, tensor: &str) -> String {
        format!("blk.{}.{tensor}", self.layer)
    }

    /// A norm, as wide as the model or as a head.
    pub(super) fn norm(
        &self,
        tensor: &str,
        width: usize,
    ) -> std::result::Result<RmsNorm, GgufError> {
        let name = self.name(&format!("{tensor}.weight"));
        Ok(RmsNorm {
            weight: self.file.vector(&name, width, self.device)?,
            eps: self.config.norm_eps,
        })
    }

    /// The path that adapters know a linear layer by.
    fn path(&self, module: &str) -> String {
        format!("layers.{}.{module}", self.layer)
    }
}

/// How a family's attention differs from the plain one.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionKind {
    /// What scores are multiplied by.
    pub(super) scale: f32,
    /// How many positions a row sees; none: all.
    pub(super) window: Option<usize>,
    /// Queries and keys are normalised head by head.
    pub(super) head_norms: bool,
    /// The file has the rows of the query and key weights in the order of interleaved rotation, as
    /// llama.cpp's converter writes those of the Llama family.
    pub(super) interleaved: bool,
}

/// Causal self-attention with grouped heads (Vaswani et al. 2017; Ainslie et al. 2023).
#[derive(Debug)]
pub(super) struct Attention {
    layer: usize,
    qkv: Linear,
    output: Linear,
    /// Of queries and of keys.
    head_norms: Option<[RmsNorm; 2]>,
    shape: CausalAttention,
    /// The adapters' paths of queries, keys, values and output.
    paths: [String; 4],
}

impl Attention {
    pub(super) fn load(
        from: &LayerFile<'_>,
        kind: AttentionKind,
    ) -> std::result::Result<Self, GgufError> {
        let config = from.config;
        let (queries, keys) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let head_norms = match kind.head_norms {
            true => Some([
                from.norm("attn_q_norm", config.head_dim)?,
                from.norm("attn_k_norm", config.head_dim)?,
            ]),
            false => None,
        };
        let output = from.name("attn_output.weight");
        let paths = ["q_proj", "k_proj", "v_proj", "o_proj"];
        Ok(Self {
            layer: from.layer,
            qkv: load_qkv(from, &kind, queries, keys)?,
            output: from.file.linear(
                &[Matrix::new(&output, config.width)],
                queries,
                from.device,
            )?,
            head_norms,
            shape: CausalAttention {
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.head_dim,
                scale: kind.scale,
                window: kind.window,
            },
            paths: paths.map(|module| from.path(&format!("self_attn.{module}"))),
        })
    }

    /// Reads normalised rows. `then` is done with the result.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        rope: &RopeTable,
        batch: &mut Batch<'_>,
        then: Then<'_>,
    ) -> Result<Tensor> {
        let CausalAttention {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let firsts = [0, queries, queries + keys];
        let qkv = self.qkv.forward(x, Then::Nothing)?;
        let layers = self.paths.iter().map(String::as_str).zip(firsts);
        let qkv = batch.adapters.add(layers, qkv, x)?;
        let norm = |index: usize| self.head_norms.as_ref().map(|norms| &norms[index]);
        let q = rope.apply(&qkv, 0..firsts[1], head_dim, norm(0))?;
        let k = rope.apply(&qkv, firsts[1]..firsts[2], head_dim, norm(1))?;
        let v = qkv.narrow(1, firsts[2], keys)?;
        let mixed = batch.attend(self.layer, &self.shape, &q, &k, &v)?;
        let y = self.output.forward(&mixed, then)?;
        batch.adapters.add([(&*self.paths[3], 0)], y, &mixed)
    }

    pub(super) fn describe(&self, base: &mut Base) {
        let CausalAttention {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        let (inputs, width) = (self.qkv.in_features(), self.output.out_features());
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let sizes = [
            (queries, inputs),
            (keys, inputs),
            (keys, inputs),
            (width, queries),
        ];
        insert(base, self.paths.iter().zip(sizes));
    }
}

/// Queries, keys and values in one product.
fn load_qkv(
    from: &LayerFile<'_>,
    kind: &AttentionKind,
    queries: usize,
    keys: usize,
) -> std::result::Result<Linear, GgufError> {
    let parts = [("attn_q", queries), ("attn_k", keys), ("attn_v", keys)];
    let weights = parts.map(|(part, _)| from.name(&format!("{part}.weight")));
    let biases = parts.map(|(part, rows)| (from.name(&format!("{part}.bias")), rows));
    let mut matrices = [0, 1, 2].map(|part| Matrix::new(&weights[part], parts[part].1));
    if kind.interleaved {
        let head_dim = Some(from.config.head_dim);
        matrices[..2]
            .iter_mut()
            .for_each(|matrix| matrix.interleaved_heads = head_dim);
    }
    let linear = from
        .file
        .linear(&matrices, from.config.width, from.device)?;
    if !from.file.has(&biases[0].0) {
        return Ok(linear);
    }
    if kind.interleaved {
        return Err(GgufError::Unsupported {
            what: "tensor",
            name: biases[0].0.clone(),
            known: "models of the Llama family without biases",
        });
    }
    let biases = biases
        .iter()
        .map(|(name, rows)| from.file.vector(name, *rows, from.device));
    let biases: Vec<Tensor> = biases.collect::<std::result::Result<_, _>>()?;
    Tensor::cat(&biases, 0)
        .and_then(|bias| linear.with_bias(Some(&bias)))
        .map_err(|source| GgufError::Candle {
            what: from.name("the attention's biases"),
            source,
        })
}

/// The activation of a feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// GELU in its tanh form.
    Gelu,
    /// SiLU.
    Silu,
}

/// `down(activation(gate(x)) · up(x))` (Shazeer 2020, *GLU variants*).
#[derive(Debug)]
pub(super) struct FeedForward {
    gate_up: Linear,
    down: Linear,
    activation: Activation,
    inner: usize,
    /// The adapters' paths of gate, up and down.
    paths: [String; 3],
}

impl FeedForward {
    pub(super) fn load(
        from: &LayerFile<'_>,
        activation: Activation,
    ) -> std::result::Result<Self, GgufError> {
        let Config { width, inner, .. } = *from.config;
        let [gate, up, down] =
            ["ffn_gate", "ffn_up", "ffn_down"].map(|part| from.name(&format!("{part}.weight")));
        let paths = ["gate_proj", "up_proj", "down_proj"];
        let gate_up = [Matrix::new(&gate, inner), Matrix::new(&up, inner)];
        Ok(Self {
            gate_up: from.file.linear(&gate_up, width, from.device)?,
            down: from
                .file
                .linear(&[Matrix::new(&down, width)], inner, from.device)?,
            activation,
            inner,
            paths: paths.map(|module| from.path(&format!("mlp.{module}"))),
        })
    }

    /// Reads normalised rows. `then` is done with the result.
    pub(super) fn forward(&self, x: &Tensor, batch: &Batch<'_>, then: Then<'_>) -> Result<Tensor> {
        let gate_up = self.gate_up.forward(x, Then::Nothing)?;
        let layers = self.paths.iter().map(String::as_str).zip([0, self.inner]);
        let gate_up = batch.adapters.add(layers, gate_up, x)?;
        let inner = match self.activation {
            Activation::Gelu => gelu_mul(&gate_up)?,
            Activation::Silu => silu_mul(&gate_up)?,
        };
        let y = self.down.forward(&inner, then)?;
        batch.adapters.add([(&*self.paths[2], 0)], y, &inner)
    }

    pub(super) fn describe(&self, base: &mut Base) {
        let (width, inner) = (self.down.out_features(), self.inner);
        let sizes = [(inner, width), (inner, width), (width, inner)];
        insert(base, self.paths.iter().zip(sizes));
    }
}

fn insert<'a>(base: &mut Base, linears: impl Iterator<Item = (&'a String, (usize, usize))>) {
    for (path, (outputs, inputs)) in linears {
        base.linears
            .insert(path.clone(), adapter::Linear { outputs, inputs });
    }
}

/// The embedding, the last norm and the output layer, which is the embedding once more where the
/// file has no other.
#[derive(Debug)]
pub(super) struct Ends {
    embedding: Linear,
    norm: RmsNorm,
    head: Option<Linear>,
}

impl Ends {
    pub(super) fn load(
        file: &Gguf,
        config: &Config,
        device: &Device,
    ) -> std::result::Result<Self, GgufError> {
        let sizes @ [tokens, width] = [config.vocabulary, config.width];
        let (embedding, output) = ("token_embd.weight", "output.weight");
        let (embedding, head) = match file.has(output) {
            true => (
                file.linear(&[Matrix::new(embedding, tokens)], width, device)?,
                Some(file.vocabulary(output, sizes, device)?),
            ),
            false => (file.vocabulary(embedding, sizes, device)?, None),
        };
        Ok(Self {
            embedding,
            norm: RmsNorm {
                weight: file.vector("output_norm.weight", config.width, device)?,
                eps: config.norm_eps,
            },
            head,
        })
    }

    /// The rows that the first layer reads.
    pub(super) fn embed(&self, batch: &Batch<'_>) -> Result<Tensor> {
        self.embedding.rows(&batch.tokens)
    }

    /// The logits of the rows that want them, from what the last layer gave.
    pub(super) fn logits(&self, x: &Tensor, batch: &Batch<'_>) -> Result<Logits> {
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let x = match batch.wanted.is_empty() {
            true => x.narrow(0, 0, 0)?,
            false => self.norm.forward(&select(x, &batch.wanted)?)?,
        };
        Logits::compute(head, &x, &batch.margins)
    }
}
