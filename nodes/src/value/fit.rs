//! Whether a value fits a type, found out at run time: for what a request brings, and for results
//! whose type no check could know.

use super::{Document, Map, Value};
use schema::Type;
use std::{borrow::Cow, sync::Arc};

/// Why a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Where: a field's name and the steps inside it, such as `filters.tags[2]`.
    pub place: String,
    /// What is wrong there.
    pub reason: String,
}

impl Value {
    /// The value as one of type `wanted`: as it is, or with a list of numbers as a vector, a map as
    /// a document. Every misfit inside it is added to `misfits`, with `place` before it.
    #[must_use]
    pub fn fit(self, wanted: &Type, place: &str, misfits: &mut Vec<Misfit>) -> Value {
        Fitting {
            place: Cow::Borrowed(place),
            misfits,
        }
        .value(self, wanted)
    }
}

struct Fitting<'a> {
    place: Cow<'a, str>,
    misfits: &'a mut Vec<Misfit>,
}

impl Fitting<'_> {
    fn value(&mut self, value: Value, wanted: &Type) -> Value {
        match (wanted, value) {
            (Type::Any, value) => value,
            (Type::Option(_), Value::None) => Value::None,
            (Type::Option(some), value) => self.value(value, some),
            (Type::Text | Type::TextStream, value @ (Value::Text(_) | Value::Stream(_))) => value,
            (Type::Choice(cases), Value::Text(text)) => {
                if !cases.iter().any(|case| **case == *text) {
                    self.misfit(format!("expected {}, got {text:?}", one_of(cases)));
                }
                Value::Text(text)
            }
            (Type::Number, value @ (Value::Number(_) | Value::Integer(_))) => value,
            (Type::Integer, value) if value.as_integer().is_some() => {
                value.as_integer().map_or(Value::None, Value::Integer)
            }
            (Type::Boolean, value @ Value::Boolean(_)) => value,
            (Type::Vector(size), value @ (Value::Vector(_) | Value::List(_))) => {
                self.vector(value, *size)
            }
            (Type::Document, value @ Value::Document(_)) => value,
            (Type::Document, Value::Map(map)) => self.document(&map),
            (Type::List(_), value @ Value::Vector(_)) => value,
            (Type::List(element), Value::List(list)) => self.list(list, element),
            (Type::Map | Type::Record(_), value @ Value::Document(_)) => value,
            (Type::Map, value @ Value::Map(_)) => value,
            (Type::Record(fields), Value::Map(map)) => self.record(&map, fields),
            (wanted, value) => {
                self.misfit(format!("expected {wanted}, got {}", value.type_name()));
                value
            }
        }
    }

    fn misfit(&mut self, reason: String) {
        self.misfits.push(Misfit {
            place: self.place.clone().into_owned(),
            reason,
        });
    }

    /// A part of the value, with its own place in what is reported.
    fn part(&mut self, step: impl Fn(&str) -> String, value: Value, wanted: &Type) -> Value {
        let mut part = Fitting {
            place: Cow::Owned(step(&self.place)),
            misfits: self.misfits,
        };
        part.value(value, wanted)
    }

    fn vector(&mut self, value: Value, size: Option<usize>) -> Value {
        let vector: Arc<[f32]> = match &value {
            Value::Vector(vector) => Arc::clone(vector),
            Value::List(list) => {
                let numbers = list.iter().map(|element| element.as_number());
                let Some(vector) = numbers.map(|n| n.map(|n| n as f32)).collect() else {
                    self.misfit(
                        "expected a vector, got a list with other things than numbers".into(),
                    );
                    return value;
                };
                vector
            }
            _ => return value,
        };
        if let Some(size) = size
            && vector.len() != size
        {
            self.misfit(format!("expected {size} dimensions, got {}", vector.len()));
        }
        Value::Vector(vector)
    }

    fn list(&mut self, list: Arc<[Value]>, element: &Type) -> Value {
        if keeps_all(element) {
            return Value::List(list);
        }
        let fitted = list.iter().enumerate().map(|(index, value)| {
            self.part(|place| format!("{place}[{index}]"), value.clone(), element)
        });
        Value::List(fitted.collect())
    }

    fn record(&mut self, map: &Map, fields: &[(schema::Name, Type)]) -> Value {
        let mut fitted = Map::new();
        for (name, wanted) in fields {
            let name = name.in_template();
            match map.get(name.as_str()) {
                Some(value) => {
                    let place = |place: &str| format!("{place}.{name}");
                    let value = self.part(place, value.clone(), wanted);
                    fitted.insert(name.into(), value);
                }
                None if matches!(wanted, Type::Option(_) | Type::Any) => {
                    fitted.insert(name.into(), Value::None);
                }
                None => self.misfit(format!("the field `{name}` is missing")),
            }
        }
        for name in map.keys().filter(|name| !fitted.contains_key(*name)) {
            if !fields
                .iter()
                .any(|(field, _)| field.in_template() == **name)
            {
                self.misfit(format!("unknown field `{name}`"));
            }
        }
        Value::Map(Arc::new(fitted))
    }

    fn document(&mut self, map: &Map) -> Value {
        let mut text_field = |name: &str| match map.get(name) {
            Some(Value::Text(text)) => Arc::clone(text),
            Some(other) => {
                self.misfit(format!(
                    "`{name}` must be a text, not {}",
                    other.type_name()
                ));
                "".into()
            }
            None => {
                self.misfit(format!("a document needs `{name}`"));
                "".into()
            }
        };
        let (id, text) = (text_field("id"), text_field("text"));
        let score = map.get("score").and_then(Value::as_number).unwrap_or(0.0);
        let metadata = match map.get("metadata") {
            Some(Value::Map(metadata)) => Arc::clone(metadata),
            _ => Arc::default(),
        };
        Value::Document(Document {
            id,
            text,
            score,
            metadata,
        })
    }
}

