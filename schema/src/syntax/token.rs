//! Text to tokens. Every byte is in exactly one token, so that the formatter loses nothing.

use super::characters::{is_forbidden, is_newline, is_space, is_word, newline};
use crate::{Diagnostic, Source, Span, codes, problems::Problems};

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: TokenKind,
    /// Offset of its first byte.
    pub(crate) start: u32,
    /// Offset after its last byte.
    pub(crate) end: u32,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// White space within a line.
    Space,
    /// One line break.
    Newline,
    /// `// …` without its line break.
    LineComment,
    /// `/* … */`
    BlockComment,
    /// `\` before a line break, which then counts as white space.
    Continuation,
    /// `/-`, which switches off what comes after it.
    SlashDash,
    /// A bare word or a number.
    Word,
    /// `#true` and the like.
    Keyword,
    /// A string in quotes, with escapes: `"…"` or `"""…"""`.
    Quoted,
    /// A string without escapes: `#"…"#` or `#"""…"""#`.
    Raw,
    /// `{`
    Open,
    /// `}`
    Close,
    /// `(`
    OpenParenthesis,
    /// `)`
    CloseParenthesis,
    /// `=`
    Equals,
    /// `;`
    Semicolon,
    /// What can stand nowhere; reported already.
    Bad,
}

