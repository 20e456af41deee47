//! An encoder as nodes use it: from a folder to vectors and scores.

use super::{
    LoadError, Pooling, Tokenize, Tokens, Weights,
    bert::{Bert, Packed, Wanted},
    config::{self, Config},
    dense::Loader,
    family::Family,
    head::Head,
    pooling::normalise,
};
use crate::{
    adapter::{Adapter, AdapterRows, Base},
    compute,
    ops::WeightType,
};
use candle_core::{Device, Result, Tensor};
use std::{
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

/// Texts are read together up to about this many tokens: enough rows for the products to be worth
/// it, and few enough for what lies between two layers to stay in the caches.
const CHUNK_TOKENS: usize = 1024;

/// Fewer tokens than these are not worth a thread of their own.
const MIN_CHUNK_TOKENS: usize = 64;

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

/// A text to be read, with the adapter that is to be used.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// What is read.
    pub tokens: Tokens,
    /// The bare model if absent.
    pub adapter: Option<Arc<Adapter>>,
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
        in_chunks(texts, |batch, _| {
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
        in_chunks(texts, |batch, adapters| {
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

/// Gives texts to `read` in chunks, those with the same adapter beside each other, and puts what it
/// gives back into the order of the texts.
fn in_chunks<T: Send + Sync>(
    texts: &[Sequence],
    read: impl Fn(&Packed<'_>, &[Option<&Arc<Adapter>>]) -> Result<Vec<T>> + Sync,
) -> Result<Vec<T>> {
    let adapter = |index: usize| texts[index].adapter.as_ref();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|index| pointer(adapter(*index)));
    let lengths = order.iter().map(|index| texts[*index].tokens.ids.len());
    let chunks = chunks(lengths, compute::current_threads());
    let results: Vec<OnceLock<Result<Vec<T>>>> = chunks.iter().map(|_| OnceLock::new()).collect();
    compute::parallel(chunks.len(), |range| {
        for (chunk, result) in chunks[range.clone()].iter().zip(&results[range]) {
            let chunk = &order[chunk.clone()];
            let adapters: Vec<_> = chunk.iter().map(|index| adapter(*index)).collect();
            let packed = pack(chunk.iter().map(|index| &texts[*index]));
            result.get_or_init(|| read(&packed, &adapters));
        }
    });
    let mut read: Vec<(usize, T)> = Vec::with_capacity(texts.len());
    for (chunk, result) in chunks.into_iter().zip(results) {
        let Some(result) = result.into_inner() else {
            candle_core::bail!("a part of the batch was not read");
        };
        read.extend(order[chunk].iter().copied().zip(result?));
    }
    read.sort_by_key(|(index, _)| *index);
    Ok(read.into_iter().map(|(_, result)| result).collect())
}

/// Divides texts of these lengths into chunks of about equal size, which are as large as is good
/// for the caches. Each is read by one thread, without waiting for the others between the layers; a
/// batch that is too small for that stays whole, and its products are divided instead.
fn chunks(lengths: impl Iterator<Item = usize> + Clone, threads: usize) -> Vec<Range<usize>> {
    let total: usize = lengths.clone().sum();
    let rounds = total.div_ceil(CHUNK_TOKENS * threads);
    let count = if total < MIN_CHUNK_TOKENS * threads {
        1
    } else {
        rounds * threads
    };
    let mut chunks: Vec<Range<usize>> = Vec::with_capacity(count);
    let (mut start, mut last) = (0, None);
    for (index, length) in lengths.enumerate() {
        // A text belongs where its middle lies.
        let part = (2 * start + length) * count / (2 * total).max(1);
        match chunks.last_mut() {
            Some(chunk) if last == Some(part) => chunk.end = index + 1,
            _ => chunks.push(index..index + 1),
        }
        last = Some(part);
        start += length;
    }
    chunks
}

fn pack<'a>(sequences: impl Iterator<Item = &'a Sequence>) -> Packed<'a> {
    let mut packed = Packed {
        texts: Vec::new(),
        offsets: vec![0],
        adapters: AdapterRows::default(),
        text_adapters: AdapterRows::default(),
    };
    let mut start = 0;
    for sequence in sequences {
        let (text, end) = (packed.texts.len(), start + sequence.tokens.ids.len());
        packed.texts.push(&sequence.tokens);
        packed.offsets.push(end);
        if let Some(adapter) = &sequence.adapter {
            packed.adapters.push(start..end, adapter);
            packed.text_adapters.push(text..text + 1, adapter);
        }
        start = end;
    }
    packed
}

fn pointer(adapter: Option<&Arc<Adapter>>) -> *const Adapter {
    adapter.map_or(std::ptr::null(), Arc::as_ptr)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_batches_stay_whole_and_large_ones_are_divided() {
        let of = |lengths: &[usize], threads| chunks(lengths.iter().copied(), threads);
        assert!(of(&[], 2).is_empty());
        assert_eq!(of(&[0], 2), [0..1]);
        assert_eq!(of(&[12, 20], 2), [0..2]);
        assert_eq!(of(&[100, 50, 90, 60], 2), [0..2, 2..4]);
        assert_eq!(of(&[5000], 1), [0..1]);
        assert_eq!(of(&[512; 6], 1), [0..2, 2..4, 4..6]);
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_chunk_and_chunks_are_bounded(
            lengths in prop::collection::vec(0usize..600, 0..80),
            threads in 1usize..9,
        ) {
            let chunks = chunks(lengths.iter().copied(), threads);
            let covered: Vec<usize> = chunks.iter().cloned().flatten().collect();
            prop_assert_eq!(covered, (0..lengths.len()).collect::<Vec<_>>());
            let longest = lengths.iter().copied().max().unwrap_or(0);
            for chunk in chunks {
                let tokens: usize = lengths[chunk].iter().sum();
                prop_assert!(tokens <= CHUNK_TOKENS + longest);
            }
        }
    }
}
