//! The tokens of a vocabulary, by id and by text.

use crate::model::decoder::gguf::{Gguf, GgufError};
use candle_core::quantized::gguf_file::Value;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Kinds of token as GGUF counts them (`llama_token_type` of llama.cpp).
const CONTROL: u8 = 3;
const USER_DEFINED: u8 = 4;
const BYTE: u8 = 6;

/// SentencePiece's sign for a space.
pub(super) const SPACE: char = '\u{2581}';

#[derive(Debug)]
pub(super) struct Vocabulary {
    texts: Texts,
    kinds: Vec<u8>,
}

/// Texts by number and numbers by text. There may be a quarter of a million of a few bytes each, so that
/// none has memory of its own.
#[derive(Debug, Default)]
struct Texts {
    /// All of them, one after the other.
    together: String,
    /// Where each ends.
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    hasher: RandomState,
}

impl Texts {
    /// None, with room for so many.
    fn for_about(count: usize) -> Self {
        Self {
            ends: Vec::with_capacity(count),
            numbers: HashTable::with_capacity(count),
            ..Self::default()
        }
    }

    /// Adds a text; says whether it is new. One that is there already is not added.
    fn insert(&mut self, text: &str) -> bool {
        if self.number(text).is_some() {
            return false;
        }
        let number = self.ends.len() as u32;
        self.together.push_str(text);
        self.ends.push(self.together.len());
        let (together, ends, hasher) = (&self.together, &self.ends, &self.hasher);
        let hash = |number: &u32| hasher.hash_one(text_of(together, ends, *number));
        self.numbers.insert_unique(hash(&number), number, hash);
        true
    }

    fn number(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        let found = self.numbers.find(hash, |&number| self.get(number) == text);
        found.copied()
    }

    /// Empty for a number that nothing has.
    fn get(&self, number: u32) -> &str {
        text_of(&self.together, &self.ends, number)
    }
}

fn text_of<'a>(together: &'a str, ends: &[usize], number: u32) -> &'a str {
    let number = number as usize;
    let start = number.checked_sub(1).and_then(|before| ends.get(before));
    match ends.get(number) {
        Some(&end) => &together[start.copied().unwrap_or(0)..end],
        None => "",
    }
}

impl Vocabulary {
    /// Reads the vocabulary. Gemma's files write tokens of several spaces with plain spaces, where
    /// its tokenizer looks for [`SPACE`].
    pub(super) fn from_gguf(file: &Gguf, gemma: bool) -> Result<Self, GgufError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = file.list(key, "a list of texts", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })?;
        let tokens = tokens.ok_or_else(|| GgufError::Missing {
            what: "metadata entry",
            name: key.to_owned(),
        })?;
        let key = "tokenizer.ggml.token_type";
        let kinds = file.list(key, "a list of token types", |value| match value {
            Value::I32(kind) => u8::try_from(*kind).ok(),
            Value::U32(kind) => u8::try_from(*kind).ok(),
            _ => None,
        })?;
        let mut kinds = kinds.unwrap_or_default();
        kinds.resize(tokens.len(), 1);
        let mut texts = Texts::for_about(tokens.len());
        for (id, text) in tokens.iter().enumerate() {
            let spaces = gemma && !text.is_empty() && text.bytes().all(|byte| byte == b' ');
            let is_new = match spaces {
                true => {
                    kinds[id] = 1;
                    texts.insert(&SPACE.to_string().repeat(text.len()))
                }
                false => texts.insert(text),
            };
            if !is_new {
                // Only the first of two equal tokens can be the result of encoding; the other keeps
                // its id. No text holds this one.
                texts.insert(&format!("\0{id}"));
            }
        }
        texts.together.shrink_to_fit();
        Ok(Self { texts, kinds })
    }

    pub(super) fn len(&self) -> usize {
        self.texts.ends.len()
    }

    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.texts.number(text)
    }

    /// The token's text; empty for an id that does not exist.
    pub(super) fn text(&self, id: u32) -> &str {
        self.texts.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        (0..self.len() as u32).map(|id| (self.text(id), id))
    }

    fn kind(&self, id: u32) -> u8 {
        self.kinds.get(id as usize).copied().unwrap_or(CONTROL)
    }

    pub(super) fn is_control(&self, id: u32) -> bool {
        self.kind(id) == CONTROL
    }

    pub(super) fn is_byte(&self, id: u32) -> bool {
        self.kind(id) == BYTE
    }

    /// The id of a control token.
    pub(super) fn control(&self, text: &str) -> Option<u32> {
        self.id(text).filter(|&id| self.is_control(id))
    }

    /// The tokens that are found in a text before anything else.
    pub(super) fn matched_whole(&self) -> impl Iterator<Item = (&str, u32)> {
        let whole = |id| matches!(self.kind(id), CONTROL | USER_DEFINED);
        self.iter().filter(move |(_, id)| whole(*id))
    }

    /// The id under `tokenizer.ggml.NAME`, if it is given.
    pub(super) fn special_id(&self, file: &Gguf, name: &str) -> Result<Option<u32>, GgufError> {
        let key = format!("tokenizer.ggml.{name}");
        let id = file.integer(&key)?;
        if id.is_some_and(|id| id as usize >= self.len()) {
            let expected = "a token of the vocabulary";
            return Err(GgufError::Metadata { key, expected });
        }
        Ok(id)
    }
}
