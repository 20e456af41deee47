//! What filters yield.

use crate::types::{Field, element, field, join, required};
use schema::Type;

/// The arguments of a filter, by type; literal texts with their content.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) positional: Vec<(Type, Option<String>)>,
    pub(crate) named: Vec<(String, Type, Option<String>)>,
}

impl Given {
    /// The literal text of the argument at a place or of a name.
    pub(crate) fn text(&self, index: usize, name: &str) -> Option<&str> {
        let named = self.named.iter().find(|(other, ..)| other == name);
        let positional = self
            .positional
            .get(index)
            .and_then(|(_, text)| text.as_deref());
        named.and_then(|(.., text)| text.as_deref()).or(positional)
    }
}

/// The type that the filter yields for a value of type `base`.
pub(crate) fn result(filter: &str, base: &Type, given: &Given) -> Type {
    let (bare, may_be_none) = required(base.clone());
    match filter {
        "length" | "count" | "int" => Type::Integer,
        "float" => Type::Number,
        "bool" => Type::Boolean,
        "join" | "trim" | "upper" | "lower" | "title" | "capitalize" | "replace" | "indent"
        | "string" | "tojson" | "json" | "escape" | "e" | "safe" | "format" | "pprint"
        | "urlencode" => Type::Text,
        "split" | "lines" => Type::list(Type::Text),
        "round" => match (&bare, given.positional.is_empty()) {
            (Type::Integer, _) => Type::Integer,
            _ => Type::Number,
        },
        "abs" => bare,
        "default" | "d" => {
            let other = given.positional.first();
            let other = other.map_or(Type::Text, |(other, _)| other.clone());
            match (bare, may_be_none) {
                (Type::Any, _) => Type::Any,
                (bare, _) => join(bare, other),
            }
        }
        "first" | "last" | "min" | "max" => element(&bare).unwrap_or(Type::Any),
        "sum" if given.text(0, "attribute").is_some() => Type::Number,
        "sum" => match element(&bare) {
            Some(Type::Integer) => Type::Integer,
            Some(Type::Any) | None => Type::Any,
            Some(_) => Type::Number,
        },
        "list" | "select" | "reject" | "selectattr" | "rejectattr" | "unique" | "sort" => {
            elements(&bare)
        }
        "reverse" => match bare {
            Type::Text | Type::Choice(_) | Type::TextStream => Type::Text,
            bare => elements(&bare),
        },
        "batch" | "slice" => Type::list(elements(&bare)),
        "map" => Type::list(mapped(&bare, given)),
        "chain" => given
            .positional
            .iter()
            .fold(elements(&bare), |all, (more, _)| join(all, elements(more))),
        "items" | "dictsort" | "zip" | "groupby" => Type::list(Type::list(Type::Any)),
        "attr" => match given.text(0, "name").map(|name| field(&bare, name)) {
            Some(Field::Is(found)) => found,
            _ => Type::Any,
        },
        _ => Type::Any,
    }
}

fn elements(list: &Type) -> Type {
    Type::list(element(list).unwrap_or(Type::Any))
}

/// What `map` makes of each element.
fn mapped(list: &Type, given: &Given) -> Type {
    let element = element(list).unwrap_or(Type::Any);
    let attribute = given.named.iter().find(|(name, ..)| name == "attribute");
    match attribute {
        Some((.., Some(attribute))) => {
            let steps = attribute.split('.');
            steps.fold(element, |found, step| match field(&found, step) {
                Field::Is(found) => found,
                _ => Type::Any,
            })
        }
        Some(_) => Type::Any,
        None => match given.positional.split_first() {
            Some(((_, Some(filter)), rest)) => {
                let rest = Given {
                    positional: rest.to_vec(),
                    named: Vec::new(),
                };
                // `map('map', 'map', …)`: one level is enough to know.
                match filter.as_str() {
                    "map" => Type::Any,
                    filter => result(filter, &element, &rest),
                }
            }
            _ => Type::Any,
        },
    }
}

/// The argument that names an attribute of the elements: its place, or the keyword.
pub(crate) fn attribute_argument(filter: &str) -> Option<usize> {
    match filter {
        "selectattr" | "rejectattr" | "groupby" | "sum" => Some(0),
        "join" => Some(1),
        "map" | "sort" | "unique" | "min" | "max" => Some(usize::MAX),
        _ => None,
    }
}

/// The argument that names a test.
pub(crate) fn names_test(filter: &str) -> Option<usize> {
    match filter {
        "select" | "reject" => Some(0),
        "selectattr" | "rejectattr" => Some(1),
        _ => None,
    }
}

/// Whether the filter goes through the elements of its value.
pub(crate) fn wants_elements(filter: &str) -> bool {
    matches!(
        filter,
        "length"
            | "count"
            | "join"
            | "first"
            | "last"
            | "min"
            | "max"
            | "sum"
            | "list"
            | "select"
            | "reject"
            | "selectattr"
            | "rejectattr"
            | "unique"
            | "sort"
            | "reverse"
            | "batch"
            | "slice"
            | "map"
            | "groupby"
    )
}
