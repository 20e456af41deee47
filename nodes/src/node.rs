//! The seam between the engine and behaviour: a node takes a batch and answers item by item.

use crate::Value;
use futures::future::BoxFuture;
use smallvec::SmallVec;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// One item of a batch.
#[derive(Debug, Clone)]
pub struct Input {
    /// The values of the work's ports (`schema::Work::ports`), in their order.
    pub arguments: Arguments,
    /// Whom it is for, and by when.
    pub context: Context,
}

/// Values by port name.
#[derive(Debug, Clone, Default)]
pub struct Arguments(SmallVec<[(Arc<str>, Value); 4]>);

impl Arguments {
    /// Puts a value in; a port such as `stop` may come several times.
    pub fn push(&mut self, port: Arc<str>, value: Value) {
        self.0.push((port, value));
    }

    /// The value of a port; none if it is not given.
    pub fn get(&self, port: &str) -> &Value {
        let given = self.0.iter().find(|(name, _)| **name == *port);
        given.map_or(&Value::None, |(_, value)| value)
    }

    /// Every value of a port that may come several times.
    pub fn all<'a>(&'a self, port: &'a str) -> impl Iterator<Item = &'a Value> {
        let given = self.0.iter().filter(move |(name, _)| **name == *port);
        given.map(|(_, value)| value)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl<'a> FromIterator<(&'a str, Value)> for Arguments {
    fn from_iter<T: IntoIterator<Item = (&'a str, Value)>>(values: T) -> Self {
        Self(
            values
                .into_iter()
                .map(|(port, value)| (port.into(), value))
                .collect(),
        )
    }
}

/// Whom an item is for, and by when.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The id of the request that it belongs to, for logs.
    pub request_id: Option<Arc<str>>,
    /// When its answer is of no use any more.
    pub deadline: Option<Instant>,
}

/// How many batches a node runs at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// One after the other: a model that computes on its own threads.
    OneBatch,
    /// One item after the other: a function that takes a single one.
    OneItem,
    /// So many batches at the same time: calls of a service that takes many items in one call.
    Batches(usize),
    /// Single items, as many at once as `max-ongoing-requests` allows: calls of services, and a
    /// decoder that puts its own batches together step by step.
    ManyItems,
}

/// What the items of a batch have in common where a node cannot run others beside them: the adapter
/// that is still to be loaded, say, or the settings of a backend that has one set for a whole batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BatchKey(pub Arc<str>);

/// What a replica can do. Built by a [`Catalog`](crate::Catalog), owned by one replica.
pub trait Node: Send + Sync {
    /// Answers each item, in order: as many results as items. The failure of one item does not
    /// touch the others.
    ///
    /// Dropping the future gives up the items that are not answered yet.
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>>;

    /// Whether the pool should gather items into batches.
    fn running(&self) -> Running {
        Running::OneBatch
    }

    /// Waits until the node can do nothing more, and says why; none if that does not happen by
    /// itself. What a worker process runs ends with it.
    fn ended(&self) -> Option<BoxFuture<'static, NodeError>> {
        None
    }

    /// What an item costs of a batch's `max-cost`: tokens for models, 1 otherwise.
    fn cost(&self, _item: &Input) -> u64 {
        1
    }

    /// What an item must share with all others of its batch; `None` runs beside any other `None`.
    /// Asked when the item arrives, of any replica.
    fn key(&self, _item: &Input) -> Option<BatchKey> {
        None
    }

    /// Whether this replica can run items of a key at once. While it cannot, because what they need
    /// is still to be loaded, other items go first for a while.
    fn is_resident(&self, _key: &BatchKey) -> bool {
        true
    }

    /// What an item would rather find in the memory of its replica, where replicas share none: one of
    /// many models. Items that seek the same are sent to the same replica as far as load allows. Asked
    /// when the item arrives, of any replica.
    fn seeks(&self, _item: &Input) -> Option<Arc<str>> {
        None
    }

    /// Comes back when the replica is well. Asked from time to time while it holds no items, and
    /// when nothing came of what it was given; a replica that does not answer is replaced.
    ///
    /// # Errors
    /// What is wrong with it; it is replaced then.
    fn check(&self) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Bytes of memory that are this replica's own, as those of a process that works for it; `None`
    /// where they cannot be told from the engine's. Cheap: asked each second where the file says
    /// `recycle memory-growth`.
    fn memory(&self) -> Option<u64> {
        None
    }
}

/// Why an item has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NodeError {
    /// The item itself is at fault; another try would fail the same way.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The item names something that does not exist, such as an adapter.
    #[error("{what} {name:?} does not exist")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// No room: the queue is full.
    #[error("too many requests are waiting")]
    Full {
        /// When room is expected.
        retry_after: Duration,
    },
    /// Out of reach at the moment; another try may succeed.
    #[error("{reason}")]
    Unavailable {
        /// What is out of reach.
        reason: String,
        /// When another try makes sense, where that is known.
        retry_after: Option<Duration>,
    },
    /// Not done by its deadline.
    #[error("took longer than {after:?}")]
    Timeout {
        /// The time it was given.
        after: Duration,
    },
    /// The node itself is lost, with all that it held: a worker process died. The pool has another
    /// replica run the item, unless this was the last of several that it alone was with.
    #[error("{reason}")]
    Lost {
        /// How it ended.
        reason: String,
        /// Whether it may have begun the item, and so have been lost because of it.
        begun: bool,
    },
    /// The node could not do it.
    #[error("{reason}")]
    Failed {
        /// What went wrong.
        reason: String,
        /// Why.
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
}

impl NodeError {
    /// The item is at fault.
    pub fn invalid(reason: impl Into<String>) -> Self {
        NodeError::Invalid {
            reason: reason.into(),
        }
    }

    /// It is out of reach, and nobody knows for how long.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        NodeError::Unavailable {
            reason: reason.into(),
            retry_after: None,
        }
    }

    /// The node is at fault.
    pub fn failed(reason: impl Into<String>) -> Self {
        NodeError::Failed {
            reason: reason.into(),
            source: None,
        }
    }

    /// The node is at fault because of `source`.
    pub fn because(
        reason: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        NodeError::Failed {
            reason: reason.into(),
            source: Some(Arc::new(source)),
        }
    }
}
