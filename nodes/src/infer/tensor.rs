//! Values as tensors and back. Pure.

use crate::{Map, Value};
use serde::Deserialize;
use std::sync::Arc;

/// A tensor as its server describes it. A size of -1 may be anything.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TensorSpec {
    pub(super) name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Boolean,
    Integer { least: i64, most: i64 },
    Number,
    Text,
}

impl Element {
    fn named(datatype: &str) -> Option<Self> {
        let integer = |least, most| Some(Element::Integer { least, most });
        match datatype {
            "BOOL" => Some(Element::Boolean),
            "INT8" => integer(i8::MIN.into(), i8::MAX.into()),
            "INT16" => integer(i16::MIN.into(), i16::MAX.into()),
            "INT32" => integer(i32::MIN.into(), i32::MAX.into()),
            "INT64" => integer(i64::MIN, i64::MAX),
            "UINT8" => integer(0, u8::MAX.into()),
            "UINT16" => integer(0, u16::MAX.into()),
            "UINT32" => integer(0, u32::MAX.into()),
            "UINT64" => integer(0, i64::MAX),
            "FP32" | "FP64" => Some(Element::Number),
            "BYTES" => Some(Element::Text),
            _ => None,
        }
    }

    fn take(self, value: &Value) -> Option<Value> {
        match self {
            Element::Boolean => matches!(value, Value::Boolean(_)).then(|| value.clone()),
            Element::Integer { least, most } => {
                let integer = value.as_integer()?;
                (least..=most)
                    .contains(&integer)
                    .then_some(Value::Integer(integer))
            }
            Element::Number => value.as_number().map(Value::Number),
            Element::Text => value.as_text().cloned().map(Value::Text),
        }
    }
}

impl TensorSpec {
    /// Whether its elements can be sent.
    pub(super) fn check(&self) -> Result<(), String> {
        match Element::named(&self.datatype) {
            Some(_) => Ok(()),
            None => Err(format!(
                "has {:?} with elements of {}, which JSON does not carry",
                self.name, self.datatype
            )),
        }
    }
}

/// A value as the tensor that a model wants.
#[derive(Debug)]
pub(super) struct Tensor {
    shape: Vec<usize>,
    data: Vec<Value>,
    /// Dimensions of 1 that were put before those of the value.
    pub(super) added: usize,
}

impl Tensor {
    pub(super) fn read(spec: &TensorSpec, value: &Value) -> Result<Self, String> {
        let mut shape = extent(value);
        let mut data = Vec::new();
        let element = Element::named(&spec.datatype);
        let put = element.is_some_and(|element| fill(value, &shape, element, &mut data));
        if !put {
            let datatype = &spec.datatype;
            return Err(format!("must be an even tensor of {datatype}"));
        }
        let missing = spec.shape.len().saturating_sub(shape.len());
        shape = [vec![1; missing], shape].concat();
        let fits = |(wanted, size): (&i64, &usize)| *wanted < 0 || *wanted == *size as i64;
        if shape.len() != spec.shape.len() || !spec.shape.iter().zip(&shape).all(fits) {
            let wanted = &spec.shape;
            return Err(format!("must have the shape {wanted:?}, it has {shape:?}"));
        }
        Ok(Self {
            shape,
            data,
            added: missing,
        })
    }

    /// As the request has it.
    pub(super) fn into_value(self, spec: &TensorSpec) -> Value {
        let shape = self.shape.into_iter();
        let shape = shape.map(|size| Value::Integer(size as i64));
        Value::Map(Arc::new(Map::from_iter([
            ("name".into(), Value::text(spec.name.as_str())),
            ("shape".into(), Value::list(shape)),
            ("datatype".into(), Value::text(spec.datatype.as_str())),
            ("data".into(), Value::list(self.data)),
        ])))
    }
}

/// The sizes of nested lists, by the first element of each.
fn extent(value: &Value) -> Vec<usize> {
    match value {
        Value::Vector(vector) => vec![vector.len()],
        Value::List(list) => {
            let inner = list.first().map(extent).unwrap_or_default();
            [vec![list.len()], inner].concat()
        }
        _ => Vec::new(),
    }
}

/// Puts the elements into `data`; false if one does not fit, or the lists are uneven.
fn fill(value: &Value, shape: &[usize], element: Element, data: &mut Vec<Value>) -> bool {
    let Some((size, rest)) = shape.split_first() else {
        let taken = element.take(value);
        let fits = taken.is_some();
        data.extend(taken);
        return fits;
    };
    match value {
        Value::Vector(vector) if vector.len() == *size && rest.is_empty() => {
            let mut numbers = vector.iter().map(|number| Value::Number((*number).into()));
            numbers.all(|number| fill(&number, rest, element, data))
        }
        Value::List(list) if list.len() == *size => {
            list.iter().all(|inner| fill(inner, rest, element, data))
        }
        _ => false,
    }
}

/// A tensor of an answer.
#[derive(Deserialize)]
pub(super) struct Answered {
    pub(super) name: String,
    datatype: String,
    shape: Vec<usize>,
    #[serde(default)]
    data: Value,
}

