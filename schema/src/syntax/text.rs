//! Strings: their content, and where each byte of it stands in the file.

use super::{
    Token, TokenKind,
    characters::{is_newline, is_space, newline},
};
use crate::{Diagnostic, Source, Span, codes, problems::Problems};

/// The content of a string and the points at which content and file stop advancing together.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlacedText {
    /// The content, escapes resolved and indentation removed.
    pub(crate) text: String,
    /// `(offset in content, offset in file)`, see [`Template::new`](crate::Template::new).
    pub(crate) places: Vec<(u32, u32)>,
}

impl PartialEq for PlacedText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl PlacedText {
    /// A text that stands in the file as it is, from `offset`.
    pub(crate) fn verbatim(text: &str, offset: usize) -> Self {
        Self {
            text: text.to_owned(),
            places: vec![(0, offset as u32)],
        }
    }

    fn empty(offset: usize) -> Self {
        Self::verbatim("", offset)
    }

    /// Appends a character that is written at `start..end` of the file.
    fn push(&mut self, character: char, start: usize, end: usize) {
        let offset = self.text.len();
        match self.places.last_mut() {
            Some((_, file)) if offset == 0 => *file = start as u32,
            Some(&mut (text, file)) => {
                let end_before = file as usize + (offset - text as usize);
                if end_before != start && text as usize != offset {
                    self.places.push((offset as u32, end_before as u32));
                }
                if end_before != start {
                    self.places.push((offset as u32, start as u32));
                }
            }
            None => self.places.push((offset as u32, start as u32)),
        }
        self.text.push(character);
        if end - start != character.len_utf8() {
            self.places.push((self.text.len() as u32, end as u32));
        }
    }
}

/// The content of the string that `token` is.
pub(super) fn string(source: &Source, token: Token, problems: &mut Problems) -> PlacedText {
    let written = &source.text[token.range()];
    let hashes = written.bytes().take_while(|byte| *byte == b'#').count();
    let quotes = &written[hashes..];
    let three = quotes.starts_with("\"\"\"");
    let multi_line = three && newline(&quotes[3..]) > 0;
    // Three quotes in a line are a mistake that has been reported; they still belong together.
    let wide = multi_line || (three && hashes == 0);
    let opening = hashes + if wide { 3 } else { 1 };
    let closing = &written[opening..];
    let end_quotes = "\"".repeat(opening - hashes) + &"#".repeat(hashes);
    let body = closing.strip_suffix(&end_quotes);
    let start = token.start as usize + opening;
    let mut reader = Reader {
        source,
        escapes: token.kind == TokenKind::Quoted,
        at: start,
        end: start + body.unwrap_or(closing).len(),
        problems,
    };
    if multi_line {
        reader.at += newline(&quotes[3..]);
        reader.multi_line(body.map(|_| token))
    } else {
        reader.single_line()
    }
}

/// Whether a string with escapes has a `\\` before white space, which removes that white space.
pub(crate) fn has_space_escape(written: &str) -> bool {
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        if character == '\\'
            && characters
                .next()
                .is_some_and(|next| is_space(next) || is_newline(next))
        {
            return true;
        }
    }
    false
}

/// A character of a string's body.
#[derive(Clone, Copy)]
struct Piece {
    character: char,
    start: usize,
    end: usize,
    /// Written as an escape: then it is never indentation or the end of a line.
    escaped: bool,
}

impl Piece {
    fn is_space(&self) -> bool {
        !self.escaped && is_space(self.character)
    }
}

