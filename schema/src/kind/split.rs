//! `split`: text to pieces.

use super::Port;
use crate::{
    Argument, Diagnostic, Spanned, Type, codes,
    decode::{Choice, Fields, block},
};

block! {
    /// Cuts a text into pieces of a bounded size.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Split {
        /// The text.
        pub text: Argument = option("text").required(),
        /// Where it may be cut.
        pub by: SplitBy = option("by").or(SplitBy::default()),
        /// Most characters of a piece.
        pub max_chars: Spanned<u32> = option("max-chars").at_least(1).or(1000),
        /// Characters of the piece before that a piece repeats.
        pub overlap: Spanned<u32> = option("overlap").or(0),
    }
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

impl Choice for SplitBy {
    const CHOICES: &'static [(&'static str, Self, &'static str)] = &[
        (
            "paragraph",
            SplitBy::Paragraph,
            "between paragraphs, within one only where it is too long",
        ),
        ("sentence", SplitBy::Sentence, "between sentences"),
        ("line", SplitBy::Line, "between lines"),
    ];
}

impl Split {
    pub(super) fn read(f: &mut Fields) -> Self {
        let split = Self::fields(f);
        if split.overlap.value >= split.max_chars.value {
            let (overlap, most) = (split.overlap, split.max_chars);
            f.report(|| {
                let message = "a piece repeats as many characters as it has";
                Diagnostic::error(codes::OUT_OF_RANGE, message, overlap.span)
                    .also(most.span, "most characters of a piece")
                    .help("make `overlap` smaller than `max-chars`")
            });
        }
        split
    }

    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        vec![Port::new("text", Type::Text, &self.text)]
    }
}
