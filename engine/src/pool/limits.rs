//! What the file says of a pool, with the defaults that depend on how its node runs.

use super::queue::BatchLimits;
use nodes::{BatchKey, Input, Node, Running};
use schema::{Batch, PoolSpec};
use std::time::Duration;

/// Items that a replica runs at once where the node takes single items and the file says nothing.
const ONGOING: usize = 16;

/// Items that may wait where the file says nothing.
const QUEUED: usize = 256;

/// How long items whose adapter is not loaded yet let others go first: a load takes tens of
/// milliseconds.
const PATIENCE: Duration = Duration::from_millis(200);

/// Most items that a replica has without being passed over for its load by those that would rather be
/// with it.
const UNBOUNDED: usize = 4;

/// How long a pool that is not used any more may go on with what it has, if the file says nothing.
const GRACE: Duration = Duration::from_secs(20);

/// The bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Items that may wait.
    pub(super) queued: usize,
    /// Items that one replica holds at once.
    pub(super) ongoing: usize,
    /// How much goes into one run of a replica.
    pub(super) batch: BatchLimits,
    /// Whether a replica takes its next batch only when the last one is done.
    pub(super) one_at_a_time: bool,
    /// Batches that one replica runs at once.
    pub(super) batches: usize,
    /// How long one item may take, waiting included.
    pub(super) timeout: Option<Duration>,
    /// How often a replica must show that it is well, if the file says.
    pub(super) health_check_period: Option<Duration>,
    /// How long the pool may go on when it is not used any more.
    pub(super) grace: Duration,
}

impl Limits {
    pub(super) fn new(spec: &PoolSpec, running: Running) -> Self {
        let given = |limit: &Option<schema::Spanned<u32>>| limit.as_ref().map(|n| n.value as usize);
        let default = Batch::default();
        let batch = spec.batch.as_ref().unwrap_or(&default);
        let size = (batch.max_size.value as usize).max(1);
        let ongoing = given(&spec.max_ongoing_requests);
        let bounded = ongoing.map_or(size, |ongoing| size.min(ongoing.max(1)));
        let (ongoing, size, batches) = match running {
            Running::OneBatch => (bounded, bounded, 1),
            Running::OneItem => (1, 1, 1),
            Running::Batches(batches) => {
                let all = bounded.saturating_mul(batches);
                (ongoing.unwrap_or(all).max(1), bounded, batches.max(1))
            }
            Running::ManyItems => (ongoing.unwrap_or(ONGOING).max(1), 1, usize::MAX),
        };
        Self {
            queued: queued(spec),
            ongoing,
            batch: BatchLimits {
                size,
                cost: batch.max_cost.as_ref().map_or(u64::MAX, |cost| cost.value),
                wait: match running {
                    Running::ManyItems => Duration::ZERO,
                    Running::OneBatch | Running::OneItem | Running::Batches(_) => batch.max_wait,
                },
                patience: PATIENCE,
            },
            one_at_a_time: matches!(running, Running::OneBatch | Running::OneItem),
            batches,
            timeout: spec.timeout.as_ref().map(|timeout| timeout.value),
            health_check_period: spec.health_check_period.as_ref().map(|period| period.value),
            grace: grace(spec),
        }
    }

    /// Whether a replica that runs so many batches, and holds so many items, may take another.
    pub(super) fn has_room(&self, batches: usize, ongoing: usize) -> bool {
        match self.one_at_a_time {
            true => ongoing == 0,
            false => batches < self.batches && ongoing < self.ongoing,
        }
    }

    /// The bounds of the next batch of a replica that holds so many items.
    pub(super) fn next_batch(&self, ongoing: usize) -> BatchLimits {
        BatchLimits {
            size: self.batch.size.min(self.ongoing.saturating_sub(ongoing)),
            ..self.batch
        }
    }

    /// Items that a replica has without being passed over for its load by those that would rather be
    /// with it.
    pub(super) fn unbounded(&self) -> usize {
        self.ongoing.min(UNBOUNDED)
    }

    /// What an item costs of a batch, where that matters, and what it must share with the others.
    pub(super) fn weigh(&self, node: &dyn Node, item: &Input) -> (u64, Option<BatchKey>) {
        let cost = match self.batch.cost {
            u64::MAX => 1,
            _ => node.cost(item),
        };
        (cost, node.key(item))
    }
}

/// Items that may wait.
pub(super) fn queued(spec: &PoolSpec) -> usize {
    let given = spec.max_queued_requests.as_ref();
    given.map_or(QUEUED, |most| most.value as usize)
}

/// How long a pool may go on when it is not used any more.
pub(super) fn grace(spec: &PoolSpec) -> Duration {
    let given = spec.graceful_shutdown_timeout.as_ref();
    given.map_or(GRACE, |grace| grace.value)
}

/// How many replicas a pool starts with.
pub(super) fn replicas(spec: &PoolSpec) -> usize {
    let initial = spec.replicas.initial.as_ref();
    initial.map_or(spec.replicas.min.value, |initial| initial.value) as usize
}
