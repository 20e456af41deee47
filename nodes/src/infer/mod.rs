//! `infer`: a model on a server of the Open Inference Protocol, version 2: Triton, TorchServe, KServe,
//! OpenVINO's and MLServer; over gRPC, or over REST with raw elements where the server has them.
//!
//! The server's own metadata types the tensors, and is asked for when the node is built, so that a
//! wrong name is found before a request comes. Streams of responses and shared memory are left out.

mod batch;
mod datatype;
mod grpc;
mod rest;
mod tensor;

use crate::{
    BatchKey, Input, Node, NodeError, Running, Value,
    endpoint::{Endpoints, Services, Target, escaped},
};
use batch::{Item, apart, groups, latest, together};
use datatype::Datatype;
use futures::future::{BoxFuture, join, join_all};
use schema::kind::Placement;
use serde::Deserialize;
use std::time::Duration;
use tensor::{Tensor, TensorSpec, extent};
use tokio::time::Instant;

/// How long a server may take to describe a model.
const DESCRIBE: Duration = Duration::from_secs(10);
/// Batches that are under way at one server.
const AT_ONCE: usize = 4;

/// Calls a model on a server with tensors.
///
/// Takes the arguments that the file's `input` lines name: a number, text, vector, or nested lists of
/// them. Where the model wants more dimensions than a value has, and those at the front may be 1, they
/// are added, and taken off the result again. Gives the output tensor as a number, text, vector or
/// nested lists. Where the file asks for batches, the rows of several items travel in one request.
pub struct Infer {
    endpoints: Endpoints,
    model: Model,
    wire: Wire,
    batches: bool,
}

/// A model as it is called.
#[derive(Debug)]
struct Model {
    name: String,
    /// Empty where the server chooses.
    version: String,
    /// Where it is called over REST.
    path: String,
    inputs: Vec<TensorSpec>,
    output: String,
}

impl Model {
    /// What errors say that does not exist.
    fn named(&self) -> Option<(&'static str, &str)> {
        Some(("model", &self.name))
    }
}

/// How tensors travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// REST, as JSON.
    Json,
    /// REST, raw.
    Binary,
    /// gRPC, raw.
    Raw,
    /// gRPC, as typed contents.
    Typed,
}

/// A model as its server describes it.
#[derive(Debug, Deserialize)]
struct Described {
    #[serde(default)]
    inputs: Vec<TensorSpec>,
    #[serde(default)]
    outputs: Vec<TensorSpec>,
}

impl Infer {
    /// Asks the server what the model takes and gives, and compares that with the file. `batched` is
    /// whether the file asks for batches.
    ///
    /// # Errors
    /// The server cannot be asked, the file names other tensors than the model has, or batches that
    /// the model does not take.
    pub async fn connect(work: &schema::kind::Infer, batched: bool) -> Result<Self, NodeError> {
        let is_grpc = work.is_grpc();
        let endpoints = Endpoints::new(&Services {
            urls: &work.urls,
            prefix: "",
            probe: match is_grpc {
                true => grpc::READY,
                false => "/v2/health/ready",
            },
            model: None,
            key: None,
            key_header: None,
            placement: Placement::Load,
        })?;
        let name = work.model.expose();
        let version = work.version.as_ref().map_or("", |version| version.expose());
        let mut path = format!("/v2/models/{}", escaped(name));
        if !version.is_empty() {
            path = format!("{path}/versions/{}", escaped(version));
        }
        let end = Instant::now() + DESCRIBE;
        let (described, wire) = match is_grpc {
            true => meet_grpc(&endpoints, name, version, end).await?,
            false => meet_rest(&endpoints, name, &path, end).await?,
        };
        let given: Vec<&str> = work.inputs.iter().map(|(name, _)| name.as_str()).collect();
        let wanted = work.output.as_ref().map(|output| output.as_str());
        let outputs = described.outputs.clone();
        let compared = compare(described, &given, wanted, wire);
        let compared = compared.and_then(|(inputs, output)| {
            if batched {
                let output = outputs.iter().filter(|spec| spec.name == output);
                takes_batches(inputs.iter().chain(output))?;
            }
            Ok((inputs, output))
        });
        let (inputs, output) =
            compared.map_err(|reason| NodeError::failed(format!("model {name:?} {reason}")))?;
        Ok(Self {
            endpoints,
            model: Model {
                name: name.to_owned(),
                version: version.to_owned(),
                path: path + "/infer",
                inputs,
                output,
            },
            wire,
            batches: batched,
        })
    }

