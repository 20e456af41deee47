//! What the files beside the weights say: sizes, pooling, and how much is read.
//!
//! Sources: `config.json` of transformers; `modules.json`, `sentence_bert_config.json` and the
//! pooling module's `config.json` of sentence-transformers; `tokenizer_config.json`.

use super::{LoadError, Pooling};
use serde::{Deserialize, de::DeserializeOwned};
use std::{fs, io, path::Path};

/// `config.json` of an encoder.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Config {
    pub(super) model_type: String,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    #[serde(default)]
    pub(super) hidden_act: Activation,
    #[serde(default = "layer_norm_eps")]
    pub(super) layer_norm_eps: f64,
    pub(super) max_position_embeddings: usize,
    #[serde(default = "type_vocab_size")]
    pub(super) type_vocab_size: usize,
    pub(super) vocab_size: usize,
    #[serde(default)]
    pub(super) pad_token_id: Option<usize>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

/// The activation between the two layers of the feed-forward part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Activation {
    /// GELU by the error function.
    #[default]
    #[serde(rename = "gelu")]
    Gelu,
    /// GELU by tanh.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    /// Negative values become 0.
    #[serde(rename = "relu")]
    Relu,
}

fn layer_norm_eps() -> f64 {
    1e-12
}

fn type_vocab_size() -> usize {
    2
}

impl Config {
    /// Reads and checks `config.json` of a folder.
    pub(super) fn load(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join("config.json");
        let config: Self = parse(&path, &read(&path)?)?;
        match config.problem() {
            Some(what) => Err(LoadError::Unsupported { path, what }),
            None => Ok(config),
        }
    }

    fn problem(&self) -> Option<String> {
        if let Some(other) = &self.position_embedding_type
            && other != "absolute"
        {
            return Some(format!(
                "position_embedding_type {other:?} is not supported"
            ));
        }
        let sizes = [
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.intermediate_size,
            self.max_position_embeddings,
            self.type_vocab_size,
            self.vocab_size,
        ];
        if sizes.contains(&0) {
            return Some("a size is 0".to_owned());
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
            return Some(format!("{heads} heads do not divide a width of {hidden}"));
        }
        None
    }
}

/// How an encoder's rows become one vector, as sentence-transformers' files say. Without such files:
/// the mean, normalised.
pub(super) fn pooling(folder: &Path) -> Result<(Pooling, bool), LoadError> {
    #[derive(Deserialize)]
    struct Module {
        path: String,
        #[serde(rename = "type")]
        kind: String,
    }
    let path = folder.join("modules.json");
    let Some(text) = read_if_there(&path)? else {
        return Ok((Pooling::Mean, true));
    };
    let (mut pooling, mut normalise) = (Pooling::Mean, false);
    for module in parse::<Vec<Module>>(&path, &text)? {
        match module.kind.rsplit('.').next() {
            Some("Transformer") => {}
            Some("Normalize") => normalise = true,
            Some("Pooling") => pooling = pooling_mode(&folder.join(module.path))?,
            _ => {
                let what = format!("the module {:?} is not supported", module.kind);
                return Err(LoadError::Unsupported { path, what });
            }
        }
    }
    Ok((pooling, normalise))
}

fn pooling_mode(module: &Path) -> Result<Pooling, LoadError> {
    let path = module.join("config.json");
    let text = read(&path)?;
    let modes: serde_json::Map<String, serde_json::Value> = parse(&path, &text)?;
    let on = |(key, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::Bool(true) => key.strip_prefix("pooling_mode_").map(str::to_owned),
        serde_json::Value::String(mode) if key == "pooling_mode" => Some(mode.clone()),
        _ => None,
    };
    let on: Vec<String> = modes.iter().filter_map(on).collect();
    let one = match on.as_slice() {
        [one] => one.as_str(),
        _ => "",
    };
    match one {
        "mean_tokens" | "mean" => Ok(Pooling::Mean),
        "cls_token" | "cls" => Ok(Pooling::First),
        "max_tokens" | "max" => Ok(Pooling::Max),
        "mean_sqrt_len_tokens" | "mean_sqrt_len" => Ok(Pooling::MeanRoot),
        _ => {
            let what = format!("pooling by {on:?} is not supported; mean, cls or max is");
            Err(LoadError::Unsupported { path, what })
        }
    }
}

/// The most tokens of a text that are read, as far as the files limit it.
pub(super) fn max_tokens(folder: &Path) -> Result<Option<usize>, LoadError> {
    #[derive(Deserialize)]
    struct Sentences {
        max_seq_length: Option<usize>,
    }
    #[derive(Deserialize)]
    struct Tokenizer {
        /// Written as 1e30 where there is no limit.
        model_max_length: Option<f64>,
    }
    let path = folder.join("sentence_bert_config.json");
    if let Some(text) = read_if_there(&path)?
        && let Some(max) = parse::<Sentences>(&path, &text)?.max_seq_length
    {
        return Ok(Some(max));
    }
    let path = folder.join("tokenizer_config.json");
    let Some(text) = read_if_there(&path)? else {
        return Ok(None);
    };
    let max = parse::<Tokenizer>(&path, &text)?.model_max_length;
    Ok(max
        .filter(|max| (1.0..1e9).contains(max))
        .map(|max| max as usize))
}

fn read(path: &Path) -> Result<String, LoadError> {
    fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read_if_there(path: &Path) -> Result<Option<String>, LoadError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LoadError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, LoadError> {
    serde_json::from_str(text).map_err(|source| LoadError::Parse {
        path: path.to_owned(),
        source,
    })
}
