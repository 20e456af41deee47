//! The types of values: how each is read, named and shown.

mod argument;
mod measure;
mod number;
mod text;

pub(super) use text::name;

use super::{Reader, nearest};
use crate::{
    Diagnostic, Span, codes,
    syntax::{Entry, PlacedText, Value, shorten},
};

/// A type of value.
pub(crate) trait Scalar: Sized {
    /// What messages and the reference call it, with its article: `a duration such as "5s"`.
    fn word() -> String;

    /// Reads it; reports and yields nothing if it cannot be read.
    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self>;

    /// As it would be written in a file.
    fn show(&self) -> String;

    /// What stands for it where it is missing, so that the rest of the file can be checked.
    fn stand_in(place: Span) -> Self;

    /// It as a text, if it is one.
    fn text(&self) -> Option<&str> {
        None
    }

    /// It as a number, if it is a constant one.
    fn number(&self) -> Option<f64> {
        None
    }
}

/// An enum whose variants are words of the language.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// The words, what they stand for, and what that means.
    const CHOICES: &'static [(&'static str, Self, &'static str)];
}

impl<C: Choice> Scalar for C {
    fn word() -> String {
        let words = C::CHOICES.iter();
        let words = words.map(|(word, _, doc)| format!("`{word}` ({doc})"));
        words.collect::<Vec<_>>().join(", ")
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        let text = plain_text(entry, reader, "a word")?;
        let found = C::CHOICES.iter().find(|(word, ..)| *word == text.text);
        if found.is_none() {
            let words: Vec<&'static str> = C::CHOICES.iter().map(|(word, ..)| *word).collect();
            unknown_value(reader, &text.text, entry.span, &words);
        }
        found.map(|(_, value, _)| *value)
    }

    fn show(&self) -> String {
        let found = C::CHOICES.iter().find(|(_, value, _)| value == self);
        found.map_or(String::new(), |(word, ..)| (*word).to_owned())
    }

    fn stand_in(_: Span) -> Self {
        C::CHOICES[0].1
    }
}

/// Reports a text that is none of `known`.
pub(super) fn unknown_value(reader: &mut Reader, text: &str, span: Span, known: &[&'static str]) {
    reader.report(|| {
        let message = format!("\"{}\" is not known here", shorten(text));
        let help = match nearest(text, known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("it is one of: {}", known.join(", ")),
        };
        Diagnostic::error(codes::UNKNOWN_VALUE, message, span).help(help)
    });
}

fn wrong_type(reader: &mut Reader, entry: &Entry, wanted: &str) {
    reader.report(|| {
        let found = match &entry.value {
            Value::Text(_) => "a text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Null => "null",
        };
        let message = format!("expected {wanted}, found {found}");
        Diagnostic::error(codes::WRONG_TYPE, message, entry.span)
            .label(format!("this is {found}"))
            .help(format!("write {wanted}"))
    });
}

/// Refuses every annotation with a problem; what can be read from the environment does not ask.
fn without_annotation(reader: &mut Reader, entry: &Entry) -> Option<()> {
    let Some(annotation) = &entry.annotation else {
        return Some(());
    };
    reader.report(|| {
        let message = format!("`({})` cannot stand here", shorten(annotation));
        let help = if annotation.value == "env" {
            "only texts such as addresses, paths and keys are read from the environment"
        } else {
            "the only annotation is `(env)`, before the name of an environment variable"
        };
        Diagnostic::error(codes::UNKNOWN_ANNOTATION, message, annotation.span).help(help)
    });
    None
}

/// A text that is read once, when the file is loaded.
fn plain_text<'e>(entry: &'e Entry, reader: &mut Reader, wanted: &str) -> Option<&'e PlacedText> {
    without_annotation(reader, entry)?;
    constant_text(entry, reader, wanted)
}

fn constant_text<'e>(
    entry: &'e Entry,
    reader: &mut Reader,
    wanted: &str,
) -> Option<&'e PlacedText> {
    let Value::Text(text) = &entry.value else {
        wrong_type(reader, entry, wanted);
        return None;
    };
    if is_template(&text.text) {
        reader.report(|| {
            let message = "a template cannot stand here";
            Diagnostic::error(codes::TEMPLATE_NOT_ALLOWED, message, entry.span)
                .label("this is read once, when the file is loaded")
                .help("write a constant")
        });
        return None;
    }
    Some(text)
}

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|open| text.contains(open))
}
