//! The protocol over REST: JSON, and after it the raw elements where the server has the binary tensor
//! data extension.

use super::{
    Described, Model,
    datatype::Datatype,
    tensor::{Tensor, TensorSpec},
};
use crate::{
    Map, NodeError, Value,
    endpoint::{Failure, Target},
};
use bytes::Bytes;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName},
};
use serde::Deserialize;
use std::sync::Arc;

/// How long the JSON before the raw elements is.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What a server says that has the extension.
const EXTENSION: &str = "binary_tensor_data";

/// What a server says of itself.
#[derive(Deserialize)]
struct Server {
    #[serde(default)]
    extensions: Vec<String>,
}

/// What the server says of a model.
pub(super) async fn describe(target: Target, path: &str, name: &str) -> Result<Described, Failure> {
    target.get(path, Some(("model", name))).await
}

/// Whether a server takes raw elements.
pub(super) async fn is_binary(target: Target) -> Result<bool, Failure> {
    let server: Server = target.get("/v2", None).await?;
    Ok(server.extensions.iter().any(|name| name == EXTENSION))
}

/// A request as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Request {
    body: Bytes,
    /// The length of the JSON at the front, if raw elements follow.
    json: Option<usize>,
}

impl Request {
    /// The tensors in the order of the model's inputs.
    ///
    /// # Errors
    /// JSON does not carry one of them.
    pub(super) fn new(model: &Model, tensors: &[Tensor], binary: bool) -> Result<Self, NodeError> {
        let inputs = model.inputs.iter().zip(tensors);
        let inputs: Result<Vec<_>, _> = inputs
            .map(|(spec, tensor)| input(spec, tensor, binary))
            .collect();
        let mut output = map([("name", Value::text(model.output.as_str()))]);
        if binary {
            let wanted = map([("binary_data", Value::Boolean(true))]);
            output.insert("parameters".into(), object(wanted));
        }
        let outputs = Value::list([object(output)]);
        let json = object(map([
            ("inputs", Value::list(inputs?)),
            ("outputs", outputs),
        ]));
        let json = json.to_json();
        let mut body = json.map_err(|error| NodeError::invalid(error.to_string()))?;
        let length = body.len();
        if binary {
            tensors
                .iter()
                .for_each(|tensor| body.extend_from_slice(tensor.raw()));
        }
        Ok(Self {
            body: body.into(),
            json: binary.then_some(length),
        })
    }

    /// Has it answered by a server: the output tensor.
    pub(super) async fn send(self, target: Target, model: &Model) -> Result<Tensor, Failure> {
        let request = target.request(Method::POST, &model.path).body(self.body);
        let request = match self.json {
            Some(length) => request
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(JSON_LENGTH, length),
            None => request.header(CONTENT_TYPE, "application/json"),
        };
        let (headers, body) = target.fetch(request, model.named()).await?;
        let (json, raw) = parts(&headers, &body).ok_or_else(|| {
            let name = target.name();
            Failure::senseless(format!("the answer of {name} is shorter than its JSON"))
        })?;
        let answer: Answer = target.parse(json)?;
        answer.output(&model.output, raw).map_err(|reason| {
            let (name, output) = (target.name(), &model.output);
            Failure::senseless(format!("output {output:?} of {name} {reason}"))
        })
    }
}

fn input(spec: &TensorSpec, tensor: &Tensor, binary: bool) -> Result<Value, NodeError> {
    let shape = tensor.shape().iter();
    let shape = shape.map(|size| Value::Integer(*size as i64));
    let mut input = map([
        ("name", Value::text(spec.name.as_str())),
        ("shape", Value::list(shape)),
        ("datatype", Value::text(tensor.datatype().name())),
    ]);
    if binary {
        let size = Value::Integer(tensor.raw().len() as i64);
        let size = map([("binary_data_size", size)]);
        input.insert("parameters".into(), object(size));
        return Ok(object(input));
    }
    let data = tensor.flat().filter(is_finite).ok_or_else(|| {
        let name = &spec.name;
        NodeError::invalid(format!(
            "input {name:?} has a number that JSON does not carry"
        ))
    })?;
    input.insert("data".into(), data);
    Ok(object(input))
}

/// JSON has no other numbers.
fn is_finite(data: &Value) -> bool {
    match data {
        Value::Vector(vector) => vector.iter().all(|number| number.is_finite()),
        Value::List(list) => list.iter().all(is_finite),
        Value::Number(number) => number.is_finite(),
        _ => true,
    }
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Map {
    let entries = entries.into_iter();
    entries
        .map(|(name, value)| (Arc::from(name), value))
        .collect()
}

fn object(map: Map) -> Value {
    Value::Map(Arc::new(map))
}

/// The JSON of an answer, and the raw elements after it.
fn parts<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    match headers.get(JSON_LENGTH) {
        Some(length) => body.split_at_checked(length.to_str().ok()?.parse().ok()?),
        None => Some((body, &[])),
    }
}

#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Answered>,
}

/// A tensor of an answer.
#[derive(Deserialize)]
struct Answered {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    data: Option<Value>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
}

