//! Values as bytes, for the way to a worker and back.
//!
//! A value is one byte that says what it is, then its content; numbers are little-endian and
//! lengths are `u32`:
//!
//! ```text
//! 0 none   1 false   2 true   3 i64   4 f64
//! 5 text          length, UTF-8
//! 6 vector        length, f32 each
//! 7 list          length, values
//! 8 map           length, each a text without its tag and a value
//! 9 document      id, text (texts without tags), score (f64), metadata (a map without its tag)
//! 10 numbers      length, f64 each: a list of numbers in one piece
//! ```
//!
//! The other half is `worker/codec.py`. Frames, in which values travel, are not known here.

use crate::{Document, Map, NodeError, Value};
use std::sync::Arc;

/// How deep values may be nested; as deep as JSON may.
const MAX_DEPTH: u32 = 128;

/// Puts values together.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn f64(&mut self, number: f64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn length(&mut self, length: usize) -> Result<(), NodeError> {
        let length = u32::try_from(length);
        let length = length.map_err(|_| NodeError::invalid("a value is too large for a worker"))?;
        self.u32(length);
        Ok(())
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), NodeError> {
        self.length(text.len())?;
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn map(&mut self, map: &Map) -> Result<(), NodeError> {
        self.length(map.len())?;
        for (name, value) in map {
            self.text(name)?;
            self.value(value)?;
        }
        Ok(())
    }

    /// Appends a value. A text that is still being made must have been read to its end.
    pub(super) fn value(&mut self, value: &Value) -> Result<(), NodeError> {
        match value {
            Value::None => self.byte(0),
            Value::Boolean(boolean) => self.byte(1 + u8::from(*boolean)),
            Value::Integer(integer) => {
                self.byte(3);
                self.0.extend_from_slice(&integer.to_le_bytes());
            }
            Value::Number(number) => {
                self.byte(4);
                self.f64(*number);
            }
            Value::Text(text) => {
                self.byte(5);
                self.text(text)?;
            }
            Value::Vector(vector) => {
                self.byte(6);
                self.length(vector.len())?;
                self.0.reserve(4 * vector.len());
                let numbers = vector.iter().flat_map(|number| number.to_le_bytes());
                self.0.extend(numbers);
            }
            Value::List(list) => {
                self.byte(7);
                self.length(list.len())?;
                list.iter().try_for_each(|element| self.value(element))?;
            }
            Value::Map(map) => {
                self.byte(8);
                self.map(map)?;
            }
            Value::Document(document) => {
                self.byte(9);
                self.text(&document.id)?;
                self.text(&document.text)?;
                self.f64(document.score);
                self.map(&document.metadata)?;
            }
            Value::Stream(_) => return Err(NodeError::failed("a stream must be collected first")),
        }
        Ok(())
    }
}

/// What came is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker sent what cannot be read: {0}")]
pub(super) struct Garbled(pub(super) &'static str);

/// Takes values apart.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Garbled> {
        let split = self.0.split_at_checked(count);
        let (bytes, rest) = split.ok_or(Garbled("a frame ends in the middle of a value"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Garbled> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Garbled> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn f64(&mut self) -> Result<f64, Garbled> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Garbled> {
        let length = self.u32()? as usize;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Garbled("a text is not UTF-8"))
    }

    /// The length of a sequence whose elements take at least `least` bytes each, so that a length
    /// that cannot be true reserves no memory.
    fn length(&mut self, least: usize) -> Result<usize, Garbled> {
        let length = self.u32()? as usize;
        match length.saturating_mul(least) <= self.0.len() {
            true => Ok(length),
            false => Err(Garbled("a frame ends in the middle of a value")),
        }
    }

    pub(super) fn value(&mut self) -> Result<Value, Garbled> {
        self.nested(0)
    }

    fn nested(&mut self, depth: u32) -> Result<Value, Garbled> {
        if depth > MAX_DEPTH {
            return Err(Garbled("it is nested too deeply"));
        }
        let [tag] = self.array()?;
        Ok(match tag {
            0 => Value::None,
            1 => Value::Boolean(false),
            2 => Value::Boolean(true),
            3 => Value::Integer(i64::from_le_bytes(self.array()?)),
            4 => Value::Number(self.f64()?),
            5 => Value::text(self.text()?),
            6 => {
                let length = self.length(4)?;
                let (numbers, _) = self.bytes(4 * length)?.as_chunks();
                Value::Vector(numbers.iter().map(|raw| f32::from_le_bytes(*raw)).collect())
            }
            7 => {
                let length = self.length(1)?;
                let values: Result<Arc<[Value]>, _> =
                    (0..length).map(|_| self.nested(depth + 1)).collect();
                Value::List(values?)
            }
            8 => Value::Map(Arc::new(self.map(depth)?)),
            9 => Value::Document(Document {
                id: self.text()?.into(),
                text: self.text()?.into(),
                score: self.f64()?,
                metadata: Arc::new(self.map(depth)?),
            }),
            10 => {
                let length = self.length(8)?;
                let (numbers, _) = self.bytes(8 * length)?.as_chunks();
                let numbers = numbers
                    .iter()
                    .map(|raw| Value::Number(f64::from_le_bytes(*raw)));
                Value::List(numbers.collect())
            }
            _ => return Err(Garbled("a value has an unknown tag")),
        })
    }

    fn map(&mut self, depth: u32) -> Result<Map, Garbled> {
        let length = self.length(5)?;
        let mut map = Map::with_capacity(length);
        for _ in 0..length {
            map.insert(self.text()?.into(), self.nested(depth + 1)?);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.value(value).unwrap();
        writer.finish()
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_map(Value::Number),
            ".*".prop_map(Value::text),
            prop::collection::vec(any::<f32>(), 0..20).prop_map(|v| Value::Vector(v.into())),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            let map = prop::collection::vec((".*", inner.clone()), 0..4);
            let map = map.prop_map(|entries| {
                let entries = entries
                    .into_iter()
                    .map(|(name, value)| (name.into(), value));
                Arc::new(entries.collect::<Map>())
            });
            prop_oneof![
                prop::collection::vec(inner, 0..8).prop_map(Value::list),
                map.clone().prop_map(Value::Map),
                (".*", ".*", any::<f64>(), map).prop_map(|(id, text, score, metadata)| {
                    Value::Document(Document {
                        id: id.into(),
                        text: text.into(),
                        score,
                        metadata,
                    })
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in value()) {
            let written = bytes(&value);
            let mut reader = Reader(&written);
            let read = reader.value().unwrap();
            prop_assert!(reader.0.is_empty());
            // Written again, because numbers that are not numbers are not equal to themselves.
            prop_assert_eq!(bytes(&read), written);
        }

        #[test]
        fn whatever_comes_is_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader(&bytes).value();
        }
    }

    #[test]
    fn lengths_that_cannot_be_true_reserve_nothing() {
        for tag in [5, 6, 7, 8, 10] {
            let hostile = [tag, 0xff, 0xff, 0xff, 0xff];
            assert!(Reader(&hostile).value().is_err(), "{tag}");
        }
        let deep: Vec<u8> = [7, 1, 0, 0, 0].repeat(100_000);
        assert!(Reader(&deep).value().is_err());
    }
}
