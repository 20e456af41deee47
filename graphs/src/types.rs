//! Calculations with types: what two branches have in common, what an element or a field is.

use schema::{Name, Type};

/// How many parts a type may have before it is taken for its outline. Types grow with every node
/// that puts others together; without a bound, doubling in each of 40 nodes would never end.
const MAX_PARTS: usize = 64;

/// The type of a literal none: nothing, and never something.
pub(crate) fn nothing() -> Type {
    Type::Option(Box::new(Type::Choice(Vec::new())))
}

/// Whether a value of this type is always none.
pub(crate) fn is_nothing(value_type: &Type) -> bool {
    matches!(value_type, Type::Option(some) if matches!(&**some, Type::Choice(cases) if cases.is_empty()))
}

/// The type as it is shown to others: of a none that is never something nothing more is known.
pub(crate) fn shown(value_type: Type) -> Type {
    match is_nothing(&value_type) {
        true => Type::Option(Box::new(Type::Any)),
        false => value_type,
    }
}

/// `value_type`, or none.
pub(crate) fn optional(value_type: Type) -> Type {
    match value_type {
        Type::Any => Type::Any,
        Type::Option(_) => value_type,
        other => Type::Option(Box::new(other)),
    }
}

/// The type without the possibility of none, and whether there was one.
pub(crate) fn required(value_type: Type) -> (Type, bool) {
    match value_type {
        Type::Option(some) => (*some, true),
        other => (other, false),
    }
}

/// The narrowest type that both fit.
pub(crate) fn join(a: Type, b: Type) -> Type {
    use Type::*;
    match (a, b) {
        (a, b) if a == b => a,
        (a, b) if is_nothing(&a) => optional(b),
        (a, b) if is_nothing(&b) => optional(a),
        (Any, _) | (_, Any) => Any,
        (Option(a), Option(b)) => optional(join(*a, *b)),
        (Option(a), b) | (b, Option(a)) => optional(join(*a, b)),
        (Choice(mut cases), Choice(more)) => {
            let seen: std::collections::HashSet<String> = cases.iter().cloned().collect();
            cases.extend(more.into_iter().filter(|case| !seen.contains(case)));
            Choice(cases)
        }
        (Text | Choice(_) | TextStream, Text | Choice(_) | TextStream) => Text,
        (Integer | Number, Integer | Number) => Number,
        (Vector(_), Vector(_)) => Vector(None),
        (List(a), List(b)) => Type::list(join(*a, *b)),
        (Map | Record(_) | Document, Map | Record(_) | Document) => Map,
        _ => Any,
    }
}

/// What a loop over a value of this type sees; `None` where there is nothing to loop over.
pub(crate) fn element(value_type: &Type) -> Option<Type> {
    match value_type {
        Type::Any => Some(Type::Any),
        Type::List(element) => Some((**element).clone()),
        Type::Vector(_) => Some(Type::Number),
        Type::Option(some) => element(some),
        Type::Text | Type::Choice(_) | Type::TextStream => Some(Type::Text),
        Type::Map | Type::Record(_) | Type::Document => Some(Type::Text),
        Type::Number | Type::Integer | Type::Boolean => None,
    }
}

/// What the field of a value is.
#[derive(Debug, PartialEq)]
pub(crate) enum Field {
    /// It is there.
    Is(Type),
    /// It is not one of these.
    Unknown(Vec<String>),
    /// The value has no fields at all.
    NoFields,
}

/// The field `name`, in template spelling, of a value of this type.
pub(crate) fn field(value_type: &Type, name: &str) -> Field {
    match value_type {
        Type::Any | Type::Map => Field::Is(Type::Any),
        Type::Option(some) => match field(some, name) {
            Field::Is(found) => Field::Is(optional(found)),
            other => other,
        },
        Type::Document => match DOCUMENT.iter().find(|(field, _)| *field == name) {
            Some((_, found)) => Field::Is(found.clone()),
            None => Field::Unknown(DOCUMENT.iter().map(|(field, _)| (*field).into()).collect()),
        },
        Type::Record(fields) => {
            match fields.iter().find(|(field, _)| field.in_template() == name) {
                Some((_, found)) => Field::Is(found.clone()),
                None => Field::Unknown(
                    fields
                        .iter()
                        .map(|(field, _)| field.in_template())
                        .collect(),
                ),
            }
        }
        _ => Field::NoFields,
    }
}

/// The fields of a document.
const DOCUMENT: [(&str, Type); 4] = [
    ("id", Type::Text),
    ("text", Type::Text),
    ("score", Type::Number),
    ("metadata", Type::Map),
];

/// What `loop` is inside a `{% for %}`.
pub(crate) fn loop_variable(element: &Type) -> Type {
    let mut fields: Vec<(Name, Type)> = ["index", "index0", "revindex", "revindex0", "length"]
        .into_iter()
        .chain(["depth", "depth0"])
        .map(|name| (Name::new(name), Type::Integer))
        .collect();
    for name in ["first", "last"] {
        fields.push((Name::new(name), Type::Boolean));
    }
    for name in ["previtem", "nextitem"] {
        fields.push((Name::new(name), optional(element.clone())));
    }
    Type::Record(fields)
}

/// The type itself if it is small, otherwise its outline.
pub(crate) fn bounded(value_type: &Type) -> Type {
    if parts(value_type, MAX_PARTS) > 0 {
        return value_type.clone();
    }
    match value_type {
        Type::Choice(_) => Type::Text,
        Type::Record(_) => Type::Map,
        Type::List(_) => Type::list(Type::Any),
        Type::Option(some) => optional(bounded(some)),
        other => other.clone(),
    }
}

/// What is left of `room` after the parts of the type; 0 if it does not suffice.
fn parts(value_type: &Type, room: usize) -> usize {
    if room == 0 {
        return 0;
    }
    match value_type {
        Type::Choice(cases) => room.saturating_sub(cases.len() + 1),
        Type::List(inner) | Type::Option(inner) => parts(inner, room - 1),
        Type::Record(fields) => fields
            .iter()
            .fold(room - 1, |room, (_, field)| parts(field, room)),
        _ => room - 1,
    }
}
