//! Values as tensors and back, and several tensors as one. Pure.

use super::datatype::Datatype;
use crate::Value;
use serde::Deserialize;

/// More elements than any answer has that is read; a shape may claim more.
const MOST_ELEMENTS: usize = 64 << 20;

/// A tensor as its server describes it. A size of -1 may be anything.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TensorSpec {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<i64>,
}

impl TensorSpec {
    /// Whether a tensor may have any number of rows.
    pub(super) fn has_rows(&self) -> bool {
        self.shape.first() == Some(&-1)
    }

    /// Whether tensors of it may be of different sizes beside that.
    pub(super) fn is_ragged(&self) -> bool {
        self.shape.iter().skip(1).any(|size| *size < 0)
    }
}

/// Elements in the order of rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    datatype: Datatype,
    shape: Vec<usize>,
    /// The elements in their raw form.
    raw: Vec<u8>,
}

impl Tensor {
    /// A tensor of a server.
    ///
    /// # Errors
    /// The elements are not as many as the shape says.
    pub(super) fn new(datatype: Datatype, shape: Vec<usize>, raw: Vec<u8>) -> Result<Self, String> {
        let sizes = shape.iter().map(|size| (*size).max(1));
        let claimed = sizes.fold(1_usize, usize::saturating_mul);
        let elements: usize = match claimed <= MOST_ELEMENTS {
            true => shape.iter().product(),
            false => return Err(format!("has the shape {shape:?}, which is too large")),
        };
        if datatype.length(elements, &raw) != Some(raw.len()) {
            let (name, bytes) = (datatype.name(), raw.len());
            return Err(format!(
                "has the shape {shape:?}, and its {bytes} bytes are not {elements} elements of {name}"
            ));
        }
        Ok(Self {
            datatype,
            shape,
            raw,
        })
    }

    /// A tensor of a server whose elements are JSON; nested or not, their order is that of rows.
    ///
    /// # Errors
    /// An element is none, or they are not as many as the shape says.
    pub(super) fn from_json(
        datatype: Datatype,
        shape: Vec<usize>,
        data: &Value,
    ) -> Result<Self, String> {
        let mut raw = Vec::new();
        match flatten(datatype, data, &mut raw) {
            true => Self::new(datatype, shape, raw),
            false => Err(format!("has elements that are no {}", datatype.name())),
        }
    }

    /// A value as the tensor that a model wants, with the number of dimensions of 1 that were put
    /// before those of the value.
    ///
    /// # Errors
    /// It is none of that type or shape.
    pub(super) fn of_value(spec: &TensorSpec, value: &Value) -> Result<(Self, usize), String> {
        let shape = extent(value);
        let datatype = Datatype::named(&spec.datatype);
        let mut raw = Vec::new();
        let put = datatype.filter(|datatype| fill(value, &shape, *datatype, &mut raw));
        let Some(datatype) = put else {
            return Err(format!("must be an even tensor of {}", spec.datatype));
        };
        let missing = spec.shape.len().saturating_sub(shape.len());
        let shape = [vec![1; missing], shape].concat();
        let fits = |(wanted, size): (&i64, &usize)| *wanted < 0 || *wanted == *size as i64;
        if shape.len() != spec.shape.len() || !spec.shape.iter().zip(&shape).all(fits) {
            let wanted = &spec.shape;
            return Err(format!("must have the shape {wanted:?}, it has {shape:?}"));
        }
        let tensor = Self {
            datatype,
            shape,
            raw,
        };
        Ok((tensor, missing))
    }

    pub(super) fn datatype(&self) -> Datatype {
        self.datatype
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The size of its first dimension.
    pub(super) fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// Whether its rows could be those of `other`.
    pub(super) fn joins(&self, other: &Self) -> bool {
        let row = |tensor: &Self| tensor.shape.get(1..).map(<[usize]>::to_vec);
        self.datatype == other.datatype && row(self) == row(other)
    }

    /// The rows of all, one after the other; each must [join](Self::joins) the first.
    pub(super) fn join<'a>(mut tensors: impl Iterator<Item = &'a Tensor>) -> Option<Self> {
        let mut all = tensors.next()?.clone();
        for tensor in tensors {
            all.raw.extend_from_slice(&tensor.raw);
            all.shape[0] += tensor.shape[0];
        }
        Some(all)
    }

