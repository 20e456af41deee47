//! Arguments and properties of a node, and their values.

use super::{Parser, shorten};
use crate::{
    Diagnostic, Span, Spanned, codes,
    syntax::{
        Entry, PlacedText, Token, TokenKind, Value,
        number::{looks_like_number, number},
        text::string,
    },
};

/// How many templates a text opens and leaves open.
fn unclosed(text: &str) -> isize {
    let count = |part| text.matches(part).count().cast_signed();
    count("{{") + count("{%") - count("}}") - count("%}")
}

impl Parser<'_> {
    /// Reads `value` or `key=value`.
    pub(super) fn entry(&mut self) -> Option<Entry> {
        let start = self.at;
        if self.peek() != Some(TokenKind::OpenParenthesis) {
            let (value, span) = self.plain_value()?;
            let after_value = self.at;
            self.skip_space();
            if !self.eat(TokenKind::Equals) {
                self.at = after_value;
                return Some(Entry {
                    key: None,
                    annotation: None,
                    value,
                    span,
                });
            }
            self.skip_space();
            return self.property(value, span);
        }
        let entry = self.value();
        self.at = self.at.max(start + 1);
        entry
    }

    fn property(&mut self, key: Value, span: Span) -> Option<Entry> {
        let key = match key {
            Value::Text(key) => Some(Spanned::new(key.text, span)),
            _ => {
                self.problem(
                    span,
                    "the key of a property must be a word",
                    "put it in quotes",
                );
                None
            }
        };
        let entry = self.value()?;
        key.map(|key| Entry {
            key: Some(key),
            ..entry
        })
    }

    /// Reads a value with its annotation, if it has one.
    pub(super) fn value(&mut self) -> Option<Entry> {
        let annotation = self.annotation();
        self.skip_space();
        let place = self.here();
        match self.peek() {
            Some(TokenKind::Word | TokenKind::Keyword | TokenKind::Quoted | TokenKind::Raw) => {
                let (value, span) = self.plain_value()?;
                Some(Entry {
                    key: None,
                    annotation,
                    value,
                    span,
                })
            }
            _ => {
                let help = "write a word, a text in quotes, a number, `#true` or `#false`";
                self.problem(place, "a value is missing here", help);
                None
            }
        }
    }

    /// Reads `(annotation)`, if there is one.
    pub(super) fn annotation(&mut self) -> Option<Spanned<String>> {
        if !self.eat(TokenKind::OpenParenthesis) {
            return None;
        }
        self.skip_space();
        let annotation = match self.peek() {
            Some(TokenKind::Word | TokenKind::Quoted | TokenKind::Raw) => self.plain_value(),
            _ => None,
        };
        self.skip_space();
        let place = self.here();
        if !self.eat(TokenKind::CloseParenthesis) || annotation.is_none() {
            let help = "write `(env)\"NAME\"`, or put text with parentheses in quotes";
            self.problem(place, "an annotation is not complete", help);
        }
        match annotation {
            Some((Value::Text(text), span)) => Some(Spanned::new(text.text, span)),
            _ => None,
        }
    }

    /// Reads the value that the next token is; the caller has seen that it is one.
    pub(super) fn plain_value(&mut self) -> Option<(Value, Span)> {
        let token = self.next()?;
        let span = self.span(token);
        let value = match token.kind {
            TokenKind::Word => self.word(token),
            TokenKind::Keyword => self.keyword(token),
            TokenKind::Quoted => match self.end_of_template(token) {
                Some(end) => return Some(self.template_with_quotes(token, end)),
                None => Value::Text(string(self.source, token, self.problems)),
            },
            TokenKind::Raw => Value::Text(string(self.source, token, self.problems)),
            _ => return None,
        };
        Some((value, span))
    }

    /// The token with which a text ends whose template has quotes of its own, as in `"{{ a["b"] }}"`.
    fn end_of_template(&mut self, first: Token) -> Option<usize> {
        let goes_on = matches!(
            self.peek()?,
            TokenKind::Word
                | TokenKind::Keyword
                | TokenKind::Quoted
                | TokenKind::Raw
                | TokenKind::OpenParenthesis
                | TokenKind::CloseParenthesis
        );
        if !goes_on || self.at < self.without_end {
            return None;
        }
        let written = self.written(first);
        let mut open = unclosed(written);
        if open <= 0 || written.starts_with("\"\"\"") {
            return None;
        }
        for (at, token) in self.tokens.iter().enumerate().skip(self.at) {
            match token.kind {
                TokenKind::Newline => break,
                TokenKind::Quoted => open += unclosed(self.written(*token)),
                _ => {}
            }
            self.without_end = at;
            if open <= 0 {
                return self.written(*token).ends_with('"').then_some(at);
            }
        }
        None
    }

    /// Reports quotes within a text, and reads it as it was meant.
    fn template_with_quotes(&mut self, first: Token, end: usize) -> (Value, Span) {
        let (start, last) = (self.span(first), self.span(self.tokens[end]));
        let ended = Span {
            start: start.end - 1,
            ..start
        };
        self.at = end + 1;
        let whole = Span {
            end: last.end,
            ..start
        };
        self.problems.forget(whole);
        self.problems.report(|| {
            let message = "a quote ends this text in the middle of its template";
            Diagnostic::error(codes::SYNTAX_ERROR, message, whole)
                .also(ended, "this one")
                .help("write 'single quotes' within a template, or the whole text as #\"…\"#")
        });
        let (from, to) = (whole.start as usize + 1, whole.end as usize - 1);
        let text = PlacedText::verbatim(&self.source.text[from..to], from);
        (Value::Text(text), whole)
    }

    fn word(&mut self, token: Token) -> Value {
        let span = self.span(token);
        let word = self.written(token).to_owned();
        let text = Value::Text(PlacedText::verbatim(&word, token.start as usize));
        let bare_keyword = match word.as_str() {
            "true" => Some(Value::Boolean(true)),
            "false" => Some(Value::Boolean(false)),
            "null" => Some(Value::Null),
            "inf" | "-inf" | "nan" => Some(text.clone()),
            _ => None,
        };
        if let Some(value) = bare_keyword {
            self.problem(
                span,
                &format!("`{word}` must be written `#{word}`"),
                "put it in quotes if the text is meant",
            );
            return value;
        }
        if !looks_like_number(&word) {
            return text;
        }
        number(&word).unwrap_or_else(|| {
            let message = format!("`{}` is not a number", shorten(&word));
            let help = format!(
                "put it in quotes if a text is meant: \"{}\"",
                shorten(&word)
            );
            self.problem(span, &message, &help);
            text
        })
    }

    fn keyword(&mut self, token: Token) -> Value {
        match self.written(token) {
            "#true" => Value::Boolean(true),
            "#false" => Value::Boolean(false),
            "#null" => Value::Null,
            "#inf" => Value::Float(f64::INFINITY),
            "#-inf" => Value::Float(f64::NEG_INFINITY),
            "#nan" => Value::Float(f64::NAN),
            other => {
                let message = format!("`{}` is not a keyword", shorten(other));
                let span = self.span(token);
                self.problem(
                    span,
                    &message,
                    "the keywords are #true, #false, #null, #inf, #-inf and #nan",
                );
                Value::Null
            }
        }
    }
}
