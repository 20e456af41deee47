//! `infer`: a model on a server of the Open Inference Protocol, version 2, over REST: Triton,
//! TorchServe, KServe, OpenVINO's and MLServer.
//!
//! The server's own metadata types the tensors, and is asked for when the node is built, so that a
//! wrong name is found before a request comes. Tensors travel as JSON; gRPC and the binary extension
//! are left out, and with them FP16 and BF16, which JSON does not carry.

mod tensor;

use crate::{
    Input, Map, Node, NodeError, Running, Value,
    endpoint::{Endpoints, Failure, Target, escaped},
};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use schema::kind::{Endpoint, Protocol};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tensor::{Answered, Tensor, TensorSpec};
use tokio::time::Instant;

/// How long a server may take to describe a model.
const DESCRIBE: Duration = Duration::from_secs(10);

/// Calls a model on a server with tensors.
///
/// Takes the arguments that the file's `input` lines name: a number, text, vector, or nested lists of
/// them. Where the model wants more dimensions than a value has, and those at the front may be 1, they
/// are added, and taken off the result again. Gives the output tensor as a number, text, vector or
/// nested lists.
pub struct Infer {
    endpoints: Endpoints,
    path: String,
    model: String,
    inputs: Vec<TensorSpec>,
    output: String,
}

/// A model as its server describes it.
#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    inputs: Vec<TensorSpec>,
    #[serde(default)]
    outputs: Vec<TensorSpec>,
}

#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Answered>,
}

impl Infer {
    /// Asks the server what the model takes and gives, and compares that with the file.
    ///
    /// # Errors
    /// The server cannot be asked, or the file names other tensors than the model has.
    pub async fn connect(work: &schema::kind::Infer) -> Result<Self, NodeError> {
        let spec = Endpoint {
            urls: vec![work.url.clone()],
            protocol: None,
            model: None,
            adapter: None,
            api_key: None,
            extra: None,
        };
        // The protocol whose addresses are taken as they are.
        let endpoints = Endpoints::new(&spec, Protocol::Tei)?;
        let model = work.model.expose().to_owned();
        let mut path = format!("/v2/models/{}", escaped(&model));
        if let Some(version) = &work.version {
            path = format!("{path}/versions/{}", escaped(version.expose()));
        }
        let (place, name) = (path.clone(), model.clone());
        let attempt = |target: Target| {
            let (place, name) = (place.clone(), name.clone());
            async move { target.get(&place, Some(("model", &name))).await }
        };
        let deadline = Some(Instant::now() + DESCRIBE);
        let (described, _) = endpoints.call::<Described, _>(deadline, attempt).await?;
        let given: Vec<&str> = work.inputs.iter().map(|(name, _)| name.as_str()).collect();
        let wanted = work.output.as_ref().map(|output| output.as_str());
        let (inputs, output) = compare(described, &given, wanted)
            .map_err(|reason| NodeError::failed(format!("model {model:?} {reason}")))?;
        Ok(Self {
            endpoints,
            path: path + "/infer",
            model,
            inputs,
            output,
        })
    }

    async fn answer(&self, item: Input) -> Result<Value, NodeError> {
        let (body, added) = self.request(&item)?;
        let attempt = |target: Target| {
            let body = body.clone();
            async move {
                let named = Some(("model", self.model.as_str()));
                let answer: Answer = target.ask(&self.path, body, named).await?;
                self.result(answer, added, &target)
            }
        };
        let (value, _) = self.endpoints.call(item.context.deadline, attempt).await?;
        Ok(value)
    }

    /// The body for an item, and how many dimensions were added to all of its tensors.
    fn request(&self, item: &Input) -> Result<(Bytes, usize), NodeError> {
        let mut tensors = Vec::with_capacity(self.inputs.len());
        let mut added = usize::MAX;
        for spec in &self.inputs {
            let tensor = Tensor::read(spec, item.arguments.get(&spec.name))
                .map_err(|reason| NodeError::invalid(format!("input {:?} {reason}", spec.name)))?;
            added = added.min(tensor.added);
            tensors.push(tensor.into_value(spec));
        }
        let output = Map::from_iter([("name".into(), Value::text(self.output.as_str()))]);
        let body = Map::from_iter([
            ("inputs".into(), Value::list(tensors)),
            (
                "outputs".into(),
                Value::list([Value::Map(Arc::new(output))]),
            ),
        ]);
        let body = Value::Map(Arc::new(body)).to_json();
        let body = body.map_err(|error| NodeError::invalid(error.to_string()))?;
        Ok((body.into(), if self.inputs.is_empty() { 0 } else { added }))
    }

    fn result(&self, answer: Answer, added: usize, target: &Target) -> Result<Value, Failure> {
        let mut outputs = answer.outputs.into_iter();
        let output = outputs.find(|output| output.name == self.output);
        let value = match output {
            Some(output) => output.into_value(added),
            None => Err("is missing".to_owned()),
        };
        value.map_err(|reason| {
            let (name, output) = (target.name(), &self.output);
            Failure::senseless(format!("output {output:?} of {name} {reason}"))
        })
    }
}

impl Node for Infer {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(join_all(batch.into_iter().map(|item| self.answer(item))))
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

/// The tensors that the file gives, and the name of the one that it wants; or what does not fit.
fn compare(
    described: Described,
    given: &[&str],
    wanted: Option<&str>,
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
        spec.check()?;
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
    output.check()?;
    Ok((described.inputs, output.name.clone()))
}
