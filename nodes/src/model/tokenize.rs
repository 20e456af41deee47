//! From texts to what an encoder reads: token ids, cut to what the model can take, without padding.

use super::LoadError;
use std::path::Path;
use tokenizers::{
    Encoding, PostProcessor, Tokenizer, TruncationParams, TruncationStrategy,
    utils::truncation::truncate_encodings,
};

/// Texts are cut to this many bytes for each token that the model can take before they are split:
/// more than any real text needs, and a bound on the work that a hostile one can cause.
const BYTES_PER_TOKEN: usize = 64;

/// What an encoder reads of one text, or of a pair of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids, with the model's marks at both ends.
    pub ids: Vec<u32>,
    /// Which text of a pair each belongs to.
    pub types: Vec<u32>,
}

/// A text that the tokenizer cannot split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to split the text into tokens: {0}")]
pub struct TokenizeError(String);

/// The first text of pairs, split once for all of them.
#[derive(Debug, Clone)]
pub struct FirstText(Encoding);

/// The tokenizer of an encoder.
#[derive(Debug)]
pub struct Tokenize {
    tokenizer: Tokenizer,
    max_tokens: usize,
}

impl Tokenize {
    /// Reads `tokenizer.json` of a model's folder. Truncation and padding as written there do not
    /// count; texts are cut to `max_tokens`, the model's marks among them.
    pub(super) fn load(folder: &Path, max_tokens: usize) -> Result<Self, LoadError> {
        let path = folder.join("tokenizer.json");
        let failed = |reason: String| LoadError::Tokenizer {
            path: path.clone(),
            reason,
        };
        let mut tokenizer = Tokenizer::from_file(&path).map_err(|e| failed(e.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| failed(e.to_string()))?;
        let tokenize = Self {
            tokenizer,
            max_tokens,
        };
        if tokenize.room(true) == 0 {
            return Err(failed(format!(
                "a limit of {max_tokens} tokens leaves no room for text"
            )));
        }
        Ok(tokenize)
    }

    /// The most tokens of a text or pair.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The largest id that it gives.
    pub(super) fn max_id(&self) -> Option<u32> {
        self.tokenizer.get_vocab(true).into_values().max()
    }

    /// About how many tokens a text of so many bytes has, for the bounds of a batch: an exact count
    /// would split every text twice.
    pub fn estimate(&self, bytes: usize) -> u64 {
        (2 + bytes / 4).min(self.max_tokens) as u64
    }

    /// Splits one text; what is beyond the model's limit is left out.
    ///
    /// # Errors
    /// The tokenizer cannot split it.
    pub fn text(&self, text: &str) -> Result<Tokens, TokenizeError> {
        let text = self.split(text)?;
        self.finish(text, None, TruncationStrategy::LongestFirst)
    }

    /// Splits the text that comes first in pairs.
    ///
    /// # Errors
    /// The tokenizer cannot split it.
    pub fn first(&self, text: &str) -> Result<FirstText, TokenizeError> {
        self.split(text).map(FirstText)
    }

    /// Splits the second text of a pair. Where the pair is too long the second is cut; where the
    /// first alone leaves it no room, both are, the longer one first.
    ///
    /// # Errors
    /// The tokenizer cannot split it.
    pub fn pair(&self, first: &FirstText, second: &str) -> Result<Tokens, TokenizeError> {
        let second = self.split(second)?;
        let strategy = if first.0.len() < self.room(true) {
            TruncationStrategy::OnlySecond
        } else {
            TruncationStrategy::LongestFirst
        };
        self.finish(first.0.clone(), Some(second), strategy)
    }

    /// How many tokens of text fit beside the model's marks.
    fn room(&self, pair: bool) -> usize {
        let post_processor = self.tokenizer.get_post_processor();
        let marks = post_processor.map_or(0, |processor| processor.added_tokens(pair));
        self.max_tokens.saturating_sub(marks)
    }

    fn split(&self, text: &str) -> Result<Encoding, TokenizeError> {
        let most = self.max_tokens.saturating_mul(BYTES_PER_TOKEN);
        let text = &text[..text.floor_char_boundary(most)];
        let encoding = self.tokenizer.encode_fast(text, false);
        encoding.map_err(|error| TokenizeError(error.to_string()))
    }

    fn finish(
        &self,
        first: Encoding,
        second: Option<Encoding>,
        strategy: TruncationStrategy,
    ) -> Result<Tokens, TokenizeError> {
        let truncation = TruncationParams {
            max_length: self.room(second.is_some()),
            strategy,
            ..TruncationParams::default()
        };
        let finished = truncate_encodings(first, second, &truncation)
            .and_then(|(first, second)| self.tokenizer.post_process(first, second, true));
        match finished {
            Ok(encoding) if encoding.is_empty() => Err(TokenizeError("it has none".to_owned())),
            Ok(encoding) => Ok(Tokens {
                ids: encoding.get_ids().to_vec(),
                types: encoding.get_type_ids().to_vec(),
            }),
            Err(error) => Err(TokenizeError(error.to_string())),
        }
    }
}
