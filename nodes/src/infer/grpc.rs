//! The protocol over gRPC. Elements are sent raw; those of an answer are read raw or typed, as servers
//! differ in what they send.

use super::{
    Described, Model,
    datatype::{Datatype, write_text},
    tensor::{Tensor, TensorSpec},
};
use crate::{
    Value,
    endpoint::{Failure, Target},
};
use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

/// Whether a server is ready; takes nothing.
pub(super) const READY: &str = "/inference.GRPCInferenceService/ServerReady";
const SERVER: &str = "/inference.GRPCInferenceService/ServerMetadata";
const METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

#[derive(Clone, PartialEq, Message)]
struct MetadataRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataResponse {
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<TensorMessage>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<TensorMessage>,
}

/// A tensor's description, and a tensor with typed contents; the former has none.
#[derive(Clone, PartialEq, Message)]
struct TensorMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    contents: Option<Contents>,
}

#[derive(Clone, PartialEq, Message)]
struct Contents {
    #[prost(bool, repeated, tag = "1")]
    booleans: Vec<bool>,
    #[prost(int32, repeated, tag = "2")]
    int32: Vec<i32>,
    #[prost(int64, repeated, tag = "3")]
    int64: Vec<i64>,
    #[prost(uint32, repeated, tag = "4")]
    uint32: Vec<u32>,
    #[prost(uint64, repeated, tag = "5")]
    uint64: Vec<u64>,
    #[prost(float, repeated, tag = "6")]
    fp32: Vec<f32>,
    #[prost(double, repeated, tag = "7")]
    fp64: Vec<f64>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    bytes: Vec<Bytes>,
}

/// A call of a model as it is sent.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<TensorMessage>,
    #[prost(message, repeated, tag = "6")]
    outputs: Vec<Wanted>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    raw_input_contents: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Wanted {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<TensorMessage>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    raw_output_contents: Vec<Bytes>,
}

/// What the server says of a model.
pub(super) async fn describe(
    target: Target,
    name: &str,
    version: &str,
    deadline: Instant,
) -> Result<Described, Failure> {
    let request = MetadataRequest {
        name: name.to_owned(),
        version: version.to_owned(),
    };
    let named = Some(("model", name));
    let answer: MetadataResponse = target
        .unary(METADATA, request, Some(deadline), named)
        .await?;
    let specs = |tensors: Vec<TensorMessage>| {
        let specs = tensors.into_iter().map(|tensor| TensorSpec {
            name: tensor.name,
            datatype: tensor.datatype,
            shape: tensor.shape,
        });
        specs.collect()
    };
    Ok(Described {
        inputs: specs(answer.inputs),
        outputs: specs(answer.outputs),
    })
}

/// Asks a server what it is. One that does not know the question, such as TorchServe, reads no raw
/// elements either.
pub(super) async fn introduce(target: Target, deadline: Instant) -> Result<(), Failure> {
    target.unary(SERVER, (), Some(deadline), None).await
}

impl Request {
    /// The tensors in the order of the model's inputs, their elements raw or typed.
    pub(super) fn new(model: &Model, tensors: &[Tensor], raw: bool) -> Self {
        let inputs = model.inputs.iter().zip(tensors);
        let inputs = inputs.map(|(spec, tensor)| TensorMessage {
            name: spec.name.clone(),
            datatype: tensor.datatype().name().to_owned(),
            shape: tensor.shape().iter().map(|size| *size as i64).collect(),
            contents: (!raw).then(|| Contents::of(tensor)),
        });
        let elements = tensors.iter().filter(|_| raw);
        Self {
            model_name: model.name.clone(),
            model_version: model.version.clone(),
            inputs: inputs.collect(),
            outputs: vec![Wanted {
                name: model.output.clone(),
            }],
            raw_input_contents: elements
                .map(|tensor| Bytes::copy_from_slice(tensor.raw()))
                .collect(),
        }
    }

    /// Has it answered by a server: the output tensor.
    pub(super) async fn send(
        self,
        target: Target,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<Tensor, Failure> {
        let answer: Response = target.unary(INFER, self, deadline, model.named()).await?;
        answer.output(&model.output).map_err(|reason| {
            let (name, output) = (target.name(), &model.output);
            Failure::senseless(format!("output {output:?} of {name} {reason}"))
        })
    }
}

impl Response {
    /// An output by its name.
    fn output(self, name: &str) -> Result<Tensor, String> {
        let mut outputs = self.outputs.into_iter().enumerate();
        let found = outputs.find(|(_, output)| output.name == name);
        let (index, output) = found.ok_or("is missing")?;
        let datatype = Datatype::named(&output.datatype)
            .ok_or_else(|| format!("has elements of {}", output.datatype))?;
        let sizes = output.shape.iter().map(|size| usize::try_from(*size).ok());
        let shape: Option<Vec<usize>> = sizes.collect();
        let shape = shape.ok_or_else(|| format!("has the shape {:?}", output.shape))?;
        let raw = match (self.raw_output_contents.get(index), output.contents) {
            (Some(raw), _) => raw.to_vec(),
            (None, Some(contents)) => contents
                .raw(datatype)
                .ok_or_else(|| format!("has elements that are no {}", datatype.name()))?,
            (None, None) => Vec::new(),
        };
        Tensor::new(datatype, shape, raw)
    }
}

impl Contents {
    /// The elements of a tensor, typed. Halves have no type of their own here.
    fn of(tensor: &Tensor) -> Self {
        let datatype = tensor.datatype();
        let (mut rest, mut contents) = (tensor.raw(), Self::default());
        while let Some(value) = datatype.take(&mut rest) {
            contents.push(datatype, &value);
        }
        contents
    }

