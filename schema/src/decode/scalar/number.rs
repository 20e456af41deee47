//! Truth values and numbers.

use super::{Scalar, without_annotation, wrong_type};
use crate::{
    Diagnostic, Span, codes,
    decode::Reader,
    syntax::{Entry, Value},
};

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

pub(super) fn integer<T: TryFrom<i128>>(entry: &Entry, reader: &mut Reader) -> Option<T> {
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