impl Token {
    /// As indices into the text.
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The tokens of `source`.
pub(crate) fn tokens(source: &Source, problems: &mut Problems) -> Vec<Token> {
    let mut lexer = Lexer {
        source,
        text: &source.text,
        at: 0,
        problems,
    };
    let mut tokens = Vec::new();
    if lexer.text.starts_with('\u{FEFF}') {
        lexer.at = '\u{FEFF}'.len_utf8();
        tokens.push(Token {
            kind: TokenKind::Space,
            start: 0,
            end: lexer.at as u32,
        });
    }
    while lexer.at < lexer.text.len() {
        let start = lexer.at;
        let kind = lexer.token();
        tokens.push(Token {
            kind,
            start: start as u32,
            end: lexer.at as u32,
        });
    }
    tokens
}

struct Lexer<'a> {
    source: &'a Source,
    text: &'a str,
    at: usize,
    problems: &'a mut Problems,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_while(&mut self, keep: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !keep(c)).unwrap_or(rest.len());
    }

    fn problem(&mut self, start: usize, end: usize, message: &str, label: &str, help: &str) {
        let span = Span::new(self.source.id, start, end);
        self.problems.report(|| {
            Diagnostic::error(codes::SYNTAX_ERROR, message, span)
                .label(label)
                .help(help)
        });
    }

    /// Reads one token; the text is not at its end.
    fn token(&mut self) -> TokenKind {
        let start = self.at;
        let line_break = newline(self.rest());
        if line_break > 0 {
            self.at += line_break;
            return TokenKind::Newline;
        }
        let first = self.peek().unwrap_or_default();
        if is_space(first) {
            self.skip_while(is_space);
            return TokenKind::Space;
        }
        if is_word(first) {
            self.skip_while(is_word);
            return TokenKind::Word;
        }
        self.at += first.len_utf8();
        match first {
            '{' => TokenKind::Open,
            '}' => TokenKind::Close,
            '(' => TokenKind::OpenParenthesis,
            ')' => TokenKind::CloseParenthesis,
            '=' => TokenKind::Equals,
            ';' => TokenKind::Semicolon,
            '\\' => TokenKind::Continuation,
            '/' => self.slash(start),
            '"' => self.quoted(start),
            '#' => self.hash(start),
            _ => self.bad(start, first),
        }
    }

    fn slash(&mut self, start: usize) -> TokenKind {
        match self.peek() {
            Some('-') => {
                self.at += 1;
                TokenKind::SlashDash
            }
            Some('/') => {
                self.skip_while(|c| !is_newline(c));
                self.forbid(start);
                TokenKind::LineComment
            }
            Some('*') => {
                self.at += 1;
                self.block_comment(start);
                TokenKind::BlockComment
            }
            _ => self.bad(start, '/'),
        }
    }

    /// Reads to the `*/` that belongs to the `/*` before; comments nest.
    fn block_comment(&mut self, start: usize) {
        let mut depth = 1;
        while depth > 0 {
            let Some(next) = self.rest().find(['*', '/']) else {
                self.at = self.text.len();
                self.problem(
                    start,
                    start + 2,
                    "a comment is never closed",
                    "opened here",
                    "close it with `*/`; comments nest, so each `/*` needs one",
                );
                break;
            };
            self.at += next;
            if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
            } else if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else {
                self.at += 1;
            }
        }
        self.forbid(start);
    }

    /// `#true`, or the start of a raw string.
    fn hash(&mut self, start: usize) -> TokenKind {
        self.skip_while(|c| c == '#');
        let hashes = self.at - start;
        if self.peek() != Some('"') {
            self.skip_while(is_word);
            return TokenKind::Keyword;
        }
        let opening = self.at;
        self.at += 1;
        let multi_line = self.rest().starts_with("\"\"") && newline(&self.rest()[2..]) > 0;
        let quotes = if multi_line { 3 } else { 1 };
        let closing = "\"".repeat(quotes) + &"#".repeat(hashes);
        self.at = opening + quotes;
        let end = match multi_line {
            true => self.rest().find(&closing),
            false => self.find_on_this_line(&closing),
        };
        match end {
            Some(end) => self.at += end + closing.len(),
            None => {
                self.skip_while(|c| multi_line || !is_newline(c));
                self.problem(
                    start,
                    opening + quotes,
                    "a string is never closed",
                    "opened here",
                    &format!("close it with `{closing}`"),
                );
            }
        }
        self.forbid(start);
        TokenKind::Raw
    }

    fn quoted(&mut self, start: usize) -> TokenKind {
        let multi_line = self.rest().starts_with("\"\"");
        if multi_line {
            self.at += 2;
            if newline(self.rest()) == 0 {
                self.problem(
                    start,
                    self.at,
                    "the text of a multi-line string begins on the line after its quotes",
                    "something follows these quotes",
                    "break the line after `\"\"\"`, or write one quote on each side",
                );
                self.skip_to_closing_on_this_line();
                return TokenKind::Quoted;
            }
        }
        if !self.skip_to_closing(multi_line) {
            let quotes = if multi_line { "\"\"\"" } else { "\"" };
            self.problem(
                start,
                start + quotes.len(),
                "a string is never closed",
                "opened here",
                &format!("close it with `{quotes}`"),
            );
        }
        self.forbid(start);
        TokenKind::Quoted
    }

    /// Reads to the end of a string with escapes; false if there is none.
    fn skip_to_closing(&mut self, multi_line: bool) -> bool {
        loop {
            let stop = |c: char| matches!(c, '"' | '\\') || (!multi_line && is_newline(c));
            self.skip_while(|c| !stop(c));
            match self.peek() {
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(c) if is_space(c) || is_newline(c) => {
                            self.skip_while(|c| is_space(c) || is_newline(c));
                        }
                        Some(c) => self.at += c.len_utf8(),
                        None => return false,
                    }
                }
                Some('"') if !multi_line => {
                    self.at += 1;
                    return true;
                }
                Some('"') if self.rest().starts_with("\"\"\"") => {
                    self.at += 3;
                    return true;
                }
                Some('"') => self.at += 1,
                _ => return false,
            }
        }
    }

    /// After a `"""` that does not end its line: to the quotes that were meant to close it.
    fn skip_to_closing_on_this_line(&mut self) {
        match self.find_on_this_line("\"\"\"") {
            Some(quotes) => self.at += quotes + 3,
            None => self.skip_while(|c| !is_newline(c)),
        }
    }

    /// Where `closing`, which begins with a quote, is in what is left of the line.
    fn find_on_this_line(&self, closing: &str) -> Option<usize> {
        let rest = self.rest();
        let mut at = 0;
        loop {
            at += rest[at..].find(|c| c == '"' || is_newline(c))?;
            match rest[at..].strip_prefix(closing) {
                Some(_) => return Some(at),
                None if rest[at..].starts_with('"') => at += 1,
                None => return None,
            }
        }
    }

    fn bad(&mut self, start: usize, first: char) -> TokenKind {
        if is_forbidden(first) {
            self.skip_while(is_forbidden);
            self.forbid(start);
        } else {
            let message = format!("`{first}` cannot stand here");
            let help = "put text with such characters in quotes";
            self.problem(start, self.at, &message, "", help);
        }
        TokenKind::Bad
    }

    /// Reports the first forbidden character since `start`.
    fn forbid(&mut self, start: usize) {
        let text = &self.text[start..self.at];
        if let Some((offset, found)) = text.char_indices().find(|(_, c)| is_forbidden(*c)) {
            let message = format!(
                "the character U+{:04X} is not allowed in a file",
                found as u32
            );
            let at = start + offset;
            self.problem(
                at,
                at + found.len_utf8(),
                &message,
                "it is invisible",
                "remove it, or write it as an escape in a string, such as `\\u{7F}`",
            );
        }
    }
}
