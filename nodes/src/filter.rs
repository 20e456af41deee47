//! Conditions on the metadata of documents, as requests write them, in the one form that every store
//! translates into its own language.

use crate::{Map, NodeError, Value};
use std::{ops::Bound, sync::Arc};

/// Which documents a search looks at: those that satisfy every condition.
///
/// A field that holds a list satisfies a condition when one of its elements does. Values of
/// different types are never equal, but a whole number and a number of the same size are. Maps
/// inside metadata are stored, not filtered by.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    conditions: Vec<Condition>,
}

/// One condition: a field of the metadata and what its value must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub(crate) field: Arc<str>,
    pub(crate) test: Test,
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// Equal to one of these; nothing is equal to one of none.
    AnyOf(Vec<Scalar>),
    /// Within bounds of one type, numbers or texts. At least one side is bounded.
    Within(Bound<Scalar>, Bound<Scalar>),
}

/// A value that can be compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Boolean(bool),
    Integer(i64),
    /// Finite.
    Number(f64),
    Text(Arc<str>),
}

impl Scalar {
    /// The value, if it can be compared.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Boolean(value) => Some(Scalar::Boolean(*value)),
            Value::Integer(value) => Some(Scalar::Integer(*value)),
            Value::Number(value) if value.is_finite() => Some(Scalar::Number(*value)),
            Value::Text(text) => Some(Scalar::Text(Arc::clone(text))),
            _ => None,
        }
    }

    /// As JSON, exactly.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Scalar::Boolean(value) => (*value).into(),
            Scalar::Integer(value) => (*value).into(),
            Scalar::Number(value) => (*value).into(),
            Scalar::Text(text) => (**text).into(),
        }
    }

    /// Values with the same are of one type.
    fn kind(&self) -> u8 {
        match self {
            Scalar::Boolean(_) => 0,
            Scalar::Integer(_) | Scalar::Number(_) => 1,
            Scalar::Text(_) => 2,
        }
    }
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
            false => Ok(Condition {
                field: Arc::clone(name),
                test: test(name, wanted)?,
            }),
        });
        Ok(Self {
            conditions: conditions.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether no document can satisfy it.
    pub(crate) fn is_impossible(&self) -> bool {
        let mut tests = self.conditions.iter().map(|condition| &condition.test);
        tests.any(|test| matches!(test, Test::AnyOf(values) if values.is_empty()))
    }
}

fn test(name: &str, wanted: &Value) -> Result<Test, NodeError> {
    let one = |value: &Value| {
        Scalar::of(value).ok_or_else(|| {
            let what = value.type_name();
            NodeError::invalid(format!("the filter on {name:?} compares with {what}"))
        })
    };
    match wanted {
        Value::List(values) => Ok(Test::AnyOf(
            values.iter().map(one).collect::<Result<_, _>>()?,
        )),
        Value::Map(range) => range_test(name, range, one),
        value => Ok(Test::AnyOf(vec![one(value)?])),
    }
}

fn range_test(
    name: &str,
    range: &Map,
    one: impl Fn(&Value) -> Result<Scalar, NodeError>,
) -> Result<Test, NodeError> {
    let invalid = |reason: &str| NodeError::invalid(format!("the filter on {name:?} {reason}"));
    let (mut low, mut high) = (Bound::Unbounded, Bound::Unbounded);
    let mut kind: Option<u8> = None;
    for (operator, value) in range {
        let value = one(value)?;
        let own = value.kind();
        if kind.replace(own).is_some_and(|other| other != own) {
            return Err(invalid("compares with values of different types"));
        }
        let (side, bound) = match &**operator {
            "gte" => (&mut low, Bound::Included(value)),
            "gt" => (&mut low, Bound::Excluded(value)),
            "lte" => (&mut high, Bound::Included(value)),
            "lt" => (&mut high, Bound::Excluded(value)),
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
    match kind {
        None => Err(invalid("is a range without bounds")),
        Some(0) => Ok(booleans(&low, &high)),
        Some(_) => Ok(Test::Within(low, high)),
    }
}

/// A range of booleans, as the values that lie in it.
fn booleans(low: &Bound<Scalar>, high: &Bound<Scalar>) -> Test {
    let lies = |value: bool| {
        let above = match low {
            Bound::Included(Scalar::Boolean(low)) => value >= *low,
            Bound::Excluded(Scalar::Boolean(low)) => value & !low,
            _ => true,
        };
        let below = match high {
            Bound::Included(Scalar::Boolean(high)) => value <= *high,
            Bound::Excluded(Scalar::Boolean(high)) => !value & high,
            _ => true,
        };
        above && below
    };
    let values = [false, true].into_iter().filter(|value| lies(*value));
    Test::AnyOf(values.map(Scalar::Boolean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Value)]) -> Map {
        let entries = entries.iter();
        entries
            .map(|(name, value)| ((*name).into(), value.clone()))
            .collect()
    }

    fn range(entries: &[(&str, Value)]) -> Value {
        Value::Map(map(entries).into())
    }

    fn message(map: &Map) -> String {
        Filter::from_map(map).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_named() {
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

    #[test]
    fn ranges_of_booleans_are_the_values_within() {
        let cases: &[(&str, bool, &[bool])] = &[
            ("gte", false, &[false, true]),
            ("gte", true, &[true]),
            ("gt", false, &[true]),
            ("gt", true, &[]),
            ("lte", false, &[false]),
            ("lt", true, &[false]),
            ("lt", false, &[]),
        ];
        for (operator, bound, within) in cases {
            let filter = map(&[("open", range(&[(operator, Value::Boolean(*bound))]))]);
            let filter = Filter::from_map(&filter).unwrap();
            let values = within.iter().copied().map(Scalar::Boolean).collect();
            let test = &filter.conditions()[0].test;
            assert_eq!(*test, Test::AnyOf(values), "{operator} {bound}");
            assert_eq!(filter.is_impossible(), within.is_empty());
        }
    }
}
