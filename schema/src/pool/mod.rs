//! How a node runs: resources, replicas, queue, batches, and what happens when something is slow or
//! fails. Field names are Ray Serve's where the meaning is the same.

mod batch;
mod care;
mod replicas;

pub use batch::{Batch, Cache, WhenFull};
pub(crate) use care::Percentile;
pub use care::{Breaker, Hedge, Recycle, Retry, RetryOn};
pub use replicas::{Replicas, Resources, ScalePolicy};

use crate::{
    Kind, Spanned,
    decode::{Fields, block},
};
use std::time::Duration;

block! {
    /// How a node runs: its replicas, queue and batches, and what is done about slowness and
    /// failures.
    #[derive(Debug, Clone, PartialEq)]
    pub struct PoolSpec {
        /// What one replica takes of the machine.
        pub resources: Resources = block("resources", Resources::fields).unwrap_or_default(),
        /// How items are put together. Without it they go one at a time where the node cannot
        /// batch, and by the node's own default where it can.
        pub batch: Option<Batch> = block("batch", Batch::fields),
        /// How many replicas there are.
        pub replicas: Replicas = block("replicas", Replicas::read).unwrap_or_default(),
        /// Items that one replica holds at once, running or gathered in its batch.
        pub max_ongoing_requests: Option<Spanned<u32>> = option("max-ongoing-requests")
            .at_least(1)
            .optional(),
        /// Items that may wait for a replica, 256 if absent; one more is refused.
        pub max_queued_requests: Option<Spanned<u32>> = option("max-queued-requests").optional(),
        /// How a refused item is answered.
        pub when_full: WhenFull = option("when-full").or(WhenFull::default()),
        /// How long one item may take, waiting included.
        pub timeout: Option<Spanned<Duration>> = option("timeout")
            .at_least(Duration::from_millis(1))
            .optional(),
        /// Whether and when a failed item is tried again.
        pub retry: Option<Spanned<Retry>> = block("retry", Retry::fields),
        /// When a failing node is left alone for a while.
        pub breaker: Option<Spanned<Breaker>> = block("breaker", Breaker::fields),
        /// When a slow item is sent a second time.
        pub hedge: Option<Spanned<Hedge>> = block("hedge", Hedge::fields),
        /// How long and how much is remembered of earlier results.
        pub cache: Option<Spanned<Cache>> = block("cache", Cache::fields),
        /// How often a replica must show that it is well: an idle one is asked, and one that answers
        /// nothing of what it holds for so long is replaced. Longer than the slowest batch takes.
        pub health_check_period: Option<Spanned<Duration>> = option("health-check-period")
            .at_least(Duration::from_millis(1))
            .optional(),
        /// How long a replica that is taken away may go on with what it has.
        pub graceful_shutdown_timeout: Option<Spanned<Duration>> =
            option("graceful-shutdown-timeout").optional(),
        /// When a replica is replaced by a fresh one.
        pub recycle: Option<Spanned<Recycle>> = block("recycle", Recycle::read),
    }
}

impl Default for PoolSpec {
    fn default() -> Self {
        Fields::defaults(PoolSpec::fields)
    }
}

impl PoolSpec {
    /// The options of a node of this kind. One that runs in the request itself has no pool, and
    /// what is written of one is a problem.
    pub(crate) fn read(kind: Kind, f: &mut Fields) -> Self {
        if !kind.is_inline() {
            return Self::fields(f);
        }
        for option in Fields::describe(PoolSpec::fields).list {
            f.refuse(option.name, kind.name());
        }
        PoolSpec::default()
    }
}
