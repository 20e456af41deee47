//! Filters as Qdrant's conditions. An element of a list satisfies a condition there as here.

use crate::{
    Filter, NodeError,
    filter::{Condition, Scalar, Test},
};
use serde_json::{Value as Json, json};
use std::ops::Bound;

/// Whole numbers beyond this are not told apart as floats.
const EXACT: i64 = 1 << 53;

/// The filter as Qdrant takes it, over the payload's field of metadata.
///
/// # Errors
/// What Qdrant cannot compare: the order of texts, and a name with quotes.
pub(super) fn filter(filter: &Filter, metadata: &str) -> Result<Json, NodeError> {
    let conditions = filter.conditions().iter();
    let must = conditions.map(|condition| of_condition(condition, metadata));
    let must: Vec<_> = must.collect::<Result<_, _>>()?;
    Ok(json!({ "must": must }))
}

fn of_condition(condition: &Condition, metadata: &str) -> Result<Json, NodeError> {
    let key = key(metadata, &condition.field)?;
    match &condition.test {
        Test::AnyOf(values) => {
            let texts: Vec<_> = values
                .iter()
                .filter_map(|value| match value {
                    Scalar::Text(text) => Some(&**text),
                    _ => None,
                })
                .collect();
            let mut should = Vec::new();
            if !texts.is_empty() {
                should.push(json!({ "key": key, "match": { "any": texts } }));
            }
            should.extend(values.iter().filter_map(|value| equal(&key, value)));
            Ok(match should.len() {
                1 => should.remove(0),
                _ => json!({ "should": should }),
            })
        }
        Test::Within(low, high) => {
            let mut range = serde_json::Map::new();
            for (bound, closed, open) in [(low, "gte", "gt"), (high, "lte", "lt")] {
                let (name, value) = match bound {
                    Bound::Included(value) => (closed, value),
                    Bound::Excluded(value) => (open, value),
                    Bound::Unbounded => continue,
                };
                if matches!(value, Scalar::Text(_)) {
                    let reason = format!(
                        "Qdrant does not compare texts by their order, as the filter on {:?} does",
                        condition.field
                    );
                    return Err(NodeError::invalid(reason));
                }
                range.insert(name.to_owned(), value.to_json());
            }
            Ok(json!({ "key": key, "range": range }))
        }
    }
}

/// The condition for one value that is no text. A number is looked for as a range, which finds whole
/// numbers and floats alike.
fn equal(key: &str, value: &Scalar) -> Option<Json> {
    match value {
        Scalar::Text(_) => None,
        Scalar::Integer(value) if value.unsigned_abs() > EXACT.unsigned_abs() => {
            Some(json!({ "key": key, "match": { "value": value } }))
        }
        Scalar::Boolean(value) => Some(json!({ "key": key, "match": { "value": value } })),
        number => {
            let number = number.to_json();
            Some(json!({ "key": key, "range": { "gte": number, "lte": number } }))
        }
    }
}

/// The path of a field inside of the metadata.
///
/// # Errors
/// A name that cannot be written in a path.
pub(super) fn key(metadata: &str, field: &str) -> Result<String, NodeError> {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if !field.is_empty() && field.chars().all(plain) {
        return Ok(format!("{metadata}.{field}"));
    }
    if field.contains(['"', '\\']) {
        let reason = format!("Qdrant cannot filter by a field with the name {field:?}");
        return Err(NodeError::invalid(reason));
    }
    Ok(format!("{metadata}.\"{field}\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    fn of(json: &str) -> Result<Json, String> {
        let value = Value::from_json(json.as_bytes()).unwrap();
        let Value::Map(map) = value else {
            panic!("{json} is a map")
        };
        let given = Filter::from_map(&map).unwrap();
        filter(&given, "metadata").map_err(|error| error.to_string())
    }

    #[test]
    fn filters_become_conditions() {
        let cases = [
            (
                r#"{"kind": "kitchen"}"#,
                json!([{ "key": "metadata.kind", "match": { "any": ["kitchen"] } }]),
            ),
            (
                r#"{"kind": ["a", "b", 1, true]}"#,
                json!([{ "should": [
                    { "key": "metadata.kind", "match": { "any": ["a", "b"] } },
                    { "key": "metadata.kind", "range": { "gte": 1, "lte": 1 } },
                    { "key": "metadata.kind", "match": { "value": true } },
                ] }]),
            ),
            (
                r#"{"year": {"gt": 2019, "lte": 2.5}, "a.b": 9007199254740993}"#,
                json!([
                    { "key": "metadata.year", "range": { "gt": 2019, "lte": 2.5 } },
                    { "key": "metadata.\"a.b\"", "match": { "value": 9_007_199_254_740_993_i64 } },
                ]),
            ),
        ];
        for (given, must) in cases {
            assert_eq!(of(given).unwrap(), json!({ "must": must }), "{given}");
        }
        assert!(of(r#"{"t": {"gte": "a"}}"#).unwrap_err().contains("order"));
        assert!(of(r#"{"t\"": 1}"#).unwrap_err().contains("cannot filter"));
    }
}
