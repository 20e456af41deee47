//! An encoder as nodes use it: from a folder to vectors and scores.

use super::{
    LoadError, Pooling, Tokenize, Weights,
    batch::{Sequence, in_chunks, pointer},
    bert::{Bert, Wanted},
    config::{self, Config},
    dense::Loader,
    family::Family,
    head::Head,
    pooling::normalise,
};
use crate::{
    adapter::{Adapter, Base},
    ops::WeightType,
};
use candle_core::{Device, Result, Tensor};
use std::{path::Path, sync::Arc};

/// How an encoder is loaded.
#[derive(Debug, Clone)]
pub struct EncoderOptions {
    /// How many tokens of a text are read at most; as the model's files say if absent.
    pub max_tokens: Option<usize>,
    /// How the weights of its layers are kept.
    pub weights: WeightType,
    /// Where it computes.
    pub device: Device,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        Self {
            max_tokens: None,
            weights: WeightType::F32,
            device: Device::Cpu,
        }
    }
}

/// A BERT, RoBERTa or XLM-RoBERTa encoder. Clones share its weights.
#[derive(Debug, Clone)]
pub struct Encoder(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    tokenize: Tokenize,
    bert: Bert,
    head: Head,
    pooling: Pooling,
    normalise: bool,
    width: usize,
    base: Base,
}

impl Encoder {
    /// Loads `config.json`, `tokenizer.json`, `model.safetensors` and what sentence-transformers
    /// keeps beside them.
    ///
    /// # Errors
    /// What is missing, damaged or not supported.
    pub fn load(folder: &Path, options: &EncoderOptions) -> std::result::Result<Self, LoadError> {
        let config = Config::load(folder)?;
        let family = Family::of(&config, folder)?;
        let (pooling, normalise) = config::pooling(folder)?;
        let tokenize = tokenize(folder, &config, family, options)?;
        let weights = Weights::map(&folder.join("model.safetensors"))?;
        let loader = Loader {
            weights: &weights,
            prefix: family.prefix(&weights),
            device: &options.device,
            kind: options.weights,
        };
        let mut base = Base {
            prefixes: family.prefixes().to_vec(),
            linears: Bert::linears(&config),
            device: options.device.clone(),
            ..Base::default()
        };
        Head::adaptable(&config, family, &mut base);
        Ok(Self(Arc::new(Loaded {
            tokenize,
            bert: Bert::load(&config, family.first_position(&config), loader)?,
            head: Head::load(&config, family, loader)?,
            pooling,
            normalise,
            width: config.hidden_size,
            base,
        })))
    }

    /// Its tokenizer.
    pub fn tokenize(&self) -> &Tokenize {
        &self.0.tokenize
    }

    /// The size of its vectors.
    pub fn dimensions(&self) -> usize {
        self.0.width
    }

    /// What adapters may change in it.
    pub fn base(&self) -> &Base {
        &self.0.base
    }

    /// Why it cannot score texts with this adapter, or without one; `None` if it can.
    pub fn scoring_problem(&self, adapter: Option<&Adapter>) -> Option<String> {
        self.0.head.problem(adapter)
    }

    /// The vector of each text.
    ///
    /// # Errors
    /// The computation fails on its device.
    pub fn embed(&self, texts: &[Sequence]) -> Result<Vec<Arc<[f32]>>> {
        let model = &*self.0;
        let wanted = match model.pooling {
            Pooling::First => Wanted::First,
            _ => Wanted::All,
        };
        in_chunks(texts, &model.base.device, |batch, _| {
            let rows = model
                .bert
                .forward(batch, wanted)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            let vector = |text: usize| {
                let rows = match wanted {
                    Wanted::First => &rows[text * model.width..][..model.width],
                    Wanted::All => {
                        &rows[batch.offsets[text] * model.width
                            ..batch.offsets[text + 1] * model.width]
                    }
                };
                let mut vector = vec![0.0; model.width];
                model.pooling.pool(rows, &mut vector);
                if model.normalise {
                    normalise(&mut vector);
                }
                vector.into()
            };
            Ok((0..batch.texts.len()).map(vector).collect())
        })
    }

    /// The score of each text or pair, as the classifier gives it.
    ///
    /// # Errors
    /// The computation fails on its device, or there is a [`Encoder::scoring_problem`].
    pub fn score(&self, texts: &[Sequence]) -> Result<Vec<f32>> {
        let model = &*self.0;
        in_chunks(texts, &model.base.device, |batch, adapters| {
            let rows = model.bert.forward(batch, Wanted::First)?;
            let mut scores = Vec::with_capacity(adapters.len());
            for same in adapters.chunk_by(|a, b| pointer(*a) == pointer(*b)) {
                let rows: Tensor = rows.narrow(0, scores.len(), same.len())?;
                scores.extend(model.head.forward(&rows, same[0])?);
            }
            Ok(scores)
        })
    }
}

fn tokenize(
    folder: &Path,
    config: &Config,
    family: Family,
    options: &EncoderOptions,
) -> std::result::Result<Tokenize, LoadError> {
    let positions = config.max_position_embeddings;
    let positions = positions.saturating_sub(family.first_position(config));
    let written = match options.max_tokens {
        Some(max) => Some(max),
        None => config::max_tokens(folder)?,
    };
    let tokenize = Tokenize::load(folder, written.map_or(positions, |max| max.min(positions)))?;
    match tokenize.max_id() {
        Some(id) if (id as usize) < config.vocab_size => Ok(tokenize),
        id => Err(LoadError::Tokenizer {
            path: folder.join("tokenizer.json"),
            reason: match id {
                Some(id) => format!(
                    "its id {id} lies beyond the model's {} tokens",
                    config.vocab_size
                ),
                None => "it has no tokens".to_owned(),
            },
        }),
    }
}
