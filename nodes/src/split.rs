//! `split`: text to pieces. The same cutting prepares documents for an index.

use crate::{Input, Node, NodeError, Running, Value};
use futures::future::BoxFuture;
use schema::kind::{self, SplitBy};

/// A node that cuts texts.
#[derive(Debug, Clone)]
pub struct Split {
    by: SplitBy,
    max_chars: usize,
    overlap: usize,
}

impl Split {
    /// The node that a file asks for.
    pub fn new(work: &kind::Split) -> Self {
        Self {
            by: work.by,
            max_chars: work.max_chars.value as usize,
            overlap: work.overlap.value as usize,
        }
    }

    fn answer(&self, item: &Input) -> Result<Value, NodeError> {
        let text = item.arguments.get("text");
        let Some(text) = text.as_text() else {
            let what = text.type_name();
            return Err(NodeError::invalid(format!(
                "split takes a text, not {what}"
            )));
        };
        let pieces = pieces(text, self.by, self.max_chars, self.overlap);
        Ok(Value::list(pieces.into_iter().map(Value::text)))
    }
}

impl Node for Split {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(async move { batch.iter().map(|item| self.answer(item)).collect() })
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

/// Cuts a text into pieces of at most `max_chars` characters, at the places that `by` says, and at
/// finer ones (sentences, then words, then characters) where a part is too long. As many parts as
/// fit make a piece; white space around it is left out.
///
/// With an overlap, a piece begins with the end of the one before, cut at a word where possible; at
/// most half of `max_chars` are repeated.
pub fn pieces(text: &str, by: SplitBy, max_chars: usize, overlap: usize) -> Vec<&str> {
    let max_chars = max_chars.max(1);
    let overlap = overlap.min(max_chars / 2);
    let mut pieces = Vec::new();
    // The first piece repeats nothing and has the whole size for itself.
    let (mut room, mut start, mut end, mut chars) = (max_chars, 0, 0, 0);
    for part in parts(text, Cut::from(by), max_chars - overlap) {
        let more = part.chars().count();
        // White space at the end of a part does not count: it is left out where the piece ends.
        let visible = part.trim_end().chars().count();
        if chars + visible > room && chars > 0 {
            push(&mut pieces, text, start, end, overlap);
            (room, start, chars) = (max_chars - overlap, end, 0);
        }
        end += part.len();
        chars += more;
    }
    push(&mut pieces, text, start, end, overlap);
    pieces
}

/// Adds the piece between two places, begun earlier by the overlap unless it is the first.
fn push<'a>(pieces: &mut Vec<&'a str>, text: &'a str, start: usize, end: usize, overlap: usize) {
    if text[start..end].trim().is_empty() {
        return;
    }
    let start = start + (text[start..end].len() - text[start..end].trim_start().len());
    let start = match pieces.is_empty() {
        true => start,
        false => back(text, start, overlap),
    };
    pieces.push(text[start..end].trim());
}

/// A place at most `overlap` characters before `place`, where a word begins if there is one.
fn back(text: &str, place: usize, overlap: usize) -> usize {
    let before = &text[..place];
    let mut earlier = before.char_indices().rev().take(overlap);
    let Some((earliest, _)) = earlier.by_ref().last() else {
        return place;
    };
    let begins_word = before[..earliest].ends_with(char::is_whitespace) || earliest == 0;
    if begins_word {
        return earliest;
    }
    let repeated = &before[earliest..];
    let word = repeated
        .find(char::is_whitespace)
        .filter(|space| !repeated[*space..].trim().is_empty());
    // A text without white space, such as Chinese, may be cut anywhere.
    let whole = if before.ends_with(char::is_whitespace) {
        place
    } else {
        earliest
    };
    word.map_or(whole, |space| earliest + space)
}

/// Where a text is cut, from coarse to fine.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    Paragraph,
    Line,
    Sentence,
    Word,
    Character,
}

impl From<SplitBy> for Cut {
    fn from(by: SplitBy) -> Self {
        match by {
            SplitBy::Paragraph => Cut::Paragraph,
            SplitBy::Line => Cut::Line,
            SplitBy::Sentence => Cut::Sentence,
        }
    }
}

impl Cut {
    fn finer(self) -> Self {
        match self {
            Cut::Paragraph => Cut::Sentence,
            Cut::Line | Cut::Sentence => Cut::Word,
            Cut::Word | Cut::Character => Cut::Character,
        }
    }
}

/// The text in consecutive parts that a piece can hold each, white space between them included.
fn parts(text: &str, cut: Cut, room: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(part_length(rest, cut, room));
        match part.trim_end().chars().nth(room) {
            None => parts.push(part),
            Some(_) => parts.extend(self::parts(part, cut.finer(), room)),
        }
        rest = after;
    }
    parts
}

/// The bytes of the part that a text begins with, with the white space behind it.
fn part_length(text: &str, cut: Cut, room: usize) -> usize {
    let end = match cut {
        Cut::Paragraph => blank_line(text),
        Cut::Line => text.find('\n').map(|line| line + 1),
        Cut::Sentence => sentence_end(text),
        Cut::Word => word_end(text),
        Cut::Character => text.char_indices().nth(room).map(|(place, _)| place),
    };
    end.unwrap_or(text.len())
}

