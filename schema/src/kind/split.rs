//! `split`: text to pieces.

use super::Port;
use crate::{Argument, Spanned, Type};

/// Cuts a text into pieces of a bounded size.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The text.
    pub text: Argument,
    /// Where it may be cut. Default `paragraph`.
    pub by: SplitBy,
    /// Most characters of a piece. Default 1000.
    pub max_chars: Spanned<u32>,
    /// Characters of the piece before that a piece repeats. Default 0.
    pub overlap: Spanned<u32>,
}

/// Where a text may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SplitBy {
    /// Between paragraphs; within one only where it is too long.
    #[default]
    Paragraph,
    /// Between sentences.
    Sentence,
    /// Between lines.
    Line,
}

impl Split {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        vec![Port::new("text", Type::Text, &self.text)]
    }
}
