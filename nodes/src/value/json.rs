//! Values from JSON and to JSON, without a tree of another type in between.
//!
//! Reading is strict where JSON leaves room: a key that comes twice is an error, and so is nesting
//! deeper than 128 levels. Numbers without a fraction stay whole numbers as far as `i64` reaches.

use super::{Document, Map, Value};
use schema::Literal;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::{Error as _, SerializeMap as _},
};
use std::{fmt, sync::Arc};

impl Value {
    /// Reads a JSON text.
    ///
    /// # Errors
    /// What is wrong with it and where: not JSON, nested too deeply, a key that comes twice.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// Writes the value as JSON: a vector as an array, a document as an object with `id`, `text`,
    /// `score` and `metadata`, a number that is not finite as null.
    ///
    /// # Errors
    /// Only for a stream, which must be collected first.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

impl From<&Literal> for Value {
    fn from(literal: &Literal) -> Self {
        match literal {
            Literal::Text(text) => Value::text(text.as_str()),
            Literal::Integer(integer) => Value::Integer(*integer),
            Literal::Number(number) => Value::Number(*number),
            Literal::Boolean(boolean) => Value::Boolean(*boolean),
            Literal::Null => Value::None,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::None => serializer.serialize_unit(),
            Value::Boolean(boolean) => serializer.serialize_bool(*boolean),
            Value::Integer(integer) => serializer.serialize_i64(*integer),
            Value::Number(number) => serializer.serialize_f64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Vector(vector) => serializer.collect_seq(vector.iter()),
            Value::List(list) => serializer.collect_seq(list.iter()),
            Value::Map(map) => map.serialize(serializer),
            Value::Document(document) => document.serialize(serializer),
            Value::Stream(_) => Err(S::Error::custom("a stream must be collected first")),
        }
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(Some(4))?;
        fields.serialize_entry("id", &self.id)?;
        fields.serialize_entry("text", &self.text)?;
        fields.serialize_entry("score", &self.score)?;
        fields.serialize_entry("metadata", &self.metadata)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, some: D) -> Result<Value, D::Error> {
        some.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, boolean: bool) -> Result<Value, E> {
        Ok(Value::Boolean(boolean))
    }

    fn visit_i64<E: de::Error>(self, integer: i64) -> Result<Value, E> {
        Ok(Value::Integer(integer))
    }

    fn visit_u64<E: de::Error>(self, integer: u64) -> Result<Value, E> {
        Ok(i64::try_from(integer).map_or(Value::Number(integer as f64), Value::Integer))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::List(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<Arc<str>>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!(
                    "the key {key:?} comes twice"
                )));
            }
            map.insert(key, entries.next_value()?);
        }
        Ok(Value::Map(Arc::new(map)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(json: &str, expect: Expect) {
        let result = match Value::from_json(json.as_bytes()) {
            Ok(value) => String::from_utf8(value.to_json().unwrap()).unwrap(),
            Err(error) => format!("error: {error}"),
        };
        expect.assert_eq(&result);
    }

    #[test]
    fn what_is_read_is_written_again() {
        check(
            r#"{"b": [1, 2.5, -3, 1e2, true, null], "a": {"ü": "\u00fc\n"}}"#,
            expect![[r#"{"b":[1,2.5,-3,100.0,true,null],"a":{"ü":"ü\n"}}"#]],
        );
        check(
            "[9223372036854775807, 9223372036854775808]",
            expect!["[9223372036854775807,9.223372036854776e+18]"],
        );
    }

    #[test]
    fn hostile_json_is_an_error() {
        check(
            r#"{"a": {"x": 1, "x": 2}}"#,
            expect![[r#"error: the key "x" comes twice at line 1 column 18"#]],
        );
        check(
            &"[".repeat(10_000),
            expect!["error: recursion limit exceeded at line 1 column 128"],
        );
        check("[NaN]", expect!["error: expected value at line 1 column 2"]);
        check(
            "1e999",
            expect!["error: number out of range at line 1 column 5"],
        );
        check(
            "{} {}",
            expect!["error: trailing characters at line 1 column 4"],
        );
    }

    #[test]
    fn numbers_that_are_not_finite_become_null() {
        let values = Value::list([
            Value::Number(f64::NAN),
            Value::Number(f64::INFINITY),
            Value::Vector([0.5, f32::NAN].into()),
        ]);
        assert_eq!(values.to_json().unwrap(), b"[null,null,[0.5,null]]");
    }

    #[test]
    fn a_document_is_an_object() {
        let document = Value::Document(Document {
            id: "a".into(),
            text: "b".into(),
            score: 0.25,
            metadata: Arc::new(Map::from_iter([("page".into(), Value::Integer(3))])),
        });
        assert_eq!(
            String::from_utf8(document.to_json().unwrap()).unwrap(),
            r#"{"id":"a","text":"b","score":0.25,"metadata":{"page":3}}"#
        );
    }
}
