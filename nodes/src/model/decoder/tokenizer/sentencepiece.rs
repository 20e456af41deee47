//! SentencePiece's byte pair encoding (Kudo and Richardson 2018), as Gemma and Llama 2 use it.
//!
//! A text begins as its characters; the best pair of neighbours that together are a token is joined
//! until there is none. Which pair is best follows from the vocabulary: files list no merges. A
//! character that is no token becomes its bytes.

use super::vocabulary::{SPACE, Vocabulary};
use crate::model::decoder::gguf::{Gguf, GgufError};
use candle_core::quantized::gguf_file::Value;
use std::{cmp::Reverse, collections::BinaryHeap};

#[derive(Debug)]
pub(super) struct SentencePiece {
    /// By token: the lower, the earlier it is made. Without ranks, the id is the rank.
    ranks: Option<Vec<u32>>,
    bytes: Option<Box<[u32; 256]>>,
    unknown: Option<u32>,
    /// Whether a text that does not begin with a space is given one.
    add_space: bool,
}

impl SentencePiece {
    /// Gemma's scores do not follow the order in which its merges were learned, the order of its
    /// vocabulary does; Llama's scores do.
    pub(super) fn from_gguf(
        file: &Gguf,
        vocabulary: &Vocabulary,
        gemma: bool,
    ) -> Result<Self, GgufError> {
        let ranks = match gemma {
            true => None,
            false => Some(ranks_by_score(file, vocabulary.len())?),
        };
        let bytes: Option<Vec<u32>> = (0..=255u8)
            .map(|byte| vocabulary.id(&format!("<0x{byte:02X}>")))
            .collect();
        let add_space = file.boolean("tokenizer.ggml.add_space_prefix")?;
        Ok(Self {
            ranks,
            bytes: bytes.and_then(|ids| ids.try_into().ok()),
            unknown: vocabulary.special_id(file, "unknown_token_id")?,
            add_space: add_space.unwrap_or(!gemma),
        })
    }

    /// Appends the tokens of a text without special tokens; `first` says that nothing comes before.
    pub(super) fn encode(
        &self,
        text: &str,
        first: bool,
        vocabulary: &Vocabulary,
        tokens: &mut Vec<u32>,
    ) {
        let space = self.add_space && first && !text.starts_with([' ', SPACE]);
        let mut written = String::with_capacity(text.len() + text.len() / 2);
        written.extend(space.then_some(SPACE));
        written.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        let mut word = Word::new(&written, vocabulary, self);
        word.join_all();
        word.finish(tokens);
    }

    fn rank(&self, token: u32) -> u32 {
        match &self.ranks {
            Some(ranks) => ranks[token as usize],
            None => token,
        }
    }
}

/// Equal scores have equal ranks.
fn ranks_by_score(file: &Gguf, tokens: usize) -> Result<Vec<u32>, GgufError> {
    let key = "tokenizer.ggml.scores";
    let scores = file.list(key, "a list of numbers", |value| match value {
        Value::F32(score) => Some(*score),
        _ => None,
    })?;
    let scores = scores.filter(|scores| scores.len() == tokens);
    let scores = scores.ok_or_else(|| GgufError::Metadata {
        key: key.to_owned(),
        expected: "a list of a score for each token",
    })?;
    let mut order: Vec<usize> = (0..tokens).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut ranks = vec![0; tokens];
    for pair in order.windows(2) {
        let worse = scores[pair[1]] < scores[pair[0]];
        ranks[pair[1]] = ranks[pair[0]] + u32::from(worse);
    }
    Ok(ranks)
}

/// A text that is being joined: a doubly linked list of symbols in a vector.
struct Word<'a> {
    text: &'a str,
    vocabulary: &'a Vocabulary,
    rules: &'a SentencePiece,
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Reverse<Pair>>,
}

