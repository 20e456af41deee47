//! Metadata as JSON, as an index stores it and as JSON lines bring it.

use crate::{Map, Value};
use serde_json::Value as Json;
use std::sync::Arc;

/// How deep metadata may be nested.
const DEEPEST: usize = 16;

/// Metadata as JSON text; the reason if it holds what JSON cannot.
pub(crate) fn write_map(map: &Map) -> Result<String, String> {
    map_to_json(map, 0).map(|json| json.to_string())
}

/// Metadata from JSON text; none if it is not a JSON object.
pub(crate) fn read_map(text: &str) -> Option<Map> {
    match serde_json::from_str(text).ok()? {
        Json::Object(fields) => Some(map_from_json(fields)),
        _ => None,
    }
}

/// A JSON object's fields as a map.
pub(crate) fn map_from_json(fields: serde_json::Map<String, Json>) -> Map {
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (name.into(), from_json(value)))
        .collect()
}

fn from_json(json: Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Boolean(value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::text(text),
        Json::Array(values) => Value::list(values.into_iter().map(from_json)),
        Json::Object(fields) => Value::Map(Arc::new(map_from_json(fields))),
    }
}

fn map_to_json(map: &Map, depth: usize) -> Result<Json, String> {
    let fields = map
        .iter()
        .map(|(name, value)| Ok((name.to_string(), to_json(value, depth + 1)?)));
    Ok(Json::Object(fields.collect::<Result<_, String>>()?))
}

fn to_json(value: &Value, depth: usize) -> Result<Json, String> {
    if depth > DEEPEST {
        return Err(format!("its metadata is nested more than {DEEPEST} deep"));
    }
    Ok(match value {
        Value::None => Json::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Number(value) if value.is_finite() => (*value).into(),
        Value::Text(text) => (**text).into(),
        Value::List(values) => {
            let values = values.iter().map(|value| to_json(value, depth + 1));
            Json::Array(values.collect::<Result<_, _>>()?)
        }
        Value::Map(map) => map_to_json(map, depth)?,
        other => {
            let what = other.type_name();
            return Err(format!(
                "its metadata holds a {what}, which cannot be stored"
            ));
        }
    })
}
