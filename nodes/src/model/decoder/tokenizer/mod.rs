//! The tokenizer that a GGUF file carries: text to token ids and back to bytes.
//!
//! Two kinds are in use: SentencePiece's byte pair encoding over characters (Gemma, Llama 2) and
//! byte-level BPE (Qwen, Llama 3). Both first cut out the tokens that are matched as a whole, such as
//! `<end_of_turn>`. The ids are those that `transformers` gives for the same file.
//!
//! What is not here: the other direction over whole texts. Tokens become bytes one by one, and
//! [`crate::generate`] puts them together to text.

mod byte_level;
mod sentencepiece;
mod special;
mod vocabulary;

use super::gguf::{Gguf, GgufError};
use byte_level::ByteLevel;
use sentencepiece::SentencePiece;
use special::SpecialTokens;
use vocabulary::Vocabulary;

/// A tokenizer, with what it needs to know about its model's special tokens.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    special: SpecialTokens,
    method: Method,
    begin: Option<u32>,
    add_begin: bool,
    end: Option<u32>,
    add_end: bool,
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Method {
    SentencePiece(SentencePiece),
    ByteLevel(Box<ByteLevel>),
}

/// A text that cannot be put into tokens.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer failed")]
pub struct EncodeError(#[source] tokenizers::Error);

/// Tokens that end a turn of a chat or a text, in the models that we know. Files name one or two of
/// them as such, and chat models use others besides.
const ENDS: [&str; 7] = [
    "<end_of_turn>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
];

impl Tokenizer {
    /// Builds the tokenizer of a file.
    ///
    /// # Errors
    /// The file has none, or one of a kind that is not known.
    pub fn from_gguf(file: &Gguf) -> Result<Self, GgufError> {
        let model = file.text("tokenizer.ggml.model")?;
        let model = model.ok_or_else(|| GgufError::Missing {
            what: "metadata entry",
            name: "tokenizer.ggml.model".to_owned(),
        })?;
        let gemma = file
            .text("general.architecture")?
            .is_some_and(|name| name.starts_with("gemma"));
        let vocabulary = Vocabulary::from_gguf(file, gemma)?;
        let (method, add_begin) = match model {
            "llama" => {
                let method = SentencePiece::from_gguf(file, &vocabulary, gemma)?;
                (Method::SentencePiece(method), true)
            }
            "gpt2" => {
                let method = ByteLevel::from_gguf(file, &vocabulary)?;
                let add_begin = method.usually_begins();
                (Method::ByteLevel(Box::new(method)), add_begin)
            }
            other => {
                return Err(GgufError::Unsupported {
                    what: "tokenizer",
                    name: other.to_owned(),
                    known: "llama (SentencePiece BPE) and gpt2 (byte-level BPE)",
                });
            }
        };
        let id = |name: &str| vocabulary.special_id(file, name);
        let (begin, end) = (id("bos_token_id")?, id("eos_token_id")?);
        let mut ends: Vec<u32> = [end, id("eot_token_id")?, id("eom_token_id")?]
            .into_iter()
            .flatten()
            .collect();
        ends.extend(ENDS.iter().filter_map(|text| vocabulary.control(text)));
        ends.sort_unstable();
        ends.dedup();
        let flag = |key: &str| file.boolean(&format!("tokenizer.ggml.{key}"));
        Ok(Self {
            special: SpecialTokens::new(vocabulary.matched_whole()),
            method,
            begin,
            add_begin: flag("add_bos_token")?.unwrap_or(add_begin),
            end,
            add_end: flag("add_eos_token")?.unwrap_or(false),
            ends,
            vocabulary,
        })
    }

    /// The tokens of a prompt, with the ones that the model wants at the beginning or end of a text.
    ///
    /// Special tokens written out in the text are recognised, as `transformers` does.
    ///
    /// # Errors
    /// The tokenizer's pattern gives up on the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut tokens: Vec<u32> = self.begin.filter(|_| self.add_begin).into_iter().collect();
        self.encode_into(text, &mut tokens)?;
        tokens.extend(self.end.filter(|_| self.add_end));
        Ok(tokens)
    }

    /// The tokens of a text that contains its special tokens already: a rendered chat template.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut tokens = Vec::new();
        self.encode_into(text, &mut tokens)?;
        Ok(tokens)
    }

    fn encode_into(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), EncodeError> {
        let mut start = 0;
        for (place, token) in self.special.find(text) {
            self.encode_plain(text, start..place.start, tokens)?;
            tokens.push(token);
            start = place.end;
        }
        self.encode_plain(text, start..text.len(), tokens)
    }

    fn encode_plain(
        &self,
        text: &str,
        place: std::ops::Range<usize>,
        tokens: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        if place.is_empty() {
            return Ok(());
        }
        let first = place.start == 0;
        match &self.method {
            Method::SentencePiece(method) => {
                method.encode(&text[place], first, &self.vocabulary, tokens);
                Ok(())
            }
            Method::ByteLevel(method) => method.encode(&text[place], tokens),
        }
    }

    /// Appends the bytes that a token stands for; none for a control token. A character may be spread
    /// over several tokens.
    pub fn bytes(&self, token: u32, bytes: &mut Vec<u8>) {
        if self.vocabulary.is_control(token) {
            return;
        }
        let text = self.vocabulary.text(token);
        match &self.method {
            Method::SentencePiece(_) => {
                sentencepiece::decode(text, self.vocabulary.is_byte(token), bytes)
            }
            Method::ByteLevel(_) => byte_level::decode(text, bytes),
        }
    }

    /// Whether the model ends its text, or its turn of a chat, with this token.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.binary_search(&token).is_ok()
    }

    /// How many tokens there are.
    pub fn size(&self) -> usize {
        self.vocabulary.len()
    }

    /// How the token at the beginning of a text is written; empty if there is none.
    pub fn begin_text(&self) -> &str {
        self.begin.map_or("", |token| self.vocabulary.text(token))
    }

    /// How the token at the end of a text is written; empty if there is none.
    pub fn end_text(&self) -> &str {
        self.end.map_or("", |token| self.vocabulary.text(token))
    }
}
