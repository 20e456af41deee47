//! Constants of any type, and what may be a template.

use super::{Scalar, constant_text, is_template, number::integer, without_annotation};
use crate::{
    Argument, Literal, Span, Spanned, Template,
    decode::Reader,
    syntax::{Entry, Value},
};

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
