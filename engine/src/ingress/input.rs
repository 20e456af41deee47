//! A request's body against the graph's declared input: every misfit at once.

use nodes::{Map, Misfit, Value};
use schema::{InputField, Type};
use std::{collections::HashMap, sync::Arc};

/// The fields of a request by their names in templates, with defaults filled in.
///
/// # Errors
/// Every field that is missing, unknown, or does not fit its declaration.
pub(super) fn fit(body: Value, fields: &[InputField]) -> Result<Value, Vec<Misfit>> {
    let Value::Map(given) = body else {
        let reason = format!("expected an object, got {}", body.type_name());
        return Err(vec![misfit("", reason)]);
    };
    let mut misfits = Vec::new();
    let mut given = by_name(&given, &mut misfits);
    let mut input = Map::with_capacity(fields.len());
    for field in fields {
        let name = field.id.value.in_template();
        let value = match given.remove(&name) {
            Some(value) if !value.is_none() => fit_field(value, field, &name, &mut misfits),
            Some(_) | None if field.default.is_some() || field.optional => {
                let default = field.default.as_ref();
                default.map_or(Value::None, |default| Value::from(&default.value))
            }
            // A field that takes anything takes null.
            Some(null) if field.value_type.value == Type::Any => null,
            Some(_) => {
                misfits.push(misfit(&name, "must not be null".into()));
                continue;
            }
            None => {
                misfits.push(misfit(&name, "is required".into()));
                continue;
            }
        };
        input.insert(name.into(), value);
    }
    let mut unknown: Vec<_> = given.into_keys().collect();
    unknown.sort();
    for name in unknown {
        let known: Vec<_> = fields
            .iter()
            .map(|field| field.id.value.in_template())
            .collect();
        let reason = format!("is not a field of the input, which has {}", list(&known));
        misfits.push(misfit(&name, reason));
    }
    if misfits.is_empty() {
        Ok(Value::Map(Arc::new(input)))
    } else {
        Err(misfits)
    }
}

/// The given fields in template spelling; `top-k` and `top_k` are the same field.
fn by_name(given: &Map, misfits: &mut Vec<Misfit>) -> HashMap<String, Value> {
    let mut fields = HashMap::with_capacity(given.len());
    for (name, value) in given {
        let name = name.replace('-', "_");
        if fields.insert(name.clone(), value.clone()).is_some() {
            misfits.push(misfit(&name, "is given twice".into()));
        }
    }
    fields
}

fn fit_field(value: Value, field: &InputField, name: &str, misfits: &mut Vec<Misfit>) -> Value {
    let before = misfits.len();
    let value = value.fit(&field.value_type.value, name, misfits);
    // Rules about a value of the wrong type would only repeat that it is wrong.
    if misfits.len() == before {
        let broken = rules(&value, field).into_iter();
        misfits.extend(broken.map(|reason| misfit(name, reason)));
    }
    value
}

fn rules(value: &Value, field: &InputField) -> Vec<String> {
    let mut broken = Vec::new();
    if let Some(number) = value.as_number() {
        if let Some(min) = field.min.filter(|min| number < *min) {
            broken.push(format!("must be at least {min}"));
        }
        if let Some(max) = field.max.filter(|max| number > *max) {
            broken.push(format!("must be at most {max}"));
        }
    }
    let length = match value {
        Value::Text(text) => Some((text.chars().count(), "character")),
        Value::List(list) => Some((list.len(), "element")),
        Value::Vector(vector) => Some((vector.len(), "element")),
        _ => None,
    };
    if let Some((length, unit)) = length {
        if let Some(min) = field.min_length.filter(|min| length < *min as usize) {
            broken.push(format!(
                "must have at least {}, has {length}",
                count(min, unit)
            ));
        }
        if let Some(max) = field.max_length.filter(|max| length > *max as usize) {
            broken.push(format!(
                "must have at most {}, has {length}",
                count(max, unit)
            ));
        }
    }
    if let Value::Text(text) = value
        && !field.one_of.is_empty()
        && !field.one_of.iter().any(|allowed| **allowed == **text)
    {
        broken.push(format!("must be one of {}", list(&field.one_of)));
    }
    broken
}

fn count(number: u32, unit: &str) -> String {
    match number {
        1 => format!("1 {unit}"),
        many => format!("{many} {unit}s"),
    }
}

fn misfit(place: &str, reason: String) -> Misfit {
    Misfit {
        place: place.to_owned(),
        reason,
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