struct Reader<'a> {
    source: &'a Source,
    escapes: bool,
    at: usize,
    end: usize,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn single_line(mut self) -> PlacedText {
        let mut content = PlacedText::empty(self.at);
        while let Some(piece) = self.piece() {
            content.push(piece.character, piece.start, piece.end);
        }
        content
    }

    /// Removes from each line the indentation that stands before the closing quotes, which are at
    /// the end of `closed`; a string that is never closed has been reported.
    fn multi_line(mut self, closed: Option<Token>) -> PlacedText {
        let mut content = PlacedText::empty(self.at);
        let pieces: Vec<Piece> = std::iter::from_fn(|| self.piece()).collect();
        let ends_line = |piece: &Piece| !piece.escaped && piece.character == '\n';
        let (lines, last) = match pieces.iter().rposition(ends_line) {
            Some(end) => (&pieces[..end], &pieces[end + 1..]),
            None => (&pieces[..0], &pieces[..]),
        };
        if let Some(token) = closed
            && !last.iter().all(Piece::is_space)
        {
            self.closing_not_alone(token);
        }
        let indentation: Vec<char> = last
            .iter()
            .take_while(|piece| piece.is_space())
            .map(|piece| piece.character)
            .collect();
        if pieces.len() == last.len() {
            return content;
        }
        let mut line_break: Option<&Piece> = None;
        for line in lines.split_inclusive(ends_line).chain(
            // A body that ends in an empty line has one more line than `split_inclusive` yields.
            lines.last().is_none_or(ends_line).then_some(&[][..]),
        ) {
            if let Some(piece) = line_break {
                content.push('\n', piece.start, piece.end);
            }
            let (text, ending) = match line.split_last() {
                Some((ending, text)) if ends_line(ending) => (text, Some(ending)),
                _ => (line, None),
            };
            line_break = ending;
            for piece in self.dedent(text, &indentation) {
                content.push(piece.character, piece.start, piece.end);
            }
        }
        content
    }

    fn dedent<'p>(&mut self, line: &'p [Piece], indentation: &[char]) -> &'p [Piece] {
        if line.iter().all(Piece::is_space) {
            return &[];
        }
        let common = line
            .iter()
            .zip(indentation)
            .take_while(|(piece, wanted)| piece.is_space() && piece.character == **wanted)
            .count();
        if common < indentation.len()
            && let (Some(start), Some(end)) = (line.first(), line.last())
        {
            self.problem(
                start.start,
                end.end,
                "a line of a multi-line string is indented less than its closing quotes",
                "this line",
                "each line begins with the same white space as the line of the closing quotes",
            );
        }
        &line[common..]
    }

    /// The next character; white space after a `\` is skipped.
    fn piece(&mut self) -> Option<Piece> {
        loop {
            let start = self.at;
            let body = self.source.text.get(start..self.end)?;
            let character = body.chars().next()?;
            if self.escapes && character == '\\' {
                match self.escape(start, &body[1..]) {
                    Some(piece) => return Some(piece),
                    None => continue,
                }
            }
            let line_break = newline(body);
            self.at += line_break.max(character.len_utf8());
            return Some(Piece {
                character: if line_break > 0 { '\n' } else { character },
                start,
                end: self.at,
                escaped: false,
            });
        }
    }

    /// Reads the escape whose `\` is at `start` and is followed by `after`; `None` for one that
    /// stands for nothing.
    fn escape(&mut self, start: usize, after: &str) -> Option<Piece> {
        let Some(name) = after.chars().next() else {
            // Only in a string that is never closed, which has been reported.
            self.at = self.end;
            return None;
        };
        let length = after.find(|c| !is_space(c) && !is_newline(c));
        let length = length.unwrap_or(after.len());
        if length > 0 {
            self.at = start + 1 + length;
            return None;
        }
        let (character, length) = match name {
            'n' => ('\n', 1),
            'r' => ('\r', 1),
            't' => ('\t', 1),
            'b' => ('\u{08}', 1),
            'f' => ('\u{0C}', 1),
            's' => (' ', 1),
            '\\' | '"' => (name, 1),
            'u' => self.unicode(start, after),
            _ => {
                let end = start + 1 + name.len_utf8();
                self.problem(
                    start,
                    end,
                    &format!("`\\{name}` is not an escape"),
                    "",
                    "write `\\\\` for a backslash, or a string without escapes: `#\"…\"#`",
                );
                (name, name.len_utf8())
            }
        };
        self.at = start + 1 + length;
        Some(Piece {
            character,
            start,
            end: self.at,
            escaped: true,
        })
    }

    /// `u{…}`: the character and its length in bytes.
    fn unicode(&mut self, start: usize, after: &str) -> (char, usize) {
        let digits = after.strip_prefix("u{").and_then(|rest| {
            let end = rest.bytes().take(7).position(|byte| byte == b'}')?;
            Some(&rest[..end])
        });
        let character = digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .and_then(char::from_u32);
        match (character, digits) {
            (Some(character), Some(digits)) => (character, digits.len() + 3),
            _ => {
                let length = digits.map_or(1, |digits| digits.len() + 3);
                self.problem(
                    start,
                    start + 1 + length,
                    "an escape does not name a character",
                    "",
                    "write one to six hexadecimal digits, such as `\\u{1F600}`",
                );
                (char::REPLACEMENT_CHARACTER, length)
            }
        }
    }

    fn closing_not_alone(&mut self, token: Token) {
        self.problem(
            token.end as usize - 1,
            token.end as usize,
            "the closing quotes of a multi-line string stand alone on their line",
            "text stands before these quotes",
            "break the line before them",
        );
    }

    fn problem(&mut self, start: usize, end: usize, message: &str, label: &str, help: &str) {
        let span = Span::new(self.source.id, start, end);
        self.problems.report(|| {
            Diagnostic::error(codes::SYNTAX_ERROR, message, span)
                .label(label)
                .help(help)
        });
    }
}
