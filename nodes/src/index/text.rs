//! The text index: which fields a document has there, and how texts become terms.

use super::IndexError;
use tantivy::{
    Index, Term,
    query::{BooleanQuery, Occur, Query, TermQuery},
    schema::{
        BytesOptions, FAST, Field, IndexRecordOption, NumericOptions, STORED, STRING, Schema,
        TextFieldIndexing, TextOptions,
    },
    tokenizer::{
        AsciiFoldingFilter, Language, LowerCaser, Stemmer, TextAnalyzer, Token, TokenStream,
        Tokenizer,
    },
};

/// The name under which the index knows our tokenizer.
const ANALYZER: &str = "words";

/// Longer runs of letters and digits are no words and are not indexed.
const LONGEST_WORD: usize = 100;

/// Of a query, this many different terms count; the rest is left out, to bound the work.
const MOST_TERMS: usize = 64;

/// The fields of a document in the text index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// The id, as a whole.
    pub(super) id: Field,
    /// The text; found by its words.
    pub(super) text: Field,
    /// The metadata as JSON; stored only.
    pub(super) metadata: Field,
    /// The values that filters compare with, encoded by `filter`.
    pub(super) facts: Field,
    /// The digest of the record.
    pub(super) digest: Field,
    /// The sequence number of the vector in the log.
    pub(super) vector: Field,
}

/// The fields and their properties. An index with others was not written by this version.
pub(super) fn schema() -> (Schema, Fields) {
    let words = TextFieldIndexing::default()
        .set_tokenizer(ANALYZER)
        .set_index_option(IndexRecordOption::WithFreqs);
    let mut schema = Schema::builder();
    let fields = Fields {
        id: schema.add_text_field("id", STRING | STORED | FAST),
        text: schema.add_text_field(
            "text",
            TextOptions::default()
                .set_indexing_options(words)
                .set_stored(),
        ),
        metadata: schema.add_text_field("metadata", STORED),
        facts: schema.add_bytes_field("facts", BytesOptions::default().set_indexed().set_fast()),
        digest: schema.add_u64_field("digest", NumericOptions::default().set_fast()),
        vector: schema.add_u64_field("vector", NumericOptions::default().set_fast()),
    };
    (schema.build(), fields)
}

/// Makes our tokenizer known to an index that was just opened.
///
/// Words are runs of letters and digits, in lower case, without accents, cut to their English stem.
/// Texts in other languages are treated the same way on both sides, so that equal words meet, if
/// without their inflections. Scripts that do not separate words (Chinese, Japanese, Korean) are
/// indexed character by character.
pub(super) fn register(index: &Index) {
    index.tokenizers().register(ANALYZER, analyzer());
}

fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(Words::default())
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(Stemmer::new(Language::English))
        .build()
}

/// The terms of a text, in its order, as the index has them.
pub(crate) fn terms(text: &str) -> Vec<String> {
    let mut analyzer = analyzer();
    let mut words = analyzer.token_stream(text);
    let mut terms = Vec::new();
    words.process(&mut |token| terms.push(token.text.clone()));
    terms
}

/// The query for documents with any of the words of `text`, which is data and never syntax; none if
/// it has no words.
pub(super) fn query(
    index: &Index,
    fields: &Fields,
    text: &str,
) -> Result<Option<Box<dyn Query>>, IndexError> {
    let analyzer = index.tokenizer_for_field(fields.text);
    let mut analyzer = analyzer.map_err(IndexError::text("find the tokenizer"))?;
    let mut words = analyzer.token_stream(text);
    let mut terms: Vec<Term> = Vec::new();
    while terms.len() < MOST_TERMS && words.advance() {
        let term = Term::from_field_text(fields.text, &words.token().text);
        if !terms.contains(&term) {
            terms.push(term);
        }
    }
    if terms.is_empty() {
        return Ok(None);
    }
    let should = terms.into_iter().map(|term| {
        let query = TermQuery::new(term, IndexRecordOption::WithFreqs);
        (Occur::Should, Box::new(query) as Box<dyn Query>)
    });
    Ok(Some(Box::new(BooleanQuery::new(should.collect()))))
}

/// Cuts a text into words.
#[derive(Debug, Clone, Default)]
struct Words {
    token: Token,
}

struct WordStream<'a> {
    text: &'a str,
    place: usize,
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream {
            text,
            place: 0,
            token: &mut self.token,
        }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        loop {
            let rest = &self.text[self.place..];
            let Some(start) = rest.find(char::is_alphanumeric) else {
                return false;
            };
            let length = word_length(&rest[start..]);
            let from = self.place + start;
            self.place = from + length;
            if length <= LONGEST_WORD {
                self.token.position = self.token.position.wrapping_add(1);
                self.token.offset_from = from;
                self.token.offset_to = self.place;
                self.token.text.clear();
                self.token.text.push_str(&self.text[from..self.place]);
                return true;
            }
        }
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

/// The bytes of the word that a text begins with.
fn word_length(text: &str) -> usize {
    let mut chars = text.char_indices();
    match chars.next() {
        Some((_, first)) if stands_alone(first) => first.len_utf8(),
        _ => chars
            .find(|(_, c)| !c.is_alphanumeric() || stands_alone(*c))
            .map_or(text.len(), |(place, _)| place),
    }
}

/// Whether a character belongs to a script without spaces between words.
fn stands_alone(c: char) -> bool {
    matches!(u32::from(c),
        0x3040..=0x30ff      // Hiragana, Katakana
        | 0x3400..=0x4dbf    // Han, extension A
        | 0x4e00..=0x9fff    // Han
        | 0xac00..=0xd7af    // Hangul
        | 0xf900..=0xfaff    // Han, compatibility
        | 0x20000..=0x3ffff) // Han, further extensions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_terms() {
        let cases: &[(&str, &[&str])] = &[
            ("Running the Runners", &["run", "the", "runner"]),
            ("max-ongoing-requests", &["max", "ongo", "request"]),
            ("Café, CAFE!", &["cafe", "cafe"]),
            ("Häuser über Straßen", &["hauser", "uber", "strassen"]),
            ("東京 tower 2024年", &["東", "京", "tower", "2024", "年"]),
            ("АНДРЕЙ", &["андрей"]),
            (
                "a:b^2~ AND (\"x\" OR NOT +y*)",
                &["a", "b", "2", "and", "x", "or", "not", "y"],
            ),
            ("… — ?!", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(terms(text), *expected, "{text}");
        }
        assert_eq!(terms(&"x".repeat(LONGEST_WORD + 1)), [""; 0]);
    }
}
