//! From the bytes of tokens to pieces of text that can be shown.
//!
//! A character may be spread over several tokens, and a stop text too. What could still become part of
//! either is held back, so that no piece ends within a character and no reader sees the beginning of a
//! stop text.

/// Puts a text together from the bytes of its tokens.
#[derive(Debug)]
pub struct TextMaker {
    stops: Vec<String>,
    /// Bytes that do not make whole characters yet.
    bytes: Vec<u8>,
    /// Text that could be the beginning of a stop text.
    held: String,
}

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    /// Text that can be shown, perhaps none.
    Piece(String),
    /// The last text, up to a stop text.
    Stopped(String),
}

impl TextMaker {
    /// A text that ends before the first of these; empty ones are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(),
            bytes: Vec::new(),
            held: String::new(),
        }
    }

    /// Takes the bytes of a token.
    pub fn push(&mut self, bytes: &[u8]) -> Made {
        self.bytes.extend(bytes);
        let whole = whole_characters(&self.bytes);
        let text = String::from_utf8_lossy(&self.bytes[..whole]).into_owned();
        self.bytes.drain(..whole);
        self.held.push_str(&text);
        self.release()
    }

    /// The text that was still held back. Bytes that never became a character are shown as U+FFFD.
    pub fn finish(mut self) -> String {
        let rest = std::mem::take(&mut self.bytes);
        self.held.push_str(&String::from_utf8_lossy(&rest));
        match self.release() {
            Made::Stopped(text) => text,
            Made::Piece(text) => text + &self.held,
        }
    }

    fn release(&mut self) -> Made {
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min();
        if let Some(place) = found {
            self.held.truncate(place);
            return Made::Stopped(std::mem::take(&mut self.held));
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max();
        let rest = self.held.split_off(self.held.len() - keep.unwrap_or(0));
        Made::Piece(std::mem::replace(&mut self.held, rest))
    }
}

/// How many bytes at the beginning are whole characters, or can never become any.
fn whole_characters(bytes: &[u8]) -> usize {
    let mut start = 0;
    loop {
        match std::str::from_utf8(&bytes[start..]) {
            Ok(_) => return bytes.len(),
            Err(error) => match error.error_len() {
                Some(length) => start += error.valid_up_to() + length,
                None => return start + error.valid_up_to(),
            },
        }
    }
}

/// How long the longest end of `text` is with which `stop` begins.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    let begins = |&length: &usize| text.as_bytes().ends_with(&stop.as_bytes()[..length]);
    // A match within a character is none: the end of a text is the end of a character.
    let whole = |length: &usize| stop.is_char_boundary(*length);
    (1..=longest).rev().filter(whole).find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces as they come out, then what `finish` gives, or `!` and nothing more after a stop.
    fn pieces(stops: &[&str], tokens: &[&[u8]]) -> Vec<String> {
        let mut maker = TextMaker::new(stops.iter().map(|&stop| stop.to_owned()));
        let mut out = Vec::new();
        for token in tokens {
            match maker.push(token) {
                Made::Piece(piece) => out.push(piece),
                Made::Stopped(piece) => {
                    out.push(piece + "!");
                    return out;
                }
            }
        }
        out.push(maker.finish());
        out
    }

    #[test]
    fn characters_are_held_back_until_they_are_whole() {
        let cases: [(&[&[u8]], &[&str]); 7] = [
            (&[b"plain", b" text"], &["plain", " text", ""]),
            (&[b"\xC3", b"\xA9"], &["", "é", ""]),
            (&[b"a\xF0\x9F", b"\x98", b"\x80b"], &["a", "", "😀b", ""]),
            (&[b"\xE2\x96", b"x"], &["", "\u{FFFD}x", ""]),
            (&[b"\xFF", b"ok"], &["\u{FFFD}", "ok", ""]),
            (&[b"a\xE2\x96"], &["a", "\u{FFFD}"]),
            (&[b"\x80\xC3", b"\xA9\xC3"], &["\u{FFFD}", "é", "\u{FFFD}"]),
        ];
        for (tokens, expected) in cases {
            assert_eq!(pieces(&[], tokens), expected, "{tokens:?}");
        }
    }

    #[test]
    fn stop_texts_are_never_shown_not_even_in_part() {
        type Case<'a> = (&'a [&'a str], &'a [&'a [u8]], &'a [&'a str]);
        let cases: [Case<'_>; 11] = [
            (&["\n"], &[b" yes", b"\n", b"more"], &[" yes", "!"]),
            (&["\n"], &[b" yes\nmore"], &[" yes!"]),
            (&["END"], &[b"the E", b"N", b"D of"], &["the ", "", "!"]),
            (&["END"], &[b"the E", b"NTRY"], &["the ", "ENTRY", ""]),
            (&["END"], &[b"the EN"], &["the ", "EN"]),
            (&["aab"], &[b"aa", b"a", b"b"], &["", "a", "!"]),
            (&["abc", "b"], &[b"a", b"b"], &["", "a!"]),
            (&["cd", "abcde"], &[b"ab", b"cd"], &["", "ab!"]),
            (&["é"], &[b"x\xC3", b"\xA9y"], &["x", "!"]),
            (&["é!"], &[b"x\xC3", b"\xA9", b"?"], &["x", "", "é?", ""]),
            (&["", "x"], &[b"ab"], &["ab", ""]),
        ];
        for (stops, tokens, expected) in cases {
            assert_eq!(pieces(stops, tokens), expected, "{stops:?} {tokens:?}");
        }
    }

    #[test]
    fn pieces_together_are_the_text_however_it_is_cut() {
        let text = "Grüße, 世界! 😀 the END is near: EEND, ENEND";
        for size in 1..text.len() {
            let tokens: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(pieces(&["NEVER", "ENDE"], &tokens).concat(), text);
            assert_eq!(
                pieces(&["EEND"], &tokens).concat(),
                "Grüße, 世界! 😀 the END is near: !"
            );
        }
    }
}
