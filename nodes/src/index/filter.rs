//! The conditions of a filter as a query of the text index.
//!
//! Each value that a document can be filtered by is one term of the text index: the field's name,
//! a letter for the type, and bytes that sort as the values do. A condition is then a set of terms
//! or a range of terms, exactly, for numbers of both kinds as well.

use super::text::Fields;
use crate::{
    Filter, Map, Value,
    filter::{Condition, Scalar, Test},
};
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

/// The documents that satisfy every condition.
pub(super) fn query(filter: &Filter, fields: &Fields) -> Box<dyn Query> {
    let conditions = filter.conditions().iter();
    let queries = conditions.map(|condition| of_condition(condition, fields));
    Box::new(BooleanQuery::intersection(queries.collect()))
}

fn of_condition(condition: &Condition, fields: &Fields) -> Box<dyn Query> {
    let name = &*condition.field;
    let term = |bytes: &[u8]| Term::from_field_bytes(fields.facts, bytes);
    match &condition.test {
        Test::AnyOf(values) => match &values[..] {
            [value] => Box::new(TermQuery::new(
                term(&fact(name, value)),
                IndexRecordOption::Basic,
            )),
            values => Box::new(TermSetQuery::new(
                values.iter().map(|value| term(&fact(name, value))),
            )),
        },
        Test::Within(low, high) => {
            let (low, high) = bounds(name, low, high);
            Box::new(FastFieldRangeQuery::new(
                low.as_ref().map(|low| term(low)),
                high.as_ref().map(|high| term(high)),
            ))
        }
    }
}

/// A range as terms. An open side ends where the values of this field and type end.
fn bounds(
    name: &str,
    low: &Bound<Scalar>,
    high: &Bound<Scalar>,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let prefix = |side: &Bound<Vec<u8>>| match side {
        Bound::Included(fact) | Bound::Excluded(fact) => fact[..name.len() + 2].to_vec(),
        Bound::Unbounded => Vec::new(),
    };
    let low = low.as_ref().map(|value| fact(name, value));
    let high = high.as_ref().map(|value| fact(name, value));
    match (low, high) {
        (Bound::Unbounded, high) => (Bound::Included(prefix(&high)), high),
        (low, Bound::Unbounded) => {
            let mut end = prefix(&low);
            if let Some(letter) = end.last_mut() {
                *letter += 1;
            }
            (low, Bound::Excluded(end))
        }
        both => both,
    }
}

/// The terms that a document with this metadata is found by.
pub(super) fn facts(metadata: &Map) -> Vec<Vec<u8>> {
    let values = metadata.iter().flat_map(|(name, value)| {
        let values = match value {
            Value::List(values) => &values[..],
            value => std::slice::from_ref(value),
        };
        let scalars = values.iter().filter_map(Scalar::of);
        scalars.map(|value| fact(name, &value))
    });
    values.collect()
}

/// One value of one field as a term.
fn fact(name: &str, value: &Scalar) -> Vec<u8> {
    let mut term = Vec::with_capacity(name.len() + 16);
    term.extend_from_slice(name.as_bytes());
    term.push(0);
    match value {
        Scalar::Boolean(value) => term.extend([b'b', u8::from(*value)]),
        Scalar::Integer(value) => {
            let nearest = *value as f64;
            let rest = i128::from(*value) - nearest as i128;
            push_number(&mut term, nearest, rest as i32);
        }
        Scalar::Number(value) => push_number(&mut term, *value, 0),
        Scalar::Text(text) => {
            term.push(b't');
            let bytes = text.as_bytes();
            term.extend_from_slice(&bytes[..bytes.len().min(LONG)]);
            if bytes.len() > LONG {
                term.extend_from_slice(&Sha256::digest(bytes));
            }
        }
    }
    term
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
            let fact = |value: &Value| fact("f", &Scalar::of(value).unwrap());
            let terms = fact(&one).cmp(&fact(&other));
            prop_assert_eq!(terms, order(&one, &other), "{:?} {:?}", one, other);
        }
    }
}
