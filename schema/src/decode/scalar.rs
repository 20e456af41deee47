//! The types of values: how each is read, named and shown.

use super::{Reader, nearest};
use crate::{
    Argument, ByteSize, Diagnostic, Literal, Name, Span, Spanned, Template, Text, codes,
    kind::HeaderValue,
    syntax::{Entry, PlacedText, Value, shorten},
};
use std::time::Duration;

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
pub(super) fn name(text: &str, span: Span, reader: &mut Reader) -> Option<Name> {
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

impl Scalar for bool {
    fn word() -> String {
        "`#true` or `#false`".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        without_annotation(reader, entry)?;
        match entry.value {
            Value::Boolean(value) => Some(value),
            _ => {
                wrong_type(reader, entry, "#true or #false");
                None
            }
        }
    }

    fn show(&self) -> String {
        format!("#{self}")
    }

    fn stand_in(_: Span) -> Self {
        false
    }
}

fn integer<T: TryFrom<i128>>(entry: &Entry, reader: &mut Reader) -> Option<T> {
    without_annotation(reader, entry)?;
    let Value::Integer(value) = entry.value else {
        wrong_type(reader, entry, "a whole number");
        return None;
    };
    let fitting = T::try_from(value).ok();
    if fitting.is_none() {
        reader.report(|| {
            let help = if value < 0 {
                "it cannot be negative"
            } else {
                "it is too large"
            };
            let message = format!("{value} is out of range");
            Diagnostic::error(codes::OUT_OF_RANGE, message, entry.span).help(help)
        });
    }
    fitting
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Scalar for $type {
            fn word() -> String {
                "a whole number".to_owned()
            }

            fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
                integer(entry, reader)
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn stand_in(_: Span) -> Self {
                0
            }
        }
    )*};
}

whole_number!(u16, u32, u64);

