//! What the elements of a tensor are, and their raw form: little-endian, a text with its length
//! before it. Pure.

use crate::Value;
use half::{bf16, f16};
use std::sync::Arc;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Datatype {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

use Datatype::{
    Bf16, Bool, Bytes, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
};

const NAMES: [(&str, Datatype); 14] = [
    ("BOOL", Bool),
    ("INT8", Int8),
    ("INT16", Int16),
    ("INT32", Int32),
    ("INT64", Int64),
    ("UINT8", Uint8),
    ("UINT16", Uint16),
    ("UINT32", Uint32),
    ("UINT64", Uint64),
    ("FP16", Fp16),
    ("BF16", Bf16),
    ("FP32", Fp32),
    ("FP64", Fp64),
    ("BYTES", Bytes),
];

impl Datatype {
    /// The type that the protocol calls so.
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut names = NAMES.iter();
        Some(names.find(|(known, _)| *known == name)?.1)
    }

    /// What the protocol calls it.
    pub(super) fn name(self) -> &'static str {
        let mut names = NAMES.iter();
        names
            .find(|(_, known)| *known == self)
            .map_or("", |(name, _)| name)
    }

    /// Bytes of an element; none for texts, of which each has its own.
    pub(super) fn size(self) -> Option<usize> {
        match self {
            Bool | Int8 | Uint8 => Some(1),
            Int16 | Uint16 | Fp16 | Bf16 => Some(2),
            Int32 | Uint32 | Fp32 => Some(4),
            Int64 | Uint64 | Fp64 => Some(8),
            Bytes => None,
        }
    }

    /// Whether it is a number with a fraction.
    pub(super) fn is_float(self) -> bool {
        matches!(self, Fp16 | Bf16 | Fp32 | Fp64)
    }

    /// Whether it is a number of half the usual size, which JSON and typed contents do not carry.
    pub(super) fn is_half(self) -> bool {
        matches!(self, Fp16 | Bf16)
    }

    /// Appends a value as an element; false if it is none of this type.
    pub(super) fn write(self, value: &Value, out: &mut Vec<u8>) -> bool {
        let number = || value.as_number();
        match self {
            Bool => match value {
                Value::Boolean(boolean) => put(Some([u8::from(*boolean)]), out),
                _ => false,
            },
            Int8 => put(whole(value).map(i8::to_le_bytes), out),
            Int16 => put(whole(value).map(i16::to_le_bytes), out),
            Int32 => put(whole(value).map(i32::to_le_bytes), out),
            Int64 => put(whole(value).map(i64::to_le_bytes), out),
            Uint8 => put(whole(value).map(u8::to_le_bytes), out),
            Uint16 => put(whole(value).map(u16::to_le_bytes), out),
            Uint32 => put(whole(value).map(u32::to_le_bytes), out),
            Uint64 => put(whole(value).map(u64::to_le_bytes), out),
            Fp16 => put(number().map(|n| f16::from_f64(n).to_le_bytes()), out),
            Bf16 => put(number().map(|n| bf16::from_f64(n).to_le_bytes()), out),
            Fp32 => put(number().map(|n| (n as f32).to_le_bytes()), out),
            Fp64 => put(number().map(f64::to_le_bytes), out),
            Bytes => value
                .as_text()
                .is_some_and(|text| write_text(text.as_bytes(), out)),
        }
    }

    /// Appends the numbers of a vector; false if its elements are of another type.
    pub(super) fn write_floats(self, numbers: &[f32], out: &mut Vec<u8>) -> bool {
        match self {
            Fp32 => numbers.iter().for_each(|n| out.extend(n.to_le_bytes())),
            Fp64 => numbers
                .iter()
                .for_each(|n| out.extend(f64::from(*n).to_le_bytes())),
            Fp16 => numbers
                .iter()
                .for_each(|n| out.extend(f16::from_f32(*n).to_le_bytes())),
            Bf16 => numbers
                .iter()
                .for_each(|n| out.extend(bf16::from_f32(*n).to_le_bytes())),
            _ => {
                return numbers
                    .iter()
                    .all(|n| self.write(&Value::Number((*n).into()), out));
            }
        }
        true
    }

    /// Takes an element off the front of `raw`; none if there is no whole one.
    pub(super) fn take(self, raw: &mut &[u8]) -> Option<Value> {
        let Some(size) = self.size() else {
            let text = take_text(raw)?;
            return Some(Value::text(std::str::from_utf8(text).ok()?));
        };
        let (element, rest) = raw.split_at_checked(size)?;
        *raw = rest;
        let integer = |integer: i64| Some(Value::Integer(integer));
        match self {
            Bool => Some(Value::Boolean(element != [0])),
            Int8 => integer(i8::from_le_bytes(*element.first_chunk()?).into()),
            Int16 => integer(i16::from_le_bytes(*element.first_chunk()?).into()),
            Int32 => integer(i32::from_le_bytes(*element.first_chunk()?).into()),
            Int64 => integer(i64::from_le_bytes(*element.first_chunk()?)),
            Uint8 => integer(u8::from_le_bytes(*element.first_chunk()?).into()),
            Uint16 => integer(u16::from_le_bytes(*element.first_chunk()?).into()),
            Uint32 => integer(u32::from_le_bytes(*element.first_chunk()?).into()),
            Uint64 => {
                let large = u64::from_le_bytes(*element.first_chunk()?);
                // A graph's whole numbers end earlier.
                let whole = i64::try_from(large).map(Value::Integer);
                Some(whole.unwrap_or(Value::Number(large as f64)))
            }
            Fp64 => Some(Value::Number(f64::from_le_bytes(*element.first_chunk()?))),
            Fp16 | Bf16 | Fp32 => {
                let number = *self.floats(element).first()?;
                Some(Value::Number(number.into()))
            }
            Bytes => None,
        }
    }

    /// Takes as many numbers with a fraction off the front; none if there are not that many.
    pub(super) fn take_floats(self, count: usize, raw: &mut &[u8]) -> Option<Arc<[f32]>> {
        let bytes = count.checked_mul(self.size()?)?;
        let (elements, rest) = raw.split_at_checked(bytes)?;
        *raw = rest;
        Some(self.floats(elements))
    }

    fn floats(self, raw: &[u8]) -> Arc<[f32]> {
        match self {
            Fp16 => each(raw, |two| f16::from_le_bytes(two).to_f32()),
            Bf16 => each(raw, |two| bf16::from_le_bytes(two).to_f32()),
            Fp32 => each(raw, f32::from_le_bytes),
            Fp64 => each(raw, |eight| f64::from_le_bytes(eight) as f32),
            _ => Arc::default(),
        }
    }

    /// The bytes of `count` elements at the front of `raw`; none if there are not that many.
    pub(super) fn length(self, count: usize, raw: &[u8]) -> Option<usize> {
        let length = match self.size() {
            Some(size) => count.checked_mul(size)?,
            None => {
                let mut rest = raw;
                for _ in 0..count {
                    take_text(&mut rest)?;
                }
                raw.len() - rest.len()
            }
        };
        (length <= raw.len()).then_some(length)
    }
}

