//! Texts: plain ones, secrets, and names.

use super::{Scalar, constant_text, plain_text};
use crate::{
    Argument, Diagnostic, Name, Span, Text, codes,
    decode::Reader,
    kind::HeaderValue,
    syntax::{Entry, shorten},
};

impl Scalar for String {
    fn word() -> String {
        "a text".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        plain_text(entry, reader, "a text").map(|text| text.text.clone())
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }

    fn stand_in(_: Span) -> Self {
        String::new()
    }

    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl Scalar for Text {
    fn word() -> String {
        "a text or `(env)`".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        let from_environment = entry
            .annotation
            .as_ref()
            .is_some_and(|annotation| annotation.value == "env");
        if !from_environment {
            return plain_text(entry, reader, "a text").map(|text| Text::plain(&*text.text));
        }
        let name = constant_text(entry, reader, "the name of an environment variable")?;
        let value = (reader.environment)(&name.text);
        if value.is_none() {
            reader.report(|| {
                let message = format!(
                    "the environment variable \"{}\" is not set",
                    shorten(&name.text)
                );
                Diagnostic::error(codes::MISSING_VARIABLE, message, entry.span)
                    .help("set it where the engine is started, or correct its name")
            });
        }
        value.map(Text::secret)
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }

    fn stand_in(_: Span) -> Self {
        Text::plain("")
    }
}

impl Scalar for HeaderValue {
    fn word() -> String {
        "a value, a template or `(env)`".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        match entry.annotation {
            Some(_) => Text::read(entry, reader).map(HeaderValue::Secret),
            None => Argument::read(entry, reader).map(HeaderValue::Argument),
        }
    }

    fn show(&self) -> String {
        match self {
            HeaderValue::Argument(argument) => argument.show(),
            HeaderValue::Secret(text) => text.show(),
        }
    }

    fn stand_in(place: Span) -> Self {
        HeaderValue::Argument(Argument::stand_in(place))
    }
}

impl Scalar for Name {
    fn word() -> String {
        "a name".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        let text = plain_text(entry, reader, "a name")?;
        name(&text.text, entry.span, reader)
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn stand_in(_: Span) -> Self {
        Name::new("")
    }
}

/// `text` as a name; reported if it cannot be one.
pub(in crate::decode) fn name(text: &str, span: Span, reader: &mut Reader) -> Option<Name> {
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphabetic());
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if starts_well && text.chars().all(allowed) {
        return Some(Name::new(text));
    }
    reader.report(|| {
        let message = format!("\"{}\" cannot be a name", shorten(text));
        Diagnostic::error(codes::BAD_NAME, message, span)
            .help("a name has letters a to z, digits, `-` and `_`, and begins with a letter")
    });
    None
}
