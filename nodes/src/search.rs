//! `search`: query to documents of an embedded index.

use crate::{
    Input, Node, NodeError, Running, Value,
    index::{Filter, Index, MOST_RESULTS, Query},
};
use futures::future::{BoxFuture, join_all};
use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// How many documents a search returns where nobody says.
const DEFAULT_TOP_K: usize = 10;

/// A node that searches an embedded index.
///
/// Searches compute on tokio's blocking threads, as many at once as they were given processors, and
/// see what other processes commit to the index shortly after.
pub struct Search {
    index: Index,
    computing: Arc<Semaphore>,
    refreshing: Arc<AtomicBool>,
}

impl Search {
    /// A node over an index that is open, with so many processors.
    pub fn new(index: Index, cpus: NonZeroUsize) -> Self {
        Self {
            index,
            computing: Arc::new(Semaphore::new(cpus.get())),
            refreshing: Arc::new(AtomicBool::new(false)),
        }
    }

    async fn answer(&self, item: Input) -> Result<Value, NodeError> {
        let wanted = Wanted::read(&item)?;
        let computing = self.computing.clone().acquire_owned().await;
        let index = self.index.clone();
        let search = spawn_blocking(move || {
            // Kept by the work, not by who waits for it: a caller that leaves must not let more in.
            let _computing = computing;
            index.search(&wanted.query())
        });
        let found = search
            .await
            .map_err(|error| NodeError::because("a search ended early", error))?;
        Ok(Value::list(found?.into_iter().map(Value::Document)))
    }

    /// Looks once whether another process committed; if so, the new state is read beside the
    /// searches, which see the old one until it is there.
    fn look_for_changes(&self) {
        if !self.index.is_stale() || self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (index, refreshing) = (self.index.clone(), self.refreshing.clone());
        spawn_blocking(move || {
            if let Err(error) = index.refresh() {
                let index = index.path().display();
                tracing::warn!(%index, %error, "failed to read the new state of an index");
            }
            refreshing.store(false, Ordering::Release);
        });
    }
}

impl Node for Search {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(async move {
            self.look_for_changes();
            join_all(batch.into_iter().map(|item| self.answer(item))).await
        })
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

/// What an item asks for.
struct Wanted {
    vector: Option<Arc<[f32]>>,
    text: Option<Arc<str>>,
    top_k: usize,
    filter: Option<Filter>,
}

impl Wanted {
    fn read(item: &Input) -> Result<Self, NodeError> {
        let wanted = Self {
            vector: vector(item.arguments.get("vector"))?,
            text: text(item.arguments.get("text"))?,
            top_k: top_k(item.arguments.get("top-k"))?,
            filter: filter(item.arguments.get("filter"))?,
        };
        if wanted.vector.is_none() && wanted.text.is_none() {
            return Err(NodeError::invalid(
                "the search has neither a vector nor a text",
            ));
        }
        Ok(wanted)
    }

    fn query(&self) -> Query<'_> {
        Query {
            vector: self.vector.as_deref(),
            text: self.text.as_deref(),
            top_k: self.top_k,
            filter: self.filter.as_ref(),
        }
    }
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
        Value::Map(map) => Filter::from_map(map).map(Some),
        other => Err(wrong("filter", "a map", other)),
    }
}

fn wrong(port: &str, wanted: &str, given: &Value) -> NodeError {
    let given = given.type_name();
    NodeError::invalid(format!("the search's {port} must be {wanted}, not {given}"))
}
