//! The sizes of a decoder, from the metadata of its file.

use super::gguf::{Gguf, GgufError};
use crate::ops::{Rope, RopeLayout};

/// The sizes that all families have.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The family's name in the file, with which its metadata keys begin.
    pub architecture: String,
    /// Layers.
    pub layers: usize,
    /// Values that represent a token between layers.
    pub width: usize,
    /// Values inside of the feed-forward part.
    pub inner: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Tokens of the vocabulary, which are rows of the embedding.
    pub vocabulary: usize,
    /// Positions that the model was trained for.
    pub context: usize,
    /// Added to the mean square in norms.
    pub norm_eps: f64,
    /// The frequency base of rotary positions.
    pub rope_base: f64,
    /// How many of a head's values are turned.
    pub rope_dim: usize,
    /// What positions are multiplied by.
    pub rope_scale: f64,
    /// Positions that a sliding-window layer sees.
    pub window: Option<usize>,
}

/// Beyond any model; keeps the arithmetic on sizes from overflowing.
const MAX_SIZE: u32 = 1 << 24;
const MAX_LAYERS: u32 = 1024;

impl Config {
    /// Reads and checks the sizes.
    ///
    /// # Errors
    /// A size is missing or senseless, or the file asks for something that is not known here.
    pub fn from_gguf(file: &Gguf) -> Result<Self, GgufError> {
        let architecture = file.text("general.architecture")?;
        let architecture = architecture.ok_or_else(|| GgufError::Missing {
            what: "metadata entry",
            name: "general.architecture".to_owned(),
        })?;
        let keys = Keys { file, architecture };
        keys.refuse_experts()?;
        let layers = keys.size("block_count", MAX_LAYERS)?;
        let width = keys.size("embedding_length", MAX_SIZE)?;
        let heads = keys.size("attention.head_count", MAX_SIZE)?;
        let kv_heads = keys.size_or("attention.head_count_kv", heads)?;
        let head_dim = keys.size_or("attention.key_length", width / heads)?;
        let value_dim = keys.size_or("attention.value_length", head_dim)?;
        if heads % kv_heads != 0 {
            return Err(keys.senseless("attention.head_count_kv", "a divisor of the head count"));
        }
        if value_dim != head_dim {
            return Err(keys.senseless("attention.value_length", "the same as the key length"));
        }
        let rope_dim = keys.size_or("rope.dimension_count", head_dim)?;
        if head_dim % 2 != 0 || rope_dim % 2 != 0 || rope_dim > head_dim {
            return Err(keys.senseless("rope.dimension_count", "an even part of a head"));
        }
        let vocabulary = match file.shape("token_embd.weight")? {
            [rows, columns] if *columns == width => *rows,
            shape => {
                return Err(GgufError::Tensor {
                    name: "token_embd.weight".to_owned(),
                    reason: format!("its shape is {shape:?} in a model of width {width}"),
                });
            }
        };
        let window = keys.integer("attention.sliding_window")?;
        Ok(Self {
            layers,
            width,
            inner: keys.size("feed_forward_length", MAX_SIZE)?,
            heads,
            kv_heads,
            head_dim,
            vocabulary,
            context: keys.size("context_length", u32::MAX)?,
            norm_eps: keys.positive("attention.layer_norm_rms_epsilon", None)?,
            rope_base: keys.positive("rope.freq_base", Some(10_000.0))?,
            rope_dim,
            rope_scale: keys.rope_scale()?,
            window: window.filter(|&window| window > 0),
            architecture: architecture.to_owned(),
        })
    }

    /// Rotary positions as the metadata describes them.
    pub fn rope(&self) -> Rope {
        Rope {
            scale: self.rope_scale,
            ..Rope::new(self.rope_dim, self.rope_base, RopeLayout::Halves)
        }
    }
}

/// Metadata entries under the architecture's name.
struct Keys<'a> {
    file: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn integer(&self, name: &str) -> Result<Option<usize>, GgufError> {
        let integer = self.file.integer(&self.key(name))?;
        Ok(integer.map(|integer| integer as usize))
    }

    fn size(&self, name: &str, limit: u32) -> Result<usize, GgufError> {
        let size = self.integer(name)?.ok_or_else(|| GgufError::Missing {
            what: "metadata entry",
            name: self.key(name),
        })?;
        match (1..=limit as usize).contains(&size) {
            true => Ok(size),
            false => Err(self.senseless(name, "a size that a model can have")),
        }
    }

    fn size_or(&self, name: &str, default: usize) -> Result<usize, GgufError> {
        match self.integer(name)?.unwrap_or(default) {
            size @ 1..=0x100_0000 => Ok(size),
            _ => Err(self.senseless(name, "a size that a model can have")),
        }
    }

    fn positive(&self, name: &str, default: Option<f64>) -> Result<f64, GgufError> {
        let number = self.file.number(&self.key(name))?.or(default);
        let number = number.ok_or_else(|| GgufError::Missing {
            what: "metadata entry",
            name: self.key(name),
        })?;
        match number > 0.0 {
            true => Ok(number),
            false => Err(self.senseless(name, "a number above 0")),
        }
    }

    fn rope_scale(&self) -> Result<f64, GgufError> {
        match self.file.text(&self.key("rope.scaling.type"))? {
            None | Some("none") => Ok(1.0),
            Some("linear") => Ok(1.0 / self.positive("rope.scaling.factor", None)?),
            Some(other) => Err(GgufError::Unsupported {
                what: "position scaling",
                name: other.to_owned(),
                known: "linear and none",
            }),
        }
    }

    fn refuse_experts(&self) -> Result<(), GgufError> {
        match self.integer("expert_count")? {
            None | Some(0) => Ok(()),
            Some(count) => Err(GgufError::Unsupported {
                what: "a mixture of experts, here",
                name: count.to_string(),
                known: "models without experts",
            }),
        }
    }

    fn senseless(&self, name: &str, expected: &'static str) -> GgufError {
        GgufError::Metadata {
            key: self.key(name),
            expected,
        }
    }
}
