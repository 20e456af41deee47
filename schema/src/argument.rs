//! What is filled in for each request: literals and templates.

use crate::{Span, Spanned};

/// A constant as written in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A text without template syntax.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// `#true` or `#false`.
    Boolean(bool),
    /// `#null`
    Null,
}

/// A value that a node takes for each request: a constant, or a template over the request and the
/// results of other nodes.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// A constant.
    Literal(Spanned<Literal>),
    /// A text with `{{ … }}` or `{% … %}` in it.
    Template(Template),
}

impl Argument {
    /// A constant that is not written anywhere.
    pub fn constant(literal: Literal) -> Self {
        Argument::Literal(Spanned::new(literal, Span::default()))
    }

    /// Where it was written.
    pub fn span(&self) -> Span {
        match self {
            Argument::Literal(literal) => literal.span,
            Argument::Template(template) => template.span(),
        }
    }
}

/// The text of a Jinja template and where each of its bytes stands in the file.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    span: Span,
    /// `(offset in text, offset in file)` at each point where the two stop advancing together:
    /// after escapes, and at the dedented line starts of a multi-line string. Sorted.
    places: Vec<(u32, u32)>,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Template {
    /// A template with its content, the place of the whole string with its quotes, and the points
    /// at which content and file stop advancing together. The first point is that of offset 0;
    /// where two have the same offset in the content, the first says where the file's writing of
    /// what is before ends, and the second where that of what comes after begins.
    pub fn new(text: String, span: Span, places: Vec<(u32, u32)>) -> Self {
        Self { text, span, places }
    }

    /// The template's text, escapes resolved and indentation removed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole string, quotes included.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The place in the file of a range of the template's text.
    pub fn place(&self, range: std::ops::Range<usize>) -> Span {
        let start = self.file_offset(range.start);
        // The end is that of the last byte, so that a range up to a line break stays on its line.
        // Where an escape ends, the first of the points there is its end in the file.
        let ends = self
            .places
            .partition_point(|(text, _)| (*text as usize) < range.end);
        let end = match self.places.get(ends) {
            _ if range.end <= range.start => start,
            Some((text, file)) if *text as usize == range.end => *file as usize,
            _ => self.file_offset(range.end - 1) + 1,
        };
        Span::new(self.span.source, start, end.max(start))
    }

    fn file_offset(&self, offset: usize) -> usize {
        let after = self
            .places
            .partition_point(|(text, _)| *text as usize <= offset);
        match after.checked_sub(1).map(|index| self.places[index]) {
            Some((text, file)) => file as usize + (offset - text as usize),
            None => self.span.start as usize,
        }
    }
}