/// The place behind the first blank lines.
fn blank_line(text: &str) -> Option<usize> {
    let mut place = 0;
    let mut blank = false;
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if blank && !is_blank {
            return Some(place);
        }
        blank = is_blank && place > 0;
        place += line.len();
    }
    None
}

/// The place behind the first sentence: after a full stop and white space, unless a small letter
/// goes on ("e.g. this"), or after a full stop of a script that writes no spaces.
fn sentence_end(text: &str) -> Option<usize> {
    for (place, c) in text.char_indices() {
        let after = place + c.len_utf8();
        if matches!(c, '。' | '！' | '？') {
            return Some(after);
        }
        if matches!(c, '.' | '!' | '?' | '…') {
            let rest = text[after..].trim_start_matches(['"', '\'', ')', ']', '”', '’', '»']);
            let next = rest.trim_start();
            if next.len() < rest.len() && !next.starts_with(char::is_lowercase) {
                return Some(text.len() - next.len());
            }
        }
    }
    None
}

/// The place behind the first word and its white space.
fn word_end(text: &str) -> Option<usize> {
    let word = text.find(|c: char| !c.is_whitespace())?;
    let space = word + text[word..].find(char::is_whitespace)?;
    let next = text[space..].find(|c: char| !c.is_whitespace())?;
    Some(space + next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arguments;
    use proptest::prelude::*;

    #[test]
    fn texts_are_cut() {
        use SplitBy::{Line, Paragraph, Sentence};
        let cases: &[(&str, SplitBy, usize, usize, &[&str])] = &[
            ("", Paragraph, 10, 0, &[]),
            (" \n\n ", Paragraph, 10, 0, &[]),
            (
                "one\n\ntwo\n\nthree",
                Paragraph,
                8,
                0,
                &["one\n\ntwo", "three"],
            ),
            ("one\r\n\r\ntwo", Paragraph, 4, 0, &["one", "two"]),
            (
                "One. Two, e.g. this. Three!",
                Sentence,
                16,
                0,
                &["One.", "Two, e.g. this.", "Three!"],
            ),
            (
                "He said \"No.\" Then left.",
                Sentence,
                14,
                0,
                &["He said \"No.\"", "Then left."],
            ),
            ("一。二。三。", Sentence, 4, 0, &["一。二。", "三。"]),
            ("a b\nc d\ne", Line, 4, 0, &["a b", "c d", "e"]),
            ("a b\nc d\ne", Line, 7, 0, &["a b\nc d", "e"]),
            (
                "a long paragraph\n\nb",
                Paragraph,
                10,
                0,
                &["a long", "paragraph", "b"],
            ),
            ("unbreakable", Paragraph, 4, 0, &["unbr", "eaka", "ble"]),
            (
                "one two three four",
                Line,
                10,
                4,
                &["one two", "two three", "four"],
            ),
            ("一二三四五六", Line, 4, 2, &["一二三四", "三四五六"]),
            ("äöü äöü", Line, 3, 0, &["äöü", "äöü"]),
        ];
        for (text, by, max_chars, overlap, expected) in cases {
            assert_eq!(
                pieces(text, *by, *max_chars, *overlap),
                *expected,
                "{text:?}"
            );
        }
    }

    fn any_by() -> impl Strategy<Value = SplitBy> {
        let all = [SplitBy::Paragraph, SplitBy::Sentence, SplitBy::Line];
        prop::sample::select(all.to_vec())
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_too_long(
            text in "[ab.! \n\ré。]{0,200}", by in any_by(), max_chars in 1usize..40,
        ) {
            let pieces = pieces(&text, by, max_chars, 0);
            for piece in &pieces {
                prop_assert!(piece.chars().count() <= max_chars && !piece.trim().is_empty());
            }
            let visible = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(visible(&pieces.concat()), visible(&text));
        }

        #[test]
        fn overlapping_pieces_keep_the_size_too(
            text in "\\PC{0,200}|[ab \n.]{0,200}", by in any_by(), max_chars in 1usize..40, overlap in 0usize..60,
        ) {
            for piece in pieces(&text, by, max_chars, overlap) {
                prop_assert!(piece.chars().count() <= max_chars && text.contains(piece));
            }
        }
    }

    #[tokio::test]
    async fn the_node_answers_each_item() {
        let node = Split {
            by: SplitBy::Line,
            max_chars: 3,
            overlap: 0,
        };
        let item = |value: Value| Input {
            arguments: Arguments::from_iter([("text", value)]),
            context: Default::default(),
        };
        let answers = node
            .run(vec![item(Value::text("a\nbcd")), item(Value::None)])
            .await;
        let [Ok(Value::List(pieces)), Err(error)] = &answers[..] else {
            panic!("{answers:?}");
        };
        let texts: Vec<_> = pieces
            .iter()
            .filter_map(Value::as_text)
            .map(|text| &**text)
            .collect();
        assert_eq!(texts, ["a", "bcd"]);
        assert_eq!(error.to_string(), "split takes a text, not none");
    }
}