    fn read(&self, item: &Input) -> Result<Item, NodeError> {
        let mut tensors = Vec::with_capacity(self.model.inputs.len());
        let mut least = None;
        for spec in &self.model.inputs {
            let read = Tensor::of_value(spec, item.arguments.get(&spec.name));
            let (tensor, added) = read
                .map_err(|reason| NodeError::invalid(format!("input {:?} {reason}", spec.name)))?;
            least = Some(least.map_or(added, |least: usize| least.min(added)));
            tensors.push(tensor);
        }
        Ok(Item {
            tensors,
            added: least.unwrap_or_default(),
            deadline: item.context.deadline,
        })
    }

    async fn answer(&self, batch: &[Input]) -> Vec<Result<Value, NodeError>> {
        let mut answers: Vec<Result<Value, NodeError>> = vec![Ok(Value::None); batch.len()];
        let mut items = Vec::with_capacity(batch.len());
        for (input, answer) in batch.iter().zip(&mut answers) {
            let item = self.read(input);
            items.push(item.map_err(|error| *answer = Err(error)).ok());
        }
        let places = groups(&items);
        let asked = places.iter().map(|group| {
            let group: Vec<&Item> = group.iter().filter_map(|at| items[*at].as_ref()).collect();
            async move { self.part(&group).await }
        });
        for (group, results) in places.iter().zip(join_all(asked).await) {
            for (place, result) in group.iter().zip(results) {
                answers[*place] = result;
            }
        }
        answers
    }

    /// Items in one request. If one of them is at fault, the server refuses them all, so each half is
    /// asked by itself.
    fn part<'a>(&'a self, items: &'a [&'a Item]) -> BoxFuture<'a, Vec<Result<Value, NodeError>>> {
        Box::pin(async move {
            match self.ask(items).await {
                Ok(values) => values.into_iter().map(Ok).collect(),
                Err(NodeError::Invalid { .. }) if items.len() > 1 => {
                    let (first, second) = items.split_at(items.len() / 2);
                    let (mut first, second) = join(self.part(first), self.part(second)).await;
                    first.extend(second);
                    first
                }
                Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
            }
        })
    }

    async fn ask(&self, items: &[&Item]) -> Result<Vec<Value>, NodeError> {
        let tensors = together(items);
        let answer = self.send(&tensors, latest(items)).await?;
        let parts = apart(items, answer);
        let values = parts.and_then(|parts| {
            let parts = parts.into_iter().zip(items);
            parts
                .map(|(part, item)| part.into_value(item.added))
                .collect()
        });
        values.map_err(|reason| {
            let (name, output) = (&self.model.name, &self.model.output);
            NodeError::failed(format!("output {output:?} of model {name:?} {reason}"))
        })
    }

    async fn send(
        &self,
        tensors: &[Tensor],
        deadline: Option<Instant>,
    ) -> Result<Tensor, NodeError> {
        let model = &self.model;
        let answer = match self.wire {
            Wire::Json | Wire::Binary => {
                let request = rest::Request::new(model, tensors, self.wire == Wire::Binary)?;
                let attempt = |target: Target| request.clone().send(target, model);
                self.endpoints.call(deadline, None, attempt).await
            }
            Wire::Raw | Wire::Typed => {
                let request = grpc::Request::new(model, tensors, self.wire == Wire::Raw);
                let attempt = |target: Target| request.clone().send(target, model, deadline);
                self.endpoints.call(deadline, None, attempt).await
            }
        };
        Ok(answer?.0)
    }
}

impl Node for Infer {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(async move { self.answer(&batch).await })
    }

    fn running(&self) -> Running {
        match self.batches {
            true => Running::Batches(AT_ONCE * self.endpoints.count()),
            false => Running::ManyItems,
        }
    }

    /// Its rows.
    fn cost(&self, item: &Input) -> u64 {
        let first = self.model.inputs.first();
        let rows = first.and_then(|spec| {
            let shape = extent(item.arguments.get(&spec.name));
            (shape.len() == spec.shape.len()).then(|| shape[0] as u64)
        });
        rows.unwrap_or(1)
    }

    /// Tensors of other sizes would be other requests.
    fn key(&self, item: &Input) -> Option<BatchKey> {
        let ragged = self.batches && self.model.inputs.iter().any(TensorSpec::is_ragged);
        ragged.then(|| {
            let shapes = self.model.inputs.iter().map(|spec| {
                let mut shape = extent(item.arguments.get(&spec.name));
                if shape.len() == spec.shape.len() {
                    shape.remove(0);
                }
                shape
            });
            BatchKey(format!("{:?}", shapes.collect::<Vec<_>>()).into())
        })
    }
}

