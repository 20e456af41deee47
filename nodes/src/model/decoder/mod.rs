//! Decoders: language models from GGUF files.
//!
//! A file for each family, what families share in `block`, and around them the tokenizer, the chat
//! template and the cache. A step takes rows of any mix of sequences, packed without padding: single
//! tokens of some, parts of the prompts of others, each with its own position and adapter.
//!
//! What is not here: which rows are computed when, and what becomes of the logits. That is
//! [`crate::generate`]'s affair.

mod batch;
mod block;
mod chat;
mod config;
mod gemma3;
mod gguf;
mod kv_cache;
mod kv_device;
mod llama;
mod logits;
mod qwen;
mod tokenizer;

pub use batch::SequenceRows;
pub use chat::{ChatError, ChatTemplate, Message};
pub use config::Config;
pub use gguf::{Gguf, GgufError};
pub use kv_cache::{BLOCK, KvPool, KvShape, Sequence};
pub use logits::{Logits, Scores, Wanted};
pub use tokenizer::{EncodeError, Tokenizer};

use crate::adapter::Base;
use batch::Batch;
use candle_core::{Device, Result};
use gemma3::Gemma3;
use llama::Llama;
use std::{path::Path, time::Duration};

/// A language model: its network, tokenizer and chat template. Replicas share one.
#[derive(Debug)]
pub struct LanguageModel {
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// How a chat is written, if the model was made for chats.
    pub chat: Option<ChatTemplate>,
    /// Tokens to logits.
    pub decoder: Decoder,
}

impl LanguageModel {
    /// Loads a GGUF file.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or holds a model of a family that is not known.
    pub fn load(path: &Path, device: &Device) -> std::result::Result<Self, GgufError> {
        let mut file = Gguf::open(path)?;
        let config = Config::from_gguf(&file)?;
        let family = Family::of(&config)?;
        let tokenizer = Tokenizer::from_gguf(&file)?;
        let chat = ChatTemplate::from_gguf(&file)?;
        file.drop_vocabulary();
        let decoder = Decoder::load(&file, family, config, device)?;
        if tokenizer.size() > decoder.config.vocabulary {
            return Err(GgufError::Metadata {
                key: "tokenizer.ggml.tokens".to_owned(),
                expected: "a list of at most as many tokens as the embedding has rows",
            });
        }
        Ok(Self {
            tokenizer,
            chat,
            decoder,
        })
    }

    /// The text that the model continues with its answer to a chat; `now` is the time since 1970.
    ///
    /// # Errors
    /// The model has no chat template, or the template refuses the messages or fails.
    pub fn render_chat(
        &self,
        messages: &[Message],
        now: Duration,
    ) -> std::result::Result<String, ChatError> {
        let template = self.chat.as_ref().ok_or(ChatError::NoTemplate)?;
        let (begin, end) = (self.tokenizer.begin_text(), self.tokenizer.end_text());
        template.render(messages, begin, end, now)
    }
}

/// What differs from family to family.
trait Network: std::fmt::Debug + Send + Sync {
    /// The logits of the rows that want them.
    fn forward(&self, batch: &mut Batch<'_>) -> Result<Logits>;

    /// The linear layers that adapters can change.
    fn describe(&self, base: &mut Base);
}

/// The network of a language model. Its weights do not change; what sequences have read is kept
/// outside, in a [`KvPool`].
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    kv: KvShape,
    device: Device,
    network: Box<dyn Network>,
}

/// Networks that are known.
enum Family {
    Gemma3,
    Llama,
    Qwen2,
    Qwen3,
}

impl Family {
    fn of(config: &Config) -> std::result::Result<Self, GgufError> {
        match config.architecture.as_str() {
            "gemma3" => Ok(Self::Gemma3),
            "llama" => Ok(Self::Llama),
            "qwen2" => Ok(Self::Qwen2),
            "qwen3" => Ok(Self::Qwen3),
            other => Err(GgufError::Unsupported {
                what: "model family",
                name: other.to_owned(),
                known: "gemma3, llama, qwen2 and qwen3",
            }),
        }
    }
}

impl Decoder {
    fn load(
        file: &Gguf,
        family: Family,
        config: Config,
        device: &Device,
    ) -> std::result::Result<Self, GgufError> {
        let mut windows = vec![config.window; config.layers];
        let network: Box<dyn Network> = match family {
            Family::Gemma3 => {
                windows = Gemma3::windows(&config);
                Box::new(Gemma3::load(file, &config, device)?)
            }
            Family::Llama => Box::new(Llama::load(file, &config, device)?),
            Family::Qwen2 => Box::new(qwen::load_qwen2(file, &config, device)?),
            Family::Qwen3 => Box::new(qwen::load_qwen3(file, &config, device)?),
        };
        let kv = KvShape {
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            windows,
        };
        Ok(Self {
            config,
            kv,
            device: device.clone(),
            network,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What adapters can change, by the paths of `transformers`.
    pub fn adapter_base(&self) -> Base {
        let mut base = Base {
            prefixes: vec!["model.", "model.language_model.", "language_model.model."],
            device: self.device.clone(),
            ..Base::default()
        };
        self.network.describe(&mut base);
        base
    }

    /// An empty cache of at most `max_bytes`, for steps of at most `max_rows` rows a sequence.
    pub fn cache(&self, max_bytes: usize, max_rows: usize) -> KvPool {
        KvPool::new(self.kv.clone(), &self.device, max_bytes, max_rows)
    }

    /// Reads rows of several sequences and gives the logits that are wanted, in the order of the
    /// sequences that want them. After an error the sequences are as before.
    ///
    /// # Errors
    /// There are no rows, a token does not exist, a sequence has more tokens than it was admitted with, or the
    /// computation fails.
    pub fn step(&self, cache: &mut KvPool, rows: &mut [SequenceRows<'_>]) -> Result<Logits> {
        if rows.iter().all(|rows| rows.tokens.is_empty()) {
            candle_core::bail!("a step without rows");
        }
        let known = |token: &u32| (*token as usize) < self.config.vocabulary;
        if let Some(token) = rows
            .iter()
            .flat_map(|rows| rows.tokens)
            .find(|token| !known(token))
        {
            candle_core::bail!(
                "token {token} is not in a vocabulary of {}",
                self.config.vocabulary
            );
        }
        for rows in rows.iter_mut() {
            cache.extend(rows.sequence, rows.tokens.len())?;
        }
        let logits = self.network.forward(&mut Batch::new(cache, rows))?;
        for rows in rows.iter_mut() {
            cache.advance(
                rows.sequence,
                rows.tokens.len().saturating_sub(rows.guessed),
            );
        }
        Ok(logits)
    }
}
