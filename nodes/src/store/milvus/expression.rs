//! Filters as expressions of Milvus. Values are literals in them, escaped; what cannot be said safely is
//! refused.

use crate::{
    Filter, NodeError,
    filter::{Condition, Scalar, Test},
};
use std::ops::Bound;

/// The filter as an expression over the fields of a collection: its own fields by their names, others
/// inside its field of metadata.
///
/// # Errors
/// A name that cannot be written, or nowhere to look for it.
pub(super) fn expression(
    filter: &Filter,
    fields: &[String],
    metadata: Option<&str>,
) -> Result<String, NodeError> {
    let conditions = filter.conditions().iter();
    let conditions = conditions.map(|condition| {
        let field = &*condition.field;
        if fields.iter().any(|own| own == field) {
            return Ok(of_field(field, condition));
        }
        let Some(metadata) = metadata else {
            let reason = format!("the collection has no field {field:?} to filter by");
            return Err(NodeError::invalid(reason));
        };
        // Inside of brackets Milvus takes a key as it is written, without escapes.
        if field.contains(['"', '\'', '\\', '[', ']']) || field.contains(char::is_control) {
            let reason = format!("Milvus cannot filter by a field with the name {field:?}");
            return Err(NodeError::invalid(reason));
        }
        Ok(of_metadata(&format!("{metadata}[\"{field}\"]"), condition))
    });
    let conditions: Vec<_> = conditions.collect::<Result<_, _>>()?;
    Ok(conditions.join(" and "))
}

fn of_field(field: &str, condition: &Condition) -> String {
    match &condition.test {
        Test::AnyOf(values) => {
            let values: Vec<_> = values.iter().map(literal).collect();
            format!("{field} in [{}]", values.join(", "))
        }
        Test::Within(low, high) => within(field, low, high),
    }
}

fn of_metadata(place: &str, condition: &Condition) -> String {
    match &condition.test {
        Test::AnyOf(values) => {
            // The value itself, or an element of a list.
            let values: Vec<_> = values.iter().map(literal).collect();
            let equal = values.iter().map(|value| format!("{place} == {value}"));
            let equal = any(equal.collect());
            format!(
                "({equal} or json_contains_any({place}, [{}]))",
                values.join(", ")
            )
        }
        Test::Within(low, high) => within(place, low, high),
    }
}

/// Expressions of which one must hold, as a tree: what is nested a hundred deep the server does not read.
fn any(mut forms: Vec<String>) -> String {
    while forms.len() > 2 {
        let pairs = forms.chunks(2).map(|pair| match pair {
            [one, other] => format!("({one} or {other})"),
            rest => rest.concat(),
        });
        forms = pairs.collect();
    }
    forms.join(" or ")
}

fn within(place: &str, low: &Bound<Scalar>, high: &Bound<Scalar>) -> String {
    let side = |bound: &Bound<Scalar>, closed: &str, open: &str| match bound {
        Bound::Included(value) => Some(format!("{place} {closed} {}", literal(value))),
        Bound::Excluded(value) => Some(format!("{place} {open} {}", literal(value))),
        Bound::Unbounded => None,
    };
    let sides = [side(low, ">=", ">"), side(high, "<=", "<")];
    let sides: Vec<_> = sides.into_iter().flatten().collect();
    format!("({})", sides.join(" and "))
}

fn literal(value: &Scalar) -> String {
    match value {
        Scalar::Boolean(value) => value.to_string(),
        Scalar::Integer(value) => value.to_string(),
        // With a point or an exponent, so that it stays a float.
        Scalar::Number(value) => format!("{value:?}"),
        Scalar::Text(text) => quoted(text),
    }
}

/// A text as a literal.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for character in text.chars() {
        match character {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            other => literal.push(other),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    fn of(json: &str) -> Result<String, String> {
        let value = Value::from_json(json.as_bytes()).unwrap();
        let Value::Map(map) = value else {
            panic!("{json} is a map")
        };
        let filter = Filter::from_map(&map).unwrap();
        expression(&filter, &["tenant".to_owned()], Some("metadata"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn filters_become_expressions() {
        let cases = [
            (
                r#"{"kind": "kitchen"}"#,
                r#"(metadata["kind"] == "kitchen" or json_contains_any(metadata["kind"], ["kitchen"]))"#,
            ),
            (
                r#"{"year": {"gte": 2020, "lt": 2.5e3}, "tenant": ["a", 1]}"#,
                r#"(metadata["year"] >= 2020 and metadata["year"] < 2500.0) and tenant in ["a", 1]"#,
            ),
            (
                r#"{"k": "a\" or 1 == 1 or \"\\\n"}"#,
                r#"(metadata["k"] == "a\" or 1 == 1 or \"\\\n" or json_contains_any(metadata["k"], ["a\" or 1 == 1 or \"\\\n"]))"#,
            ),
            (
                r#"{"open": {"gt": false}}"#,
                r#"(metadata["open"] == true or json_contains_any(metadata["open"], [true]))"#,
            ),
            (
                r#"{"n": [1, 2, 3, -4, 5]}"#,
                r#"(((metadata["n"] == 1 or metadata["n"] == 2) or (metadata["n"] == 3 or metadata["n"] == -4)) or metadata["n"] == 5 or json_contains_any(metadata["n"], [1, 2, 3, -4, 5]))"#,
            ),
        ];
        for (filter, expected) in cases {
            assert_eq!(of(filter).unwrap(), expected, "{filter}");
        }
    }

    #[test]
    fn names_that_could_leave_their_brackets_are_refused() {
        for name in ["a\\\"] == 1 or metadata[\\\"b", "a]", "it's", "\\\\"] {
            let filter = format!("{{\"{name}\": 1}}");
            assert!(
                of(&filter).unwrap_err().contains("cannot filter by"),
                "{name}"
            );
        }
    }
}