impl Answer {
    /// An output by its name. Outputs without data have their elements in `raw`, in their order.
    fn output(self, name: &str, mut raw: &[u8]) -> Result<Tensor, String> {
        for output in self.outputs {
            let own = match output.parameters.binary_data_size {
                Some(size) => {
                    let (own, rest) = raw
                        .split_at_checked(size)
                        .ok_or("has fewer bytes than it says")?;
                    raw = rest;
                    Some(own)
                }
                None => None,
            };
            if output.name != name {
                continue;
            }
            let datatype = Datatype::named(&output.datatype)
                .ok_or_else(|| format!("has elements of {}", output.datatype))?;
            return match (own, output.data) {
                (Some(own), _) => Tensor::new(datatype, output.shape, own.to_vec()),
                (None, Some(data)) => Tensor::from_json(datatype, output.shape, &data),
                (None, None) => Err("has no elements".to_owned()),
            };
        }
        Err("is missing".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn model() -> Model {
        let spec = |name: &str, datatype: &str| TensorSpec {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![-1, 2],
        };
        Model {
            name: "m".to_owned(),
            version: String::new(),
            path: "/v2/models/m/infer".to_owned(),
            inputs: vec![spec("A", "FP32"), spec("B", "INT8")],
            output: "Y".to_owned(),
        }
    }

    fn tensors() -> [Tensor; 2] {
        let data = Value::from_json(b"[1, 2.5]").unwrap();
        let whole = Value::from_json(b"[3, 4]").unwrap();
        [
            Tensor::from_json(Datatype::Fp32, vec![1, 2], &data).unwrap(),
            Tensor::from_json(Datatype::Int8, vec![1, 2], &whole).unwrap(),
        ]
    }

    #[test]
    fn tensors_travel_as_json() {
        let request = Request::new(&model(), &tensors(), false).unwrap();
        assert_eq!(request.json, None);
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        expect![[r#"{"inputs":[{"name":"A","shape":[1,2],"datatype":"FP32","data":[1.0,2.5]},{"name":"B","shape":[1,2],"datatype":"INT8","data":[3,4]}],"outputs":[{"name":"Y"}]}"#]].assert_eq(&body);
        let odd = Tensor::from_json(
            Datatype::Fp32,
            vec![1, 2],
            &Value::list([Value::None, Value::None]),
        );
        let [_, second] = tensors();
        let error = Request::new(&model(), &[odd.unwrap(), second], false).unwrap_err();
        assert!(error.to_string().contains("JSON does not carry"), "{error}");
    }

    #[test]
    fn raw_elements_follow_the_json() {
        let request = Request::new(&model(), &tensors(), true).unwrap();
        let (json, raw) = request.body.split_at(request.json.unwrap());
        expect![[r#"{"inputs":[{"name":"A","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}},{"name":"B","shape":[1,2],"datatype":"INT8","parameters":{"binary_data_size":2}}],"outputs":[{"name":"Y","parameters":{"binary_data":true}}]}"#]].assert_eq(std::str::from_utf8(json).unwrap());
        assert_eq!(raw, [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0x40, 3, 4]);
    }

    fn output(json: &str, raw: &[u8]) -> Result<String, String> {
        let answer: Answer = serde_json::from_str(json).unwrap();
        let value = answer.output("Y", raw)?.into_value(0)?;
        Ok(String::from_utf8(value.to_json().unwrap()).unwrap())
    }

    #[test]
    fn outputs_are_found_by_name() {
        let json = r#"{"outputs": [
            {"name": "X", "datatype": "INT8", "shape": [3], "parameters": {"binary_data_size": 3}},
            {"name": "Y", "datatype": "INT16", "shape": [2], "parameters": {"binary_data_size": 4}}
        ]}"#;
        assert_eq!(output(json, &[9, 9, 9, 1, 0, 2, 0]).unwrap(), "[1,2]");
        assert_eq!(
            output(json, &[9, 9, 9, 1]).unwrap_err(),
            "has fewer bytes than it says"
        );
        let json =
            r#"{"outputs": [{"name": "Y", "datatype": "INT16", "shape": [2], "data": [1, 2]}]}"#;
        assert_eq!(output(json, &[]).unwrap(), "[1,2]");
        let json = r#"{"outputs": [{"name": "Y", "datatype": "INT16", "shape": [2]}]}"#;
        assert_eq!(output(json, &[]).unwrap_err(), "has no elements");
        assert_eq!(output(r#"{"outputs": []}"#, &[]).unwrap_err(), "is missing");
    }

    #[test]
    fn a_length_beyond_the_body_is_none() {
        let headers = HeaderMap::from_iter([(JSON_LENGTH, "3".parse().unwrap())]);
        assert_eq!(parts(&headers, b"{}x!"), Some((&b"{}x"[..], &b"!"[..])));
        assert_eq!(parts(&headers, b"{}"), None);
        assert_eq!(
            parts(&HeaderMap::new(), b"{}"),
            Some((&b"{}"[..], &b""[..]))
        );
    }
}