    /// Tensors of so many rows each.
    ///
    /// # Errors
    /// It has not as many rows as all of them.
    pub(super) fn split(&self, rows: &[usize]) -> Result<Vec<Self>, String> {
        let all: usize = rows.iter().sum();
        if self.rows() != Some(all) {
            let shape = &self.shape;
            return Err(format!("has the shape {shape:?} for a batch of {all} rows"));
        }
        let size: usize = self.shape[1..].iter().product();
        let mut rest = &self.raw[..];
        let parts = rows.iter().map(|rows| {
            let length = self
                .datatype
                .length(rows * size, rest)
                .unwrap_or(rest.len());
            let (part, others) = rest.split_at(length);
            rest = others;
            let mut shape = self.shape.clone();
            shape[0] = *rows;
            Self {
                datatype: self.datatype,
                shape,
                raw: part.to_vec(),
            }
        });
        Ok(parts.collect())
    }

    /// The value, without so many dimensions at the front as far as they are 1.
    ///
    /// # Errors
    /// A text that is none.
    pub(super) fn into_value(self, added: usize) -> Result<Value, String> {
        let ones = self.shape.iter().take(added);
        let ones = ones.take_while(|size| **size == 1).count();
        let value = nested(self.datatype, &self.shape[ones..], &mut &self.raw[..]);
        value.ok_or_else(|| "has bytes that are no text".to_owned())
    }

    /// The elements one after the other, as a vector where they are numbers with a fraction.
    pub(super) fn flat(&self) -> Option<Value> {
        let elements = self.shape.iter().product();
        match self.datatype {
            // A vector would cut its elements short.
            Datatype::Fp64 => {
                let mut rest = &self.raw[..];
                let numbers = (0..elements).map(|_| self.datatype.take(&mut rest));
                Some(Value::List(numbers.collect::<Option<_>>()?))
            }
            datatype => nested(datatype, &[elements], &mut &self.raw[..]),
        }
    }
}

/// The sizes of nested lists, by the first element of each.
pub(super) fn extent(value: &Value) -> Vec<usize> {
    match value {
        Value::Vector(vector) => vec![vector.len()],
        Value::List(list) => {
            let inner = list.first().map(extent).unwrap_or_default();
            [vec![list.len()], inner].concat()
        }
        _ => Vec::new(),
    }
}

/// Appends the elements to `raw`; false if one does not fit, or the lists are uneven.
fn fill(value: &Value, shape: &[usize], datatype: Datatype, raw: &mut Vec<u8>) -> bool {
    let Some((size, rest)) = shape.split_first() else {
        return datatype.write(value, raw);
    };
    match value {
        Value::Vector(vector) if vector.len() == *size && rest.is_empty() => {
            datatype.write_floats(vector, raw)
        }
        Value::List(list) if list.len() == *size => {
            list.iter().all(|inner| fill(inner, rest, datatype, raw))
        }
        _ => false,
    }
}

fn flatten(datatype: Datatype, value: &Value, raw: &mut Vec<u8>) -> bool {
    match value {
        Value::List(list) => list.iter().all(|inner| flatten(datatype, inner, raw)),
        // What is not finite has no other form in JSON.
        Value::None if datatype.is_float() => datatype.write(&Value::Number(f64::NAN), raw),
        value => datatype.write(value, raw),
    }
}

