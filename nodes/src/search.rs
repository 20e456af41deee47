//! `search`: query to documents of an index, wherever that is kept.

use crate::{
    Filter, Input, Node, NodeError, Running, Value,
    index::MOST_RESULTS,
    store::{Store, Wanted},
};
use futures::future::{BoxFuture, join_all};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How many documents a search returns where nobody says.
const DEFAULT_TOP_K: usize = 10;

/// How long a search may take where neither the node nor the request says.
const LONGEST: Duration = Duration::from_secs(60);

/// A node that searches a store.
pub struct Search {
    store: Arc<dyn Store>,
}

impl Search {
    /// A node over a store that is open.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    async fn answer(&self, item: Input) -> Result<Value, NodeError> {
        let wanted = read(&item)?;
        self.store.facts().check(&wanted)?;
        let begun = Instant::now();
        let deadline = item.context.deadline.unwrap_or(begun + LONGEST);
        let found = timeout_at(deadline, self.store.search(wanted)).await;
        let found = found.unwrap_or(Err(NodeError::Timeout {
            after: deadline - begun,
        }))?;
        Ok(Value::list(found.into_iter().map(Value::Document)))
    }
}

impl Node for Search {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(join_all(batch.into_iter().map(|item| self.answer(item))))
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

/// What an item asks for.
fn read(item: &Input) -> Result<Wanted, NodeError> {
    Ok(Wanted {
        vector: vector(item.arguments.get("vector"))?,
        text: text(item.arguments.get("text"))?,
        top_k: top_k(item.arguments.get("top-k"))?,
        filter: filter(item.arguments.get("filter"))?,
    })
}

fn vector(value: &Value) -> Result<Option<Arc<[f32]>>, NodeError> {
    match value {
        Value::None => Ok(None),
        Value::Vector(vector) => Ok(Some(vector.clone())),
        Value::List(values) => {
            let numbers = values
                .iter()
                .map(|value| value.as_number().map(|number| number as f32));
            let vector: Option<Arc<[f32]>> = numbers.collect();
            vector
                .map(Some)
                .ok_or_else(|| NodeError::invalid("the vector holds more than numbers"))
        }
        other => Err(wrong("vector", "a vector", other)),
    }
}

fn text(value: &Value) -> Result<Option<Arc<str>>, NodeError> {
    match value {
        Value::None => Ok(None),
        Value::Text(text) => Ok(Some(text.clone())),
        other => Err(wrong("text", "a text", other)),
    }
}

fn top_k(value: &Value) -> Result<usize, NodeError> {
    if value.is_none() {
        return Ok(DEFAULT_TOP_K);
    }
    let given = value
        .as_integer()
        .ok_or_else(|| wrong("top-k", "a whole number", value))?;
    let allowed = usize::try_from(given)
        .ok()
        .filter(|given| (1..=MOST_RESULTS).contains(given));
    allowed.ok_or_else(|| {
        NodeError::invalid(format!("top-k is {given}; it can be 1 to {MOST_RESULTS}"))
    })
}

fn filter(value: &Value) -> Result<Option<Filter>, NodeError> {
    match value {
        Value::None => Ok(None),
        Value::Map(map) => {
            let filter = Filter::from_map(map)?;
            Ok((!filter.is_empty()).then_some(filter))
        }
        other => Err(wrong("filter", "a map", other)),
    }
}

fn wrong(port: &str, wanted: &str, given: &Value) -> NodeError {
    let given = given.type_name();
    NodeError::invalid(format!("the search's {port} must be {wanted}, not {given}"))
}