impl Answered {
    /// The value, without so many dimensions at the front as far as they are 1.
    pub(super) fn into_value(self, added: usize) -> Result<Value, String> {
        let mut data = Vec::new();
        flatten(&self.data, &mut data);
        let elements = self
            .shape
            .iter()
            .try_fold(1_usize, |all, size| all.checked_mul(*size));
        if elements != Some(data.len()) {
            let (shape, given) = (&self.shape, data.len());
            return Err(format!("has the shape {shape:?} and {given} elements"));
        }
        let ones = self.shape.iter().take(added);
        let ones = ones.take_while(|size| **size == 1).count();
        let floats = self.datatype.starts_with("FP") || self.datatype == "BF16";
        Ok(nested(&self.shape[ones..], &data, floats))
    }
}

/// Data may be nested or not; either way the order is that of rows.
fn flatten(value: &Value, data: &mut Vec<Value>) {
    match value {
        Value::List(list) => list.iter().for_each(|inner| flatten(inner, data)),
        Value::None => {}
        value => data.push(value.clone()),
    }
}

fn nested(shape: &[usize], data: &[Value], floats: bool) -> Value {
    let Some((size, rest)) = shape.split_first() else {
        return data.first().cloned().unwrap_or_default();
    };
    if rest.is_empty() && floats {
        let numbers = data.iter().map(|number| number.as_number());
        return Value::Vector(numbers.map(|n| n.unwrap_or(f64::NAN) as f32).collect());
    }
    let part = data.len().checked_div(*size).unwrap_or(0);
    let parts = (0..*size).map(|index| &data[index * part..(index + 1) * part]);
    Value::list(parts.map(|part| nested(rest, part, floats)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn spec(datatype: &str, shape: &[i64]) -> TensorSpec {
        TensorSpec {
            name: "x".to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
        }
    }

    fn json(value: &Value) -> String {
        String::from_utf8(value.to_json().unwrap()).unwrap()
    }

    fn check(datatype: &str, shape: &[i64], value: &str, expect: Expect) {
        let value = Value::from_json(value.as_bytes()).unwrap();
        let spec = spec(datatype, shape);
        expect.assert_eq(&match Tensor::read(&spec, &value) {
            Ok(tensor) => {
                let added = tensor.added;
                format!("+{added} {}", json(&tensor.into_value(&spec)))
            }
            Err(error) => error,
        });
    }

    #[test]
    fn values_become_tensors() {
        check(
            "FP32",
            &[-1, 3],
            "[1, 2.5, 3]",
            expect![[r#"+1 {"name":"x","shape":[1,3],"datatype":"FP32","data":[1.0,2.5,3.0]}"#]],
        );
        check(
            "INT8",
            &[2, 2],
            "[[1, -2], [3, 4]]",
            expect![[r#"+0 {"name":"x","shape":[2,2],"datatype":"INT8","data":[1,-2,3,4]}"#]],
        );
        check(
            "BYTES",
            &[-1, 1],
            r#""hi""#,
            expect![[r#"+2 {"name":"x","shape":[1,1],"datatype":"BYTES","data":["hi"]}"#]],
        );
        let uneven = "[[1, 2], [3]]";
        check(
            "FP32",
            &[2, 2],
            uneven,
            expect!["must be an even tensor of FP32"],
        );
        check(
            "INT8",
            &[1],
            "[300]",
            expect!["must be an even tensor of INT8"],
        );
        check(
            "FP32",
            &[3],
            "[1, 2]",
            expect!["must have the shape [3], it has [2]"],
        );
        check(
            "FP32",
            &[2, 2],
            "[1, 2]",
            expect!["must have the shape [2, 2], it has [1, 2]"],
        );
        check(
            "FP32",
            &[2],
            "[[1, 2]]",
            expect!["must have the shape [2], it has [1, 2]"],
        );
    }

    #[test]
    fn tensors_become_values() {
        let answered = |shape: &[usize], datatype: &str, data: &str| Answered {
            name: "y".to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            data: Value::from_json(data.as_bytes()).unwrap(),
        };
        let value = |answered: Answered, added| json(&answered.into_value(added).unwrap());
        assert_eq!(value(answered(&[1, 2], "FP32", "[0.5, 1]"), 1), "[0.5,1.0]");
        assert_eq!(
            value(answered(&[1, 2], "FP32", "[[0.5, 1]]"), 0),
            "[[0.5,1.0]]"
        );
        assert_eq!(
            value(answered(&[2, 2], "INT64", "[1,2,3,4]"), 1),
            "[[1,2],[3,4]]"
        );
        assert_eq!(value(answered(&[1, 1], "BYTES", r#"["a"]"#), 2), r#""a""#);
        assert_eq!(value(answered(&[0, 3], "INT64", "[]"), 0), "[]");
        let short = answered(&[usize::MAX, 2], "FP32", "[1]").into_value(0);
        assert!(short.unwrap_err().contains("1 elements"));
    }

    #[test]
    fn half_floats_are_refused_at_once() {
        assert!(spec("FP16", &[1]).check().is_err());
        assert!(spec("FP32", &[1]).check().is_ok());
    }
}