fn nested(datatype: Datatype, shape: &[usize], raw: &mut &[u8]) -> Option<Value> {
    match shape {
        [] => datatype.take(raw),
        [size] if datatype.is_float() => Some(Value::Vector(datatype.take_floats(*size, raw)?)),
        [size, rest @ ..] => {
            let parts = (0..*size).map(|_| nested(datatype, rest, raw));
            Some(Value::List(parts.collect::<Option<_>>()?))
        }
    }
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

    fn value(json: &str) -> Value {
        Value::from_json(json.as_bytes()).unwrap()
    }

    fn check(datatype: &str, shape: &[i64], given: &str, expect: Expect) {
        let spec = spec(datatype, shape);
        expect.assert_eq(&match Tensor::of_value(&spec, &value(given)) {
            Ok((tensor, added)) => {
                let (shape, flat) = (tensor.shape(), json(&tensor.flat().unwrap()));
                format!("+{added} {shape:?} {flat}")
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
            expect!["+1 [1, 3] [1.0,2.5,3.0]"],
        );
        check("FP64", &[1], "0.1", expect!["+1 [1] [0.1]"]);
        check(
            "FP16",
            &[2],
            "[0.1, 1]",
            expect!["+0 [2] [0.099975586,1.0]"],
        );
        check(
            "INT8",
            &[2, 2],
            "[[1, -2], [3, 4]]",
            expect!["+0 [2, 2] [1,-2,3,4]"],
        );
        check(
            "BYTES",
            &[-1, 1],
            r#""hi""#,
            expect![[r#"+2 [1, 1] ["hi"]"#]],
        );
        check("BOOL", &[1], "[true]", expect!["+0 [1] [true]"]);
        check(
            "FP32",
            &[2, 2],
            "[[1, 2], [3]]",
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

    fn answered(datatype: Datatype, shape: &[usize], data: &str) -> Result<Tensor, String> {
        Tensor::from_json(datatype, shape.to_vec(), &value(data))
    }

    #[test]
    fn tensors_become_values() {
        let back = |datatype, shape: &[usize], data: &str, added| {
            let tensor = answered(datatype, shape, data).unwrap();
            json(&tensor.into_value(added).unwrap())
        };
        use Datatype::{Bytes, Fp32, Fp64, Int64};
        assert_eq!(back(Fp32, &[1, 2], "[0.5, 1]", 1), "[0.5,1.0]");
        assert_eq!(back(Fp32, &[1, 2], "[[0.5, 1]]", 0), "[[0.5,1.0]]");
        assert_eq!(back(Int64, &[2, 2], "[1,2,3,4]", 1), "[[1,2],[3,4]]");
        assert_eq!(back(Bytes, &[1, 1], r#"["a"]"#, 2), r#""a""#);
        assert_eq!(back(Int64, &[0, 3], "[]", 0), "[]");
        assert_eq!(back(Fp64, &[1], "[0.1]", 1), "0.1");
        assert_eq!(back(Fp32, &[2], "[null, 1]", 0), "[null,1.0]");
    }

    #[test]
    fn a_server_that_gives_nonsense_is_not_believed() {
        let error = |answered: Result<Tensor, String>| answered.unwrap_err();
        let huge = answered(Datatype::Fp32, &[usize::MAX, 2], "[1]");
        assert!(error(huge).contains("too large"));
        let huge = answered(Datatype::Fp32, &[usize::MAX, 0], "[]");
        assert!(error(huge).contains("too large"));
        let short = answered(Datatype::Fp32, &[3], "[1]");
        assert!(error(short).contains("its 4 bytes are not 3 elements of FP32"));
        let odd = answered(Datatype::Int8, &[1], "[1.5]");
        assert_eq!(error(odd), "has elements that are no INT8");
        let text = Tensor::new(Datatype::Bytes, vec![1], vec![1, 0, 0, 0, 255]).unwrap();
        assert_eq!(
            text.into_value(0).unwrap_err(),
            "has bytes that are no text"
        );
    }

    #[test]
    fn rows_are_joined_and_split_again() {
        for (datatype, one, two) in [
            (Datatype::Fp32, "[[1, 2]]", "[[3, 4], [5, 6]]"),
            (
                Datatype::Bytes,
                r#"[["a", ""]]"#,
                r#"[["bcd", "e"], ["f", "g"]]"#,
            ),
        ] {
            let one = answered(datatype, &[1, 2], one).unwrap();
            let two = answered(datatype, &[2, 2], two).unwrap();
            assert!(one.joins(&two));
            let all = Tensor::join([&one, &two].into_iter()).unwrap();
            assert_eq!(all.shape(), [3, 2]);
            assert_eq!(all.split(&[1, 2]).unwrap(), [one, two]);
            assert!(all.split(&[1, 1]).is_err());
        }
        let three = answered(Datatype::Fp32, &[1, 3], "[1, 2, 3]").unwrap();
        let two = answered(Datatype::Fp32, &[1, 2], "[1, 2]").unwrap();
        assert!(!three.joins(&two));
    }
}
