//! Earlier answers of a node, so that the same item need not be computed again.
//!
//! A cache belongs to one pool, and a pool to one node of one generation: the arguments of an item
//! are all that its key needs. A text that is being made is remembered when it is whole.

use super::Fingerprint;
use moka::future::Cache as Entries;
use nodes::{Input, NodeError, Value};
use schema::Cache as Spec;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The answers.
#[derive(Debug)]
pub struct Cache(Entries<Fingerprint, Value>);

/// What an entry takes beyond its value: the key, and the cache's own bookkeeping.
const OVERHEAD: u64 = 200;

impl Cache {
    /// An empty cache.
    pub fn new(spec: &Spec) -> Self {
        let weigh = |_: &Fingerprint, value: &Value| {
            u32::try_from(OVERHEAD + bytes(value)).unwrap_or(u32::MAX)
        };
        let entries = Entries::builder()
            .max_capacity(spec.max_bytes.0)
            .weigher(weigh)
            .time_to_live(spec.ttl);
        Self(entries.build())
    }

    /// The answer, and whether it was there. Equal items that come while one is being answered wait
    /// for that one's answer. An error is not remembered.
    pub async fn answer<F>(
        &self,
        input: Input,
        ask: impl Fn(Input) -> F,
    ) -> (Result<Value, NodeError>, bool)
    where
        F: Future<Output = Result<Value, NodeError>>,
    {
        let Some(key) = Fingerprint::of(&input.arguments) else {
            return (ask(input).await, false);
        };
        let asked = AtomicBool::new(false);
        let first = async {
            asked.store(true, Relaxed);
            match ask(input.clone()).await? {
                Value::Stream(text) => Ok(Value::text(text.collect().await?.0)),
                value => Ok(value),
            }
        };
        let found = self.0.try_get_with(key, first).await;
        let hit = !asked.load(Relaxed);
        match found {
            Ok(value) => (Ok(value), hit),
            // The one that was waited for had less time than this one.
            Err(error) if hit && matches!(*error, NodeError::Timeout { .. }) => {
                (ask(input).await, false)
            }
            Err(error) => (Err((*error).clone()), false),
        }
    }

    /// How many entries there are, once what is due has been dropped.
    #[cfg(test)]
    pub(super) async fn settled(&self) -> u64 {
        self.0.run_pending_tasks().await;
        self.0.entry_count()
    }
}

/// What a value takes of memory, about.
fn bytes(value: &Value) -> u64 {
    let own = size_of::<Value>() as u64;
    own + match value {
        Value::Text(text) => text.len() as u64,
        Value::Vector(vector) => 4 * vector.len() as u64,
        Value::List(list) => list.iter().map(bytes).sum(),
        Value::Map(map) => fields(map),
        Value::Document(document) => {
            (document.id.len() + document.text.len()) as u64 + fields(&document.metadata)
        }
        Value::None
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Number(_)
        | Value::Stream(_) => 0,
    }
}

fn fields(map: &nodes::Map) -> u64 {
    let field = |(name, value): (&std::sync::Arc<str>, &Value)| name.len() as u64 + bytes(value);
    map.iter().map(field).sum()
}
