//! KDL v2 (<https://kdl.dev/spec>): text to tokens to a tree of nodes with places.
//!
//! Every step is linear in the length of the text and goes on after a mistake, so that one run
//! finds all of them. Nothing here knows what a node means.

mod characters;
mod number;
#[cfg(test)]
mod oracle;
mod text;
mod token;
mod tree;

pub(crate) use characters::{has_newline, is_blank, lines};
pub(crate) use text::{PlacedText, has_space_escape};
pub(crate) use token::{Token, TokenKind, tokens};
pub(crate) use tree::{shorten, tree};

use crate::{Span, Spanned};

/// `name value key=value { … }`
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The annotation before the name, `(annotation)name`.
    pub(crate) annotation: Option<Spanned<String>>,
    /// The first word.
    pub(crate) name: Spanned<String>,
    /// Values and properties, in order.
    pub(crate) entries: Vec<Entry>,
    /// What stands between the braces; `None` without braces.
    pub(crate) children: Option<Vec<Node>>,
    /// From the name to the closing brace.
    pub(crate) span: Span,
}

/// A value, or a property: a value with a key.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The key of a property.
    pub(crate) key: Option<Spanned<String>>,
    /// The annotation before the value, `(annotation)value`.
    pub(crate) annotation: Option<Spanned<String>>,
    /// The value.
    pub(crate) value: Value,
    /// The value, quotes included, without key and annotation.
    pub(crate) span: Span,
}

/// A value of the syntax.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A bare word or a string of any form.
    Text(PlacedText),
    /// A number without fraction or exponent.
    Integer(i128),
    /// A number with fraction or exponent, or `#inf`, `#-inf`, `#nan`.
    Float(f64),
    /// `#true` or `#false`.
    Boolean(bool),
    /// `#null`
    Null,
}

/// Deepest nesting of blocks that is read.
pub(crate) const DEEPEST: usize = 64;

/// Longest text that is read, in bytes.
pub(crate) const LONGEST: usize = 1 << 20;