impl Scalar for f64 {
    fn word() -> String {
        "a number".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        without_annotation(reader, entry)?;
        match entry.value {
            Value::Integer(value) => Some(value as f64),
            Value::Float(value) if value.is_finite() => Some(value),
            Value::Float(value) => {
                reader.report(|| {
                    let message = format!("{value} is out of range");
                    Diagnostic::error(codes::OUT_OF_RANGE, message, entry.span)
                        .help("write a finite number")
                });
                None
            }
            _ => {
                wrong_type(reader, entry, "a number");
                None
            }
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn stand_in(_: Span) -> Self {
        0.0
    }
}

/// Units of time and their lengths in seconds, longest first.
const DURATIONS: [(&str, f64); 6] = [
    ("d", 86_400.0),
    ("h", 3_600.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 1e-3),
    ("us", 1e-6),
];

/// Units of size and their bytes, largest first.
const SIZES: [(&str, f64); 9] = [
    ("TiB", (1u64 << 40) as f64),
    ("TB", 1e12),
    ("GiB", (1u64 << 30) as f64),
    ("GB", 1e9),
    ("MiB", (1u64 << 20) as f64),
    ("MB", 1e6),
    ("KiB", 1024.0),
    ("kB", 1e3),
    ("B", 1.0),
];

/// A number and a unit of `units`, in the base unit; a problem is reported otherwise.
fn measured(
    entry: &Entry,
    reader: &mut Reader,
    what: &str,
    example: &str,
    units: &[(&'static str, f64)],
) -> Option<f64> {
    let text = match &entry.value {
        Value::Integer(_) | Value::Float(_) => None,
        _ => Some(plain_text(
            entry,
            reader,
            &format!("{what} such as \"{example}\""),
        )?),
    };
    let split = text.and_then(|text| {
        let text = text.text.trim();
        let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..unit].parse().ok()?;
        let unit = text[unit..].trim_start();
        let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
        Some(number * factor)
    });
    if split.is_none() {
        reader.report(|| {
            let message = match text {
                Some(text) => format!("\"{}\" is not {what}", shorten(&text.text)),
                None => format!("{what} needs a unit"),
            };
            let names: Vec<&str> = units.iter().rev().map(|(name, _)| *name).collect();
            let help = format!(
                "write {what} such as \"{example}\"; units: {}",
                names.join(", ")
            );
            Diagnostic::error(codes::WRONG_UNIT, message, entry.span).help(help)
        });
    }
    split
}

impl Scalar for Duration {
    fn word() -> String {
        "a duration".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        let seconds = measured(entry, reader, "a duration", "5s", &DURATIONS)?;
        // Longer ones are mistakes, and sums of deadlines must not overflow.
        const LONGEST: f64 = 3_660.0 * 86_400.0;
        if seconds > LONGEST {
            reader.report(|| {
                Diagnostic::error(codes::OUT_OF_RANGE, "the duration is too long", entry.span)
                    .help("the most is ten years")
            });
            return None;
        }
        // Whole nanoseconds, so that "0.1s" and "100ms" are equal.
        Some(Duration::from_nanos((seconds * 1e9).round() as u64))
    }

    fn show(&self) -> String {
        if self.is_zero() {
            return "\"0s\"".to_owned();
        }
        let nanos = self.as_nanos();
        let whole = DURATIONS.iter().find_map(|(unit, seconds)| {
            let length = (seconds * 1e9) as u128;
            nanos
                .is_multiple_of(length)
                .then(|| format!("\"{}{unit}\"", nanos / length))
        });
        whole.unwrap_or_else(|| format!("\"{}s\"", self.as_secs_f64()))
    }

    fn stand_in(_: Span) -> Self {
        Duration::ZERO
    }
}

impl Scalar for ByteSize {
    fn word() -> String {
        "a size".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        let bytes = measured(entry, reader, "a size", "512MiB", &SIZES)?;
        // Above 2^53 a number no longer holds every count of bytes.
        const LARGEST: f64 = (1u64 << 53) as f64;
        if bytes > LARGEST {
            reader.report(|| {
                Diagnostic::error(codes::OUT_OF_RANGE, "the size is too large", entry.span)
                    .help("the most is 8192TiB")
            });
            return None;
        }
        Some(ByteSize(bytes.round() as u64))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }

    fn stand_in(_: Span) -> Self {
        ByteSize(0)
    }
}

impl Scalar for Literal {
    fn word() -> String {
        "a constant".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        without_annotation(reader, entry)?;
        match &entry.value {
            Value::Text(_) => {
                let text = constant_text(entry, reader, "a constant")?;
                Some(Literal::Text(text.text.clone()))
            }
            Value::Integer(value) => {
                let value = i64::try_from(*value);
                if value.is_err() {
                    integer::<i64>(entry, reader);
                }
                value.ok().map(Literal::Integer)
            }
            Value::Float(_) => f64::read(entry, reader).map(Literal::Number),
            Value::Boolean(value) => Some(Literal::Boolean(*value)),
            Value::Null => Some(Literal::Null),
        }
    }

    fn show(&self) -> String {
        match self {
            Literal::Text(text) => text.show(),
            Literal::Integer(value) => value.to_string(),
            Literal::Number(value) => value.to_string(),
            Literal::Boolean(value) => value.show(),
            Literal::Null => "#null".to_owned(),
        }
    }

    fn stand_in(_: Span) -> Self {
        Literal::Null
    }
}

impl Scalar for Argument {
    fn word() -> String {
        "a value or a template".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        if let Value::Text(text) = &entry.value
            && is_template(&text.text)
        {
            without_annotation(reader, entry)?;
            let places = text.places.clone();
            let template = Template::new(text.text.clone(), entry.span, places);
            return Some(Argument::Template(template));
        }
        let literal = Literal::read(entry, reader)?;
        Some(Argument::Literal(Spanned::new(literal, entry.span)))
    }

    fn show(&self) -> String {
        match self {
            Argument::Literal(literal) => literal.show(),
            Argument::Template(template) => template.text().to_owned().show(),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Argument::Literal(literal) => match literal.value {
                Literal::Integer(value) => Some(value as f64),
                Literal::Number(value) => Some(value),
                _ => None,
            },
            Argument::Template(_) => None,
        }
    }

    fn stand_in(place: Span) -> Self {
        Argument::Literal(Spanned::new(Literal::Null, place))
    }
}