/// Whether every value fits, so that a list need not be looked through.
fn keeps_all(wanted: &Type) -> bool {
    matches!(wanted, Type::Any)
}

fn one_of(cases: &[String]) -> String {
    let cases: Vec<_> = cases.iter().map(|case| format!("{case:?}")).collect();
    format!("one of {}", cases.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use schema::Name;

    fn check(json: &str, wanted: Type, expect: Expect) {
        let mut misfits = Vec::new();
        let value = Value::from_json(json.as_bytes()).unwrap();
        let value = value.fit(&wanted, "field", &mut misfits);
        let mut lines = format!("{}\n", value.type_name());
        for misfit in misfits {
            lines += &format!("{}: {}\n", misfit.place, misfit.reason);
        }
        expect.assert_eq(&lines);
    }

    #[test]
    fn values_fit_or_say_where_they_do_not() {
        check(
            "3",
            Type::Integer,
            expect![[r#"
            integer
        "#]],
        );
        check(
            "3.0",
            Type::Integer,
            expect![[r#"
            integer
        "#]],
        );
        check(
            "3.5",
            Type::Integer,
            expect![[r#"
            number
            field: expected integer, got number
        "#]],
        );
        check(
            "null",
            Type::Option(Box::new(Type::Text)),
            expect![[r#"
            none
        "#]],
        );
        check(
            "null",
            Type::Text,
            expect![[r#"
            none
            field: expected text, got none
        "#]],
        );
        check(
            "[1, 2]",
            Type::Vector(Some(3)),
            expect![[r#"
            vector
            field: expected 3 dimensions, got 2
        "#]],
        );
        check(
            "[1, \"2\"]",
            Type::Vector(None),
            expect![[r#"
            list
            field: expected a vector, got a list with other things than numbers
        "#]],
        );
        check(
            "[\"a\", 1, [2]]",
            Type::list(Type::Text),
            expect![[r#"
            list
            field[1]: expected text, got integer
            field[2]: expected text, got list
        "#]],
        );
        check(
            "\"c\"",
            Type::Choice(vec!["a".into(), "b".into()]),
            expect![[r#"
            text
            field: expected one of "a", "b", got "c"
        "#]],
        );
        check(
            r#"[{"id": "a", "text": "b"}, {"id": 1}]"#,
            Type::documents(),
            expect![[r#"
                list
                field[1]: `id` must be a text, not integer
                field[1]: a document needs `text`
            "#]],
        );
        let record = Type::Record(vec![
            (Name::new("top-k"), Type::Integer),
            (Name::new("tags"), Type::list(Type::Text)),
        ]);
        check(
            r#"{"top_k": 1, "tags": [2], "other": 0}"#,
            record,
            expect![[r#"
            map
            field.tags[0]: expected text, got integer
            field: unknown field `other`
        "#]],
        );
    }
}