#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// As `start` once it was joined to the symbol before it.
    end: usize,
    before: Option<usize>,
    after: Option<usize>,
    /// `None`: not in the vocabulary, and so never part of a pair.
    token: Option<u32>,
}

/// A pair that could be joined; the least is joined first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    rank: u32,
    left_length: Reverse<usize>,
    right_length: Reverse<usize>,
    token: u32,
    left: usize,
    right: usize,
    end: usize,
}

impl<'a> Word<'a> {
    fn new(text: &'a str, vocabulary: &'a Vocabulary, rules: &'a SentencePiece) -> Self {
        let count = text.chars().count();
        let symbols = text.char_indices().enumerate().map(|(index, (start, c))| {
            let end = start + c.len_utf8();
            Symbol {
                start,
                end,
                before: index.checked_sub(1),
                after: Some(index + 1).filter(|&next| next < count),
                token: vocabulary.id(&text[start..end]),
            }
        });
        Self {
            text,
            vocabulary,
            rules,
            symbols: symbols.collect(),
            pairs: BinaryHeap::new(),
        }
    }

    fn join_all(&mut self) {
        for left in 0..self.symbols.len() {
            self.consider(left);
        }
        while let Some(Reverse(pair)) = self.pairs.pop() {
            let (left, right) = (self.symbols[pair.left], self.symbols[pair.right]);
            // Either may have been joined to another since.
            let still = left.after == Some(pair.right) && left.start < left.end;
            if still && right.end == pair.end {
                self.join(&pair);
            }
        }
    }

    fn join(&mut self, pair: &Pair) {
        let after = self.symbols[pair.right].after;
        let right = &mut self.symbols[pair.right];
        right.end = right.start;
        let left = &mut self.symbols[pair.left];
        left.end = pair.end;
        left.after = after;
        left.token = Some(pair.token);
        let before = left.before;
        if let Some(after) = after {
            self.symbols[after].before = Some(pair.left);
        }
        before.into_iter().for_each(|before| self.consider(before));
        self.consider(pair.left);
    }

    /// Notes the pair of a symbol and the one after it, if they can be joined.
    fn consider(&mut self, left: usize) {
        let Some(right) = self.symbols[left].after else {
            return;
        };
        let (a, b) = (self.symbols[left], self.symbols[right]);
        if a.token.is_none() || b.token.is_none() {
            return;
        }
        let Some(token) = self.vocabulary.id(&self.text[a.start..b.end]) else {
            return;
        };
        let length = |symbol: Symbol| self.text[symbol.start..symbol.end].chars().count();
        self.pairs.push(Reverse(Pair {
            rank: self.rules.rank(token),
            left_length: Reverse(length(a)),
            right_length: Reverse(length(b)),
            token,
            left,
            right,
            end: b.end,
        }));
    }

    fn finish(self, tokens: &mut Vec<u32>) {
        let mut next = self.symbols.first().map(|_| 0);
        let mut after_unknown = false;
        while let Some(index) = next {
            let symbol = self.symbols[index];
            next = symbol.after;
            let unknown = match (symbol.token, &self.rules.bytes) {
                (Some(token), _) => {
                    tokens.push(token);
                    false
                }
                (None, Some(ids)) => {
                    let bytes = self.text[symbol.start..symbol.end].bytes();
                    tokens.extend(bytes.map(|byte| ids[usize::from(byte)]));
                    false
                }
                (None, None) => true,
            };
            if unknown && !after_unknown {
                tokens.extend(self.rules.unknown);
            }
            after_unknown = unknown;
        }
    }
}

/// Appends the bytes that a token stands for.
pub(super) fn decode(text: &str, is_byte: bool, bytes: &mut Vec<u8>) {
    let hex = text
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    let byte = hex
        .filter(|_| is_byte)
        .and_then(|hex| u8::from_str_radix(hex, 16).ok());
    match byte {
        Some(byte) => bytes.push(byte),
        None => bytes.extend(text.replace(SPACE, " ").as_bytes()),
    }
}
