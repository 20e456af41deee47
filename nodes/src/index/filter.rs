//! Conditions on the metadata of documents.
//!
//! Each value that a document can be filtered by is one term of the text index: the field's name,
//! a letter for the type, and bytes that sort as the values do. A condition is then a set of terms
//! or a range of terms, exactly, for numbers of both kinds as well.

use super::text::Fields;
use crate::{Map, NodeError, Value};
use sha2::{Digest, Sha256};
use std::ops::Bound;
use tantivy::{
    Term,
    query::{BooleanQuery, FastFieldRangeQuery, Query, TermQuery, TermSetQuery},
    schema::IndexRecordOption,
};

/// Of texts longer than this, the rest counts by its digest: they can be told apart, and only texts
/// that agree up to here are out of order.
const LONG: usize = 1024;

/// Which documents a search looks at: those that satisfy every condition.
///
/// A field that holds a list satisfies a condition when one of its elements does. Values of
/// different types are never equal, but a whole number and a number of the same size are. Maps
/// inside metadata are stored, not filtered by.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    AnyOf(Vec<Vec<u8>>),
    Within(Bound<Vec<u8>>, Bound<Vec<u8>>),
}

impl Filter {
    /// Reads a filter as requests write it: a map from a field to its value, to a list of values of
    /// which one must be there, or to a range `{gte, gt, lte, lt}`.
    ///
    /// # Errors
    /// [`NodeError::Invalid`]: an operator that does not exist, a range over several types, a value
    /// that nothing can be equal to. A field without a value is refused as well: a filter that was
    /// meant must not fall away because its value is missing.
    pub fn from_map(map: &Map) -> Result<Self, NodeError> {
        let conditions = map.iter().map(|(name, wanted)| match name.contains('\0') {
            true => Err(NodeError::invalid("a name in the filter contains NUL")),
            false => condition(name, wanted),
        });
        Ok(Self {
            conditions: conditions.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn query(&self, fields: &Fields) -> Box<dyn Query> {
        let term = |bytes: &Vec<u8>| Term::from_field_bytes(fields.facts, bytes);
        let queries = self.conditions.iter().map(|condition| match condition {
            Condition::AnyOf(facts) => match &facts[..] {
                [fact] => Box::new(TermQuery::new(term(fact), IndexRecordOption::Basic)),
                facts => Box::new(TermSetQuery::new(facts.iter().map(term))) as Box<dyn Query>,
            },
            Condition::Within(low, high) => Box::new(FastFieldRangeQuery::new(
                low.as_ref().map(term),
                high.as_ref().map(term),
            )),
        });
        Box::new(BooleanQuery::intersection(queries.collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }
}

/// The terms that a document with this metadata is found by.
pub(super) fn facts(metadata: &Map) -> Vec<Vec<u8>> {
    let values = metadata.iter().flat_map(|(name, value)| {
        let values = match value {
            Value::List(values) => &values[..],
            value => std::slice::from_ref(value),
        };
        values.iter().filter_map(|value| fact(name, value))
    });
    values.collect()
}

fn condition(name: &str, wanted: &Value) -> Result<Condition, NodeError> {
    let one = |value: &Value| {
        fact(name, value).ok_or_else(|| {
            let what = value.type_name();
            NodeError::invalid(format!("the filter on {name:?} compares with {what}"))
        })
    };
    match wanted {
        Value::List(values) => Ok(Condition::AnyOf(
            values.iter().map(one).collect::<Result<_, _>>()?,
        )),
        Value::Map(range) => range_condition(name, range, one),
        value => Ok(Condition::AnyOf(vec![one(value)?])),
    }
}

fn range_condition(
    name: &str,
    range: &Map,
    one: impl Fn(&Value) -> Result<Vec<u8>, NodeError>,
) -> Result<Condition, NodeError> {
    let invalid = |reason: &str| NodeError::invalid(format!("the filter on {name:?} {reason}"));
    let (mut low, mut high) = (Bound::Unbounded, Bound::Unbounded);
    let mut prefix: Option<Vec<u8>> = None;
    for (operator, value) in range {
        let fact = one(value)?;
        let own = fact[..name.len() + 2].to_vec();
        if prefix
            .replace(own.clone())
            .is_some_and(|other| other != own)
        {
            return Err(invalid("compares with values of different types"));
        }
        let (side, bound) = match &**operator {
            "gte" => (&mut low, Bound::Included(fact)),
            "gt" => (&mut low, Bound::Excluded(fact)),
            "lte" => (&mut high, Bound::Included(fact)),
            "lt" => (&mut high, Bound::Excluded(fact)),
            unknown => {
                let known = "gte, gt, lte and lt";
                return Err(invalid(&format!(
                    "has no operator {unknown:?}; there are {known}"
                )));
            }
        };
        if *side != Bound::Unbounded {
            return Err(invalid("bounds the same side twice"));
        }
        *side = bound;
    }
    let mut prefix = prefix.ok_or_else(|| invalid("is a range without bounds"))?;
    // An open side ends where the values of this field and type end.
    if low == Bound::Unbounded {
        low = Bound::Included(prefix.clone());
    }
    if high == Bound::Unbounded {
        if let Some(letter) = prefix.last_mut() {
            *letter += 1;
        }
        high = Bound::Excluded(prefix);
    }
    Ok(Condition::Within(low, high))
}

/// One value of one field as a term; none for values that cannot be compared.
fn fact(name: &str, value: &Value) -> Option<Vec<u8>> {
    let mut term = Vec::with_capacity(name.len() + 16);
    term.extend_from_slice(name.as_bytes());
    term.push(0);
    match value {
        Value::Boolean(value) => term.extend([b'b', u8::from(*value)]),
        Value::Integer(value) => {
            let nearest = *value as f64;
            let rest = i128::from(*value) - nearest as i128;
            push_number(&mut term, nearest, rest as i32);
        }
        Value::Number(value) if value.is_finite() => push_number(&mut term, *value, 0),
        Value::Text(text) => {
            term.push(b't');
            let bytes = text.as_bytes();
            term.extend_from_slice(&bytes[..bytes.len().min(LONG)]);
            if bytes.len() > LONG {
                term.extend_from_slice(&Sha256::digest(bytes));
            }
        }
        _ => return None,
    }
    Some(term)
}

/// A number as bytes that sort as numbers do: the nearest float, then how much more the number is,
/// which is not zero for large whole numbers only.
fn push_number(term: &mut Vec<u8>, nearest: f64, rest: i32) {
    let bits = (nearest + 0.0).to_bits();
    let negative = bits >> 63 == 1;
    let sortable = if negative { !bits } else { bits | 1 << 63 };
    term.push(b'n');
    term.extend_from_slice(&sortable.to_be_bytes());
    term.extend_from_slice(&((rest + (1 << 15)) as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(entries: &[(&str, Value)]) -> Map {
        let entries = entries.iter();
        entries
            .map(|(name, value)| ((*name).into(), value.clone()))
            .collect()
    }

    fn message(map: &Map) -> String {
        Filter::from_map(map).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_named() {
        let range = |entries: &[(&str, Value)]| Value::Map(map(entries).into());
        let near = range(&[("near", Value::Integer(1))]);
        assert_eq!(
            message(&map(&[("year", near)])),
            r#"the filter on "year" has no operator "near"; there are gte, gt, lte and lt"#
        );
        assert_eq!(
            message(&map(&[("tenant", Value::None)])),
            r#"the filter on "tenant" compares with none"#
        );
        let mixed = range(&[("gte", Value::Integer(1)), ("lt", Value::text("b"))]);
        assert_eq!(
            message(&map(&[("year", mixed)])),
            r#"the filter on "year" compares with values of different types"#
        );
        assert_eq!(
            message(&map(&[("year", range(&[]))])),
            r#"the filter on "year" is a range without bounds"#
        );
        let twice = range(&[("gte", Value::Integer(1)), ("gt", Value::Integer(2))]);
        assert_eq!(
            message(&map(&[("year", twice)])),
            r#"the filter on "year" bounds the same side twice"#
        );
        let nan = Value::Number(f64::NAN);
        assert_eq!(
            message(&map(&[("year", nan)])),
            r#"the filter on "year" compares with number"#
        );
    }

    fn any_number() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            (-9i64..9).prop_map(Value::Integer),
            ((1i64 << 53)..(1 << 53) + 9).prop_map(Value::Integer),
            (-9.0f64..9.0).prop_map(Value::Number),
            (-9i32..9).prop_map(|whole| Value::Number(f64::from(whole))),
            Just(Value::Number(-0.0)),
            Just(Value::Number((1i64 << 53) as f64)),
            Just(Value::Number(f64::MAX)),
        ]
    }

    /// The order of two numbers, without rounding.
    fn order(one: &Value, other: &Value) -> std::cmp::Ordering {
        match (one, other) {
            (Value::Integer(one), Value::Integer(other)) => one.cmp(other),
            (Value::Integer(one), Value::Number(other)) => {
                if other.abs() > 1e30 {
                    return 0.0.partial_cmp(other).unwrap();
                }
                let whole = other.floor();
                let more = 0.0.partial_cmp(&(other - whole)).unwrap();
                i128::from(*one).cmp(&(whole as i128)).then(more)
            }
            (Value::Number(_), Value::Integer(_)) => order(other, one).reverse(),
            _ => one.as_number().partial_cmp(&other.as_number()).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn numbers_sort_as_their_terms(one in any_number(), other in any_number()) {
            let terms = fact("f", &one).unwrap().cmp(&fact("f", &other).unwrap());
            prop_assert_eq!(terms, order(&one, &other), "{:?} {:?}", one, other);
        }
    }
}