/// What a server of REST says of a model, and how tensors travel to it.
async fn meet_rest(
    endpoints: &Endpoints,
    name: &str,
    path: &str,
    end: Instant,
) -> Result<(Described, Wire), NodeError> {
    let describe = |target| rest::describe(target, path, name);
    let (described, _) = endpoints.call(Some(end), None, describe).await?;
    let wire = match endpoints.call(Some(end), None, rest::is_binary).await {
        Ok((true, _)) => Wire::Binary,
        Err(error @ (NodeError::Unavailable { .. } | NodeError::Timeout { .. })) => {
            return Err(error);
        }
        // One that does not say what it can is taken to do what all can.
        Ok((false, _)) | Err(_) => Wire::Json,
    };
    Ok((described, wire))
}

/// What a server of gRPC says of a model, and how tensors travel to it.
async fn meet_grpc(
    endpoints: &Endpoints,
    name: &str,
    version: &str,
    end: Instant,
) -> Result<(Described, Wire), NodeError> {
    let describe = |target| grpc::describe(target, name, version, end);
    let (described, _) = endpoints.call(Some(end), None, describe).await?;
    let introduce = |target| grpc::introduce(target, end);
    let wire = match endpoints.call(Some(end), None, introduce).await {
        Ok(_) => Wire::Raw,
        Err(error @ (NodeError::Unavailable { .. } | NodeError::Timeout { .. })) => {
            return Err(error);
        }
        Err(_) => Wire::Typed,
    };
    Ok((described, wire))
}

/// The tensors that the file gives, and the name of the one that it wants; or what does not fit.
fn compare(
    described: Described,
    given: &[&str],
    wanted: Option<&str>,
    wire: Wire,
) -> Result<(Vec<TensorSpec>, String), String> {
    let names = |specs: &[TensorSpec]| {
        let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        names.join(", ")
    };
    let inputs = names(&described.inputs);
    for name in given {
        if !described.inputs.iter().any(|spec| spec.name == *name) {
            return Err(format!("has no input {name:?}; it has {inputs}"));
        }
    }
    for spec in &described.inputs {
        if !given.contains(&spec.name.as_str()) {
            return Err(format!("needs the input {:?}", spec.name));
        }
        carried(spec, wire)?;
    }
    let outputs = names(&described.outputs);
    let output = match (wanted, described.outputs.as_slice()) {
        (None, [only]) => only,
        (None, _) => return Err(format!("has several outputs, name one: {outputs}")),
        (Some(name), all) => all
            .iter()
            .find(|spec| spec.name == name)
            .ok_or_else(|| format!("has no output {name:?}; it has {outputs}"))?,
    };
    carried(output, wire)?;
    Ok((described.inputs, output.name.clone()))
}

/// Whether the elements of a tensor can travel.
fn carried(spec: &TensorSpec, wire: Wire) -> Result<(), String> {
    let (name, elements) = (&spec.name, &spec.datatype);
    match (Datatype::named(elements), wire) {
        (None, _) => Err(format!(
            "has {name:?} with elements of {elements}, which have no value here"
        )),
        (Some(half), Wire::Json) if half.is_half() => Err(format!(
            "has {name:?} with elements of {elements}, which JSON does not carry; use gRPC, or a server with binary tensors"
        )),
        (Some(half), Wire::Typed) if half.is_half() => Err(format!(
            "has {name:?} with elements of {elements}, which travel raw, and its server reads none"
        )),
        _ => Ok(()),
    }
}

/// Whether tensors take the rows of several items.
fn takes_batches<'a>(mut specs: impl Iterator<Item = &'a TensorSpec>) -> Result<(), String> {
    match specs.find(|spec| !spec.has_rows()) {
        None => Ok(()),
        Some(TensorSpec { name, shape, .. }) => Err(format!(
            "takes no batches, as {name:?} has the shape {shape:?} and not any number of rows; remove `batch`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(datatype: &str, shape: &[i64]) -> Described {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
        };
        Described {
            inputs: vec![spec("X")],
            outputs: vec![spec("Y")],
        }
    }

    #[test]
    fn half_floats_travel_raw_or_not_at_all() {
        let fits = |datatype: &str, wire| compare(described(datatype, &[1]), &["X"], None, wire);
        for half in ["FP16", "BF16"] {
            assert!(
                fits(half, Wire::Json)
                    .unwrap_err()
                    .contains("JSON does not carry")
            );
            assert!(fits(half, Wire::Typed).is_err());
            assert!(fits(half, Wire::Binary).is_ok());
            assert!(fits(half, Wire::Raw).is_ok());
        }
        assert!(fits("FP32", Wire::Json).is_ok());
        assert!(fits("INT4", Wire::Raw).is_err());
    }

    #[test]
    fn batches_need_rows() {
        let takes = |shape: &[i64]| takes_batches(described("FP32", shape).inputs.iter());
        assert!(takes(&[-1, 3]).is_ok());
        assert!(takes(&[1, 3]).unwrap_err().contains("any number of rows"));
        assert!(takes(&[]).is_err());
    }
}
