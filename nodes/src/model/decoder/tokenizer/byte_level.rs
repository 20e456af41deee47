//! Byte-level byte pair encoding (Radford et al. 2019), as Qwen and Llama 3 use it.
//!
//! A pattern cuts a text into words; a word's bytes, each written as a visible character, are joined
//! by the merges that the file lists. The crate `tokenizers` does the work.

use super::{EncodeError, vocabulary::Vocabulary};
use crate::model::decoder::gguf::{Gguf, GgufError};
use candle_core::quantized::gguf_file::Value;
use std::sync::LazyLock;
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    SplitDelimiterBehavior, TokenizerImpl,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::{
        byte_level::ByteLevel as Bytes,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

type Words = TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

#[derive(Debug)]
pub(super) struct ByteLevel {
    words: Words,
    usually_begins: bool,
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGITS: &str = r"\p{N}";

/// How a text is cut into words, by `tokenizer.ggml.pre`.
struct Rules {
    pattern: Option<&'static str>,
    /// Whether GPT-2's own pattern cuts what is left.
    gpt2: bool,
    /// Whether a word that is a token as a whole is taken as such, whatever the merges say.
    whole_words: bool,
    begins: bool,
}

fn rules(pre: &str) -> Option<Rules> {
    let rules = |pattern| Rules {
        pattern: Some(pattern),
        gpt2: false,
        whole_words: false,
        begins: false,
    };
    Some(match pre {
        "llama3" | "llama-v3" | "llama-bpe" => Rules {
            whole_words: true,
            begins: true,
            ..rules(LLAMA_3)
        },
        "smaug-bpe" | "dbrx" => rules(LLAMA_3),
        "qwen2" | "deepseek-r1-qwen" | "megrez" => rules(QWEN_2),
        "tekken" => Rules {
            whole_words: true,
            begins: true,
            ..rules(TEKKEN)
        },
        "smollm" => Rules {
            gpt2: true,
            ..rules(DIGITS)
        },
        "default" | "gpt-2" => Rules {
            pattern: None,
            gpt2: true,
            whole_words: false,
            begins: false,
        },
        _ => return None,
    })
}

impl ByteLevel {
    pub(super) fn from_gguf(file: &Gguf, vocabulary: &Vocabulary) -> Result<Self, GgufError> {
        let pre = file.text("tokenizer.ggml.pre")?.unwrap_or("default");
        let rules = rules(pre).ok_or_else(|| GgufError::Unsupported {
            what: "pre-tokenizer",
            name: pre.to_owned(),
            known: "llama-bpe, qwen2, tekken, smollm, gpt-2 and their like",
        })?;
        let bpe = BPE::builder()
            .vocab_and_merges(byte_vocabulary(vocabulary), merges(file)?)
            .ignore_merges(rules.whole_words)
            .build()
            .map_err(|_| GgufError::Metadata {
                key: "tokenizer.ggml.merges".to_owned(),
                expected: "a list of pairs of tokens that make a token",
            })?;
        let mut words = Words::new(bpe);
        words.with_pre_tokenizer(Some(cut(&rules)));
        Ok(Self {
            words,
            usually_begins: rules.begins,
        })
    }

    /// Whether models with this tokenizer want a token at the beginning where a file does not say.
    pub(super) fn usually_begins(&self) -> bool {
        self.usually_begins
    }

    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), EncodeError> {
        let encoding = self.words.encode_fast(text, false).map_err(EncodeError)?;
        tokens.extend(encoding.get_ids());
        Ok(())
    }
}

fn cut(rules: &Rules) -> PreTokenizerWrapper {
    let pattern = rules.pattern.map(|pattern| {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        split.expect("the patterns above are valid").into()
    });
    let bytes = Bytes::new(false, true, rules.gpt2).into();
    Sequence::new(pattern.into_iter().chain([bytes]).collect()).into()
}

fn merges(file: &Gguf) -> Result<Vec<(String, String)>, GgufError> {
    let key = "tokenizer.ggml.merges";
    let merges = file.list(key, "a list of pairs of tokens", |value| match value {
        Value::String(pair) => {
            let (left, right) = pair.split_once(' ')?;
            Some((left.to_owned(), right.to_owned()))
        }
        _ => None,
    })?;
    merges.ok_or_else(|| GgufError::Missing {
        what: "metadata entry",
        name: key.to_owned(),
    })
}

/// Tokens with other characters than the byte alphabet's are special ones; they are found before a
/// word gets here.
fn byte_vocabulary(vocabulary: &Vocabulary) -> Vocab {
    vocabulary
        .iter()
        .map(|(text, id)| (text.to_owned(), id))
        .collect()
}

/// The visible character of each byte.
static ALPHABET: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut invisible = 256..;
    std::array::from_fn(|byte| match byte as u8 {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => byte as u8 as char,
        _ => invisible.next().and_then(char::from_u32).unwrap_or('?'),
    })
});

/// Appends the bytes that a token stands for.
pub(super) fn decode(text: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for c in text.chars() {
        let byte = match c {
            '!'..='~' => Some(c as u8),
            _ => ALPHABET
                .iter()
                .position(|&visible| visible == c)
                .map(|byte| byte as u8),
        };
        let Some(byte) = byte else {
            // Not in the alphabet: a user-defined token, which is written as it is.
            bytes.truncate(start);
            bytes.extend(text.as_bytes());
            return;
        };
        bytes.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_and_comes_back() {
        let text: String = ALPHABET.iter().collect();
        let mut bytes = Vec::new();
        decode(&text, &mut bytes);
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        let (space, newline) = (ALPHABET[b' ' as usize], ALPHABET[b'\n' as usize]);
        assert_eq!((space, newline), ('Ġ', 'Ċ'));
    }

    #[test]
    fn a_token_outside_of_the_alphabet_is_written_as_it_is() {
        let mut bytes = vec![b'x'];
        decode("日 本", &mut bytes);
        assert_eq!(bytes, "x日 本".as_bytes());
    }
}
