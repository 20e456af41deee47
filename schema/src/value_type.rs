//! The types of what flows along edges.

use crate::Name;
use std::fmt;

/// The type of a port, of a request's field, or of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Not known before it runs: JSON from a service, metadata, a Python function's result.
    Any,
    /// A text.
    Text,
    /// A text that is one of these; what a `switch` yields.
    Choice(Vec<String>),
    /// A text that arrives piece by piece. Fits wherever a text does: it is collected then.
    TextStream,
    /// A floating-point number; an integer fits too.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// Floating-point numbers of this many dimensions, if known.
    Vector(Option<usize>),
    /// A passage: `id`, `text`, `score` and `metadata`.
    Document,
    /// A sequence.
    List(Box<Type>),
    /// A map with these fields; other names are errors.
    Record(Vec<(Name, Type)>),
    /// A map with names that are not known before it runs.
    Map,
    /// Nothing: what a skipped node yields. `Option(T)` is a T or nothing.
    Option(Box<Type>),
}

impl Type {
    /// A list of `element`.
    pub fn list(element: Type) -> Self {
        Type::List(Box::new(element))
    }

    /// A list of documents, as `search` and `rerank` yield it.
    pub fn documents() -> Self {
        Type::list(Type::Document)
    }

    /// Whether a value of this type can be given where `wanted` is expected.
    pub fn fits(&self, wanted: &Type) -> bool {
        use Type::*;
        match (self, wanted) {
            (Any, _) | (_, Any) => true,
            (Choice(_) | TextStream, Text) | (Integer, Number) => true,
            (Choice(have), Choice(want)) => have.iter().all(|case| want.contains(case)),
            (Vector(Some(have)), Vector(Some(want))) => have == want,
            (Vector(_), Vector(_)) => true,
            (Vector(_), List(element)) => Number.fits(element),
            (List(element), Vector(_)) => matches!(**element, Number | Integer | Any),
            (List(have), List(want)) => have.fits(want),
            (Document | Record(_), Map) | (Map, Record(_) | Document) => true,
            (Record(have), Record(want)) => want.iter().all(|(name, want)| {
                have.iter()
                    .any(|(other, have)| other == name && have.fits(want))
            }),
            (Option(have), Option(want)) => have.fits(want),
            (have, Option(want)) => have.fits(want),
            (have, want) => have == want,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => f.write_str("any"),
            Type::Text => f.write_str("text"),
            Type::Choice(cases) => write!(f, "one of {}", cases.join(", ")),
            Type::TextStream => f.write_str("stream of text"),
            Type::Number => f.write_str("number"),
            Type::Integer => f.write_str("integer"),
            Type::Boolean => f.write_str("boolean"),
            Type::Vector(Some(size)) => write!(f, "vector of {size}"),
            Type::Vector(None) => f.write_str("vector"),
            Type::Document => f.write_str("document"),
            Type::List(element) if **element == Type::Document => f.write_str("documents"),
            Type::List(element) => write!(f, "list of {element}"),
            Type::Record(_) | Type::Map => f.write_str("map"),
            Type::Option(some) => write!(f, "{some} or none"),
        }
    }
}