    fn push(&mut self, datatype: Datatype, value: &Value) {
        use Datatype::{
            Bf16, Bool, Bytes, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32,
            Uint64,
        };
        match (datatype, value) {
            (Bool, Value::Boolean(boolean)) => self.booleans.push(*boolean),
            (Int8 | Int16 | Int32, Value::Integer(integer)) => self.int32.push(*integer as i32),
            (Int64, Value::Integer(integer)) => self.int64.push(*integer),
            (Uint8 | Uint16 | Uint32, Value::Integer(integer)) => self.uint32.push(*integer as u32),
            (Uint64, Value::Integer(integer)) => self.uint64.push(*integer as u64),
            (Fp32 | Fp16 | Bf16, Value::Number(number)) => self.fp32.push(*number as f32),
            (Fp64, Value::Number(number)) => self.fp64.push(*number),
            (Bytes, Value::Text(text)) => {
                self.bytes
                    .push(bytes::Bytes::copy_from_slice(text.as_bytes()));
            }
            _ => {}
        }
    }

    /// The elements in their raw form; none if one does not fit.
    fn raw(self, datatype: Datatype) -> Option<Vec<u8>> {
        use Datatype::{
            Bf16, Bool, Bytes, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32,
            Uint64,
        };
        let mut raw = Vec::new();
        let mut put = |value: Value| datatype.write(&value, &mut raw);
        let integer = |integer: i64| Value::Integer(integer);
        let all = match datatype {
            Bool => self.booleans.into_iter().map(Value::Boolean).all(put),
            Int8 | Int16 | Int32 => self.int32.into_iter().map(|n| integer(n.into())).all(put),
            Int64 => self.int64.into_iter().map(integer).all(put),
            Uint8 | Uint16 | Uint32 => self.uint32.into_iter().map(|n| integer(n.into())).all(put),
            Uint64 => {
                raw.extend(self.uint64.into_iter().flat_map(u64::to_le_bytes));
                true
            }
            Fp32 => datatype.write_floats(&self.fp32, &mut raw),
            Fp64 => self.fp64.into_iter().map(Value::Number).all(&mut put),
            // No field is made for them, and servers that send them put their bytes here.
            Fp16 | Bf16 => {
                self.bytes
                    .iter()
                    .for_each(|bytes| raw.extend_from_slice(bytes));
                true
            }
            Bytes => self.bytes.iter().all(|text| write_text(text, &mut raw)),
        };
        all.then_some(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(datatype: &str) -> Model {
        Model {
            name: "m".to_owned(),
            version: "2".to_owned(),
            path: String::new(),
            inputs: vec![TensorSpec {
                name: "X".to_owned(),
                datatype: datatype.to_owned(),
                shape: vec![-1],
            }],
            output: "Y".to_owned(),
        }
    }

    fn tensor(datatype: Datatype, json: &str) -> Tensor {
        let value = Value::from_json(json.as_bytes()).unwrap();
        let size = value.as_list().unwrap().len();
        Tensor::from_json(datatype, vec![size], &value).unwrap()
    }

    /// A server that gives back what it gets, in the form in which it got it.
    fn echoed(request: Request) -> Response {
        let mut inputs = request.inputs;
        inputs[0].name = "Y".to_owned();
        Response {
            outputs: inputs,
            raw_output_contents: request.raw_input_contents,
        }
    }

    #[test]
    fn elements_come_back_raw_and_typed() {
        use Datatype::*;
        for (datatype, json) in [
            (Bool, "[true, false]"),
            (Int8, "[-1, 2]"),
            (Int16, "[-300]"),
            (Int32, "[70000]"),
            (Int64, "[-5000000000]"),
            (Uint8, "[255]"),
            (Uint16, "[65535]"),
            (Uint32, "[4294967295]"),
            (Uint64, "[9]"),
            (Fp32, "[0.1, -2]"),
            (Fp64, "[0.1]"),
            (Bytes, r#"["a", "", "héllo"]"#),
        ] {
            let given = tensor(datatype, json);
            for raw in [true, false] {
                let request =
                    Request::new(&model(datatype.name()), std::slice::from_ref(&given), raw);
                assert_eq!(request.raw_input_contents.is_empty(), !raw);
                let bytes = request.encode_to_vec();
                let request = Request::decode(&bytes[..]).unwrap();
                let back = echoed(request).output("Y").unwrap();
                assert_eq!(back, given, "{datatype:?} raw {raw}");
            }
        }
        let halves = tensor(Fp16, "[0.5, 2]");
        let request = Request::new(&model("FP16"), std::slice::from_ref(&halves), true);
        assert_eq!(echoed(request).output("Y").unwrap(), halves);
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_refused() {
        let mut answer = echoed(Request::new(
            &model("INT8"),
            &[tensor(Datatype::Int8, "[1]")],
            true,
        ));
        assert_eq!(answer.clone().output("Z").unwrap_err(), "is missing");
        answer.outputs[0].shape = vec![2];
        assert!(
            answer
                .clone()
                .output("Y")
                .unwrap_err()
                .contains("are not 2 elements")
        );
        answer.outputs[0].shape = vec![-1];
        assert_eq!(
            answer.clone().output("Y").unwrap_err(),
            "has the shape [-1]"
        );
        answer.outputs[0].datatype = "INT4".to_owned();
        assert_eq!(answer.output("Y").unwrap_err(), "has elements of INT4");
    }
}
