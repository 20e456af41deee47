//! `python`: a function or an object of a Python file, in a worker process of its own.
//!
//! A replica is one process, which imports the file once and then answers over a socket. What it
//! prints goes to the engine's log, an exception is its item's error, and its death is the replica's:
//! the pool builds another and has it run what was held. A worker dies with the engine, and the engine
//! does not with a worker. Whether an item is tried again, and which one broke a worker, is decided by
//! the pool and not here.

mod codec;
mod environment;
mod frame;
mod inspect;
mod line;
mod process;
mod worker;

pub use inspect::names;

pub(crate) use environment::Environments;

use crate::{Arguments, BatchKey, Input, Node, NodeError, Order, Running, Value};
use futures::{
    future::{BoxFuture, join_all},
    stream::{self, StreamExt as _},
};
use process::Recipe;
use schema::{
    Type,
    kind::{self, Placement},
};
use std::{path::Path, sync::Arc};
use worker::{Mode, Worker};

/// Calls a Python function, or an object of a class.
///
/// Takes the keyword arguments of the call. Gives what comes back, fitted to `returns` where the file
/// says that; the pieces of a generator are a text that is being made.
pub struct Python {
    worker: Worker,
    returns: Option<Type>,
    placement: Placement,
}

/// The argument that says which of the models is meant that a worker keeps, as Ray Serve's classes do.
const MODEL: &str = "multiplexed-model-id";

impl Python {
    /// Starts a worker and waits until it has imported its file. Paths are relative to `base_dir`.
    ///
    /// # Errors
    /// There is no interpreter, its packages cannot be installed, or what the file raised.
    pub(crate) async fn start(
        work: &kind::Python,
        order: Order<'_>,
        base_dir: &Path,
        environments: &Environments,
    ) -> Result<Self, NodeError> {
        let requirements = work.requirements.as_ref();
        let requirements = requirements.map(|path| base_dir.join(path.value.expose()));
        let python = environments.python(requirements.as_deref()).await?;
        let absolute = |path: &Path| std::path::absolute(path);
        let folder = absolute(base_dir)
            .map_err(|error| NodeError::because("failed to find the working folder", error))?;
        let recipe = Recipe {
            node: order.node.into(),
            python,
            file: folder.join(work.file.value.expose()),
            folder,
            entry: work.entry.name().value.as_str().into(),
            batched: order.batched,
            memory: order.resources.memory.map(|size| size.0),
            threads: (order.resources.cpu.ceil() as usize).max(1),
            env: work.env.iter().map(|name| name.value.clone()).collect(),
        };
        Ok(Self {
            worker: Worker::start(&recipe).await?,
            returns: work.returns.as_ref().map(|returns| returns.value.clone()),
            placement: work.placement,
        })
    }

    async fn answer(&self, batch: Vec<Input>) -> Vec<Result<Value, NodeError>> {
        // The last of them, if each has one: until then somebody waits.
        let deadlines = batch.iter().map(|item| item.context.deadline);
        let deadline = deadlines.reduce(|one, other| one.zip(other).map(|(a, b)| a.max(b)));
        let whole = stream::iter(batch).then(|item| whole(item.arguments));
        let items: Vec<Result<Arguments, NodeError>> = whole.collect().await;
        let answers = match self.worker.mode {
            Mode::Batch => self.at_once(items, deadline.flatten()).await,
            Mode::Item | Mode::Concurrent => {
                let one = |item| self.at_once(vec![item], deadline.flatten());
                let answers = join_all(items.into_iter().map(one)).await;
                answers.into_iter().flatten().collect()
            }
        };
        let answers = answers.into_iter();
        answers.map(|answer| self.fit(answer?)).collect()
    }

    /// One call for all items that could be read.
    async fn at_once(
        &self,
        items: Vec<Result<Arguments, NodeError>>,
        deadline: Option<tokio::time::Instant>,
    ) -> Vec<Result<Value, NodeError>> {
        let good = items.iter().flatten().cloned().collect::<Vec<_>>();
        if good.is_empty() {
            return items
                .into_iter()
                .map(|item| item.map(|_| Value::None))
                .collect();
        }
        let mut answers = self.worker.call(good, deadline).await.into_iter();
        let missing = || Err(NodeError::failed("the worker gave no answer"));
        items
            .into_iter()
            .map(|item| item.and_then(|_| answers.next().unwrap_or_else(missing)))
            .collect()
    }

    fn fit(&self, value: Value) -> Result<Value, NodeError> {
        let Some(returns) = &self.returns else {
            return Ok(value);
        };
        let mut misfits = Vec::new();
        let value = value.fit(returns, "returns", &mut misfits);
        match misfits.first() {
            None => Ok(value),
            Some(misfit) => {
                let reason = format!("`{}`: {}", misfit.place, misfit.reason);
                Err(NodeError::failed(reason))
            }
        }
    }
}

/// The model that an item means, under either spelling.
fn model(item: &Input) -> Option<Arc<str>> {
    let mut arguments = item.arguments.iter();
    let (_, id) = arguments.find(|(name, _)| name.replace('_', "-") == MODEL)?;
    match id {
        Value::None => None,
        Value::Text(id) => (!id.is_empty()).then(|| Arc::clone(id)),
        other => Some(String::from_utf8(other.to_json().ok()?).ok()?.into()),
    }
}

/// Arguments without a text that is still being made.
async fn whole(mut arguments: Arguments) -> Result<Arguments, NodeError> {
    let is_stream = |(_, value): (&str, &Value)| matches!(value, Value::Stream(_));
    if arguments.iter().any(is_stream) {
        let mut read = Vec::new();
        for (name, value) in arguments.iter() {
            let value = match value {
                Value::Stream(stream) => Value::text(stream.clone().collect().await?.0),
                value => value.clone(),
            };
            read.push((name, value));
        }
        arguments = read.into_iter().collect();
    }
    Ok(arguments)
}

impl Node for Python {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(self.answer(batch))
    }

    fn running(&self) -> Running {
        match self.worker.mode {
            Mode::Item => Running::OneItem,
            Mode::Batch => Running::OneBatch,
            Mode::Concurrent => Running::ManyItems,
        }
    }

    /// A call is about one model.
    fn key(&self, item: &Input) -> Option<BatchKey> {
        let batched = self.worker.mode == Mode::Batch;
        let id = batched.then(|| model(item))??;
        Some(BatchKey(id))
    }

    fn seeks(&self, item: &Input) -> Option<Arc<str>> {
        match self.placement {
            Placement::Warm => model(item),
            Placement::Load => None,
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(self.worker.check())
    }

    fn memory(&self) -> Option<u64> {
        self.worker.memory()
    }

    fn ended(&self) -> Option<BoxFuture<'static, NodeError>> {
        Some(Box::pin(self.worker.ended()))
    }
}