fn put<const N: usize>(bytes: Option<[u8; N]>, out: &mut Vec<u8>) -> bool {
    out.extend(bytes.iter().flatten());
    bytes.is_some()
}

/// A whole number that fits.
fn whole<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    T::try_from(value.as_integer()?).ok()
}

/// Appends a text of any bytes; false if it is longer than its length can say.
pub(super) fn write_text(text: &[u8], out: &mut Vec<u8>) -> bool {
    let length = u32::try_from(text.len()).ok().map(u32::to_le_bytes);
    let fits = put(length, out);
    if fits {
        out.extend_from_slice(text);
    }
    fits
}

fn take_text<'a>(raw: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = raw.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *raw = rest;
    Some(text)
}

fn each<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> f32) -> Arc<[f32]> {
    let (elements, _) = raw.as_chunks::<N>();
    elements.iter().map(|element| read(*element)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(datatype: Datatype, value: &Value) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        datatype.write(value, &mut out).then_some(out)
    }

    #[test]
    fn elements_have_their_bytes() {
        assert_eq!(raw(Int16, &Value::Integer(-2)), Some(vec![0xfe, 0xff]));
        assert_eq!(raw(Fp16, &Value::Number(1.5)), Some(vec![0x00, 0x3e]));
        assert_eq!(raw(Bf16, &Value::Number(1.5)), Some(vec![0xc0, 0x3f]));
        assert_eq!(
            raw(Bytes, &Value::text("hi")),
            Some(b"\x02\0\0\0hi".to_vec())
        );
        assert_eq!(raw(Bool, &Value::Boolean(true)), Some(vec![1]));
        assert_eq!(raw(Uint64, &Value::Integer(-1)), None);
        assert_eq!(raw(Int8, &Value::Integer(128)), None);
        assert_eq!(raw(Fp32, &Value::text("1")), None);
        assert_eq!(raw(Bool, &Value::Integer(1)), None);
    }

    #[test]
    fn what_is_cut_off_is_no_element() {
        for datatype in NAMES.map(|(_, datatype)| datatype) {
            assert!(datatype.take(&mut &[][..]).is_none(), "{datatype:?}");
        }
        let long = [255, 255, 255, 255, 1];
        assert!(Bytes.take(&mut &long[..]).is_none());
        assert_eq!(Bytes.length(1, &long), None);
        assert!(
            Bytes.take(&mut &[1, 0, 0, 0, 0xff][..]).is_none(),
            "no text"
        );
    }

    proptest! {
        #[test]
        fn whole_numbers_come_back(number in any::<i64>()) {
            for (_, datatype) in NAMES.iter().filter(|(name, _)| name.contains("INT")) {
                let Some(raw) = raw(*datatype, &Value::Integer(number)) else { continue };
                prop_assert_eq!(Some(raw.len()), datatype.size());
                let back = datatype.take(&mut &raw[..]);
                prop_assert_eq!(back.and_then(|value| value.as_integer()), Some(number));
            }
        }

        #[test]
        fn vectors_come_back(numbers in prop::collection::vec(any::<f32>(), 0..40)) {
            for datatype in [Fp32, Fp64] {
                let mut out = Vec::new();
                prop_assert!(datatype.write_floats(&numbers, &mut out));
                let mut rest = &out[..];
                let back = datatype.take_floats(numbers.len(), &mut rest).unwrap();
                let bits = |numbers: &[f32]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&back), bits(&numbers));
                prop_assert!(rest.is_empty());
            }
        }
    }
}
