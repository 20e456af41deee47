//! The replicas of one node behind a queue: what is asked of a node goes through its [`Pool`].
//!
//! A pool is owned by one task (`owner`), which holds the queue and the replicas; handles send it
//! items and wait. A batch is formed when a replica is free and not before. A replica that breaks or
//! is stuck is built again, and what it held is run by another; their number follows the load. What a
//! request costs before it comes to its node is not known here.

mod adjust;
mod forecast;
mod gate;
mod ledger;
mod limits;
mod owner;
mod pulse;
mod quarantine;
mod queue;
mod rate;
mod recipe;
mod recovery;
mod rehearsal;
mod replica;
mod rest;
mod scaler;
mod staff;
mod ticket;
mod wear;

use crate::metrics::NodeMetrics;
pub use gate::Place;
pub use ledger::{Allowance, Ledger};
pub(crate) use rehearsal::{Levels, Rehearsal};

use adjust::Settings;
use arc_swap::ArcSwap;
use futures::future::{BoxFuture, try_join_all};
use gate::Gate;
use limits::Limits;
use nodes::{Catalog, Input, NodeError, Value};
use owner::Owner;
use recipe::Recipe;
use schema::{PoolSpec, Work};
use staff::Staff;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use ticket::Ticket;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// A handle to the replicas of a node. Clones are cheap and share everything; when the last one is
/// dropped, the pool finishes what it has and ends.
///
/// As a [`tower::Service`] it is always ready: a full queue is an answer
/// ([`NodeError::Full`]), given at once, and not a wait.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    orders: mpsc::UnboundedSender<Order>,
    counts: Arc<Counts>,
    metrics: Arc<NodeMetrics>,
    gate: Arc<Gate>,
    /// What callers go by.
    settings: ArcSwap<Settings>,
    startup: Duration,
}

/// What handles tell the owner.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are items, and a box would cost an allocation an item"
)]
enum Order {
    /// An item is to be answered.
    Answer(Ticket),
    /// The file says something else of the pool.
    Adjust(Box<PoolSpec>),
    /// Its generation is over; what still uses it has the time to finish, and no more.
    Retire,
    /// Another needs its place: replicas go once they hold nothing, or now. Answered when they have.
    Rest {
        now: bool,
        gone: oneshot::Sender<()>,
    },
    /// It has its place again.
    Wake,
}

/// What a pool has at the moment. Written by its owner, except `abandoned` and `answered`.
#[derive(Debug, Default)]
struct Counts {
    replicas: AtomicUsize,
    starting: AtomicUsize,
    leaving: AtomicUsize,
    desired: AtomicUsize,
    target: AtomicUsize,
    unhealthy: AtomicBool,
    queued: AtomicUsize,
    ongoing: AtomicUsize,
    answered: AtomicU64,
    /// Callers that left without an answer since the owner last looked.
    abandoned: AtomicUsize,
}

/// What a pool has at the moment, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct PoolStatus {
    /// Replicas that are ready.
    pub replicas: usize,
    /// Replicas that there should be.
    pub target: usize,
    /// Replicas that are being built.
    pub starting: usize,
    /// Whether items can be answered: false when no replica is left and building others has failed
    /// several times in a row.
    pub healthy: bool,
    /// Items that wait, and requests that wait to begin because of this node.
    pub queued: usize,
    /// Items that replicas hold, streams that are still being made among them.
    pub ongoing: usize,
    /// Items that replicas have answered, well or not.
    pub answered: u64,
    /// How long the slowest replica took to be ready, in milliseconds.
    pub startup_ms: u64,
}

impl Pool {
    /// Builds the first replicas, all at once, and sets the pool to work when all are ready.
    ///
    /// # Errors
    /// What kept a replica from being built, or that the machine has no room for it.
    ///
    /// `room` says what of the machine this pool may count on.
    pub async fn start(
        work: &Work,
        spec: &PoolSpec,
        catalog: Arc<dyn Catalog>,
        room: &Allowance,
        metrics: NodeMetrics,
    ) -> Result<Self, NodeError> {
        let begun = Instant::now();
        let first = limits::replicas(spec);
        let leases: Result<Vec<_>, _> = (0..first).map(|_| room.take(&spec.resources)).collect();
        let leases = leases.map_err(|error| NodeError::because(error.to_string(), error))?;
        let recipe = Arc::new(Recipe {
            catalog,
            work: work.clone(),
            resources: spec.resources.clone(),
            batched: spec.batch.is_some(),
            weighs_memory: (spec.recycle.as_ref())
                .is_some_and(|recycle| recycle.value.memory_growth.is_some()),
            metrics: Arc::new(metrics),
        });
        let build = |_| Arc::clone(&recipe).build(Duration::ZERO);
        let nodes = try_join_all((0..first).map(build)).await?;
        let running = nodes.first().map(|node| node.running());
        let staff = Staff::new(Arc::clone(&recipe), nodes, leases, room.ledger.clone());
        let metrics = Arc::clone(&recipe.metrics);
        Ok(Self::of(staff, running, spec, metrics, begun.elapsed()))
    }

    /// A pool of replicas that are ready.
    fn of(
        staff: Staff,
        running: Option<nodes::Running>,
        spec: &PoolSpec,
        metrics: Arc<NodeMetrics>,
        startup: Duration,
    ) -> Self {
        let limits = Limits::new(spec, running.unwrap_or(nodes::Running::OneBatch));
        let counts = Arc::new(Counts::default());
        // Unbounded, because the owner takes items out at once and bounds those that wait itself:
        // it alone knows whether a replica is free, and so when "full" is true.
        let (orders, arrivals) = mpsc::unbounded_channel();
        let gate = Gate::new(Arc::clone(&metrics));
        let owner = Owner::new(
            staff,
            spec.clone(),
            limits,
            Arc::clone(&metrics),
            arrivals,
            (Arc::clone(&counts), Arc::clone(&gate)),
        );
        tokio::spawn(owner.run());
        Self(Arc::new(Handle {
            orders,
            counts,
            gate,
            settings: ArcSwap::from_pointee(Settings::new(spec, &metrics, None)),
            metrics,
            startup,
        }))
    }

    /// Has an item answered. Dropping the future gives the item up, whether it waits or runs.
    ///
    /// # Errors
    /// The node's own, [`NodeError::Full`] at once if there is no room,
    /// [`NodeError::Timeout`] when the node's `timeout` is over, and [`NodeError::Unavailable`] when
    /// its breaker is open or no replica can be built.
    pub async fn answer(&self, input: Input) -> Result<Value, NodeError> {
        let begun = Instant::now();
        let metrics = &self.0.metrics;
        metrics.requests.inc();
        let care = self.0.settings.load().care.clone();
        let result = match care {
            None => self.ask(input).await,
            // Boxed, so that those who ask for nothing of it do not carry its size.
            Some(care) => {
                Box::pin(
                    async move { care.answer(input, &|input| Box::pin(self.ask(input))).await },
                )
                .await
            }
        };
        metrics.duration.observe(begun.elapsed().as_secs_f64());
        if result.is_err() {
            metrics.errors.inc();
        }
        result
    }

    /// One try.
    async fn ask(&self, mut input: Input) -> Result<Value, NodeError> {
        let begun = Instant::now();
        let timeout = self.timeout();
        let own = timeout.map(|timeout| begun + timeout);
        if let Some(own) = own {
            let deadline = input.context.deadline.get_or_insert(own);
            *deadline = own.min(*deadline);
        }
        let answer = self.wait(Ticket::new(input, begun));
        match (own, timeout) {
            (Some(own), Some(after)) => timeout_at(own, answer)
                .await
                .unwrap_or(Err(NodeError::Timeout { after })),
            _ => answer.await,
        }
    }

    async fn wait(
        &self,
        (ticket, answer): (Ticket, oneshot::Receiver<Result<Value, NodeError>>),
    ) -> Result<Value, NodeError> {
        let gone = || NodeError::unavailable("the node was stopped");
        let mut leaving = Leaving {
            counts: &self.0.counts,
            answered: false,
        };
        let order = Order::Answer(ticket);
        self.0.orders.send(order).map_err(|_| gone())?;
        let result = answer.await.map_err(|_| gone())?;
        leaving.answered = true;
        result
    }

    /// Takes a place for a request that will come to this node, and waits for one where the node
    /// has enough to do. The place is to be kept until the node has answered.
    ///
    /// # Errors
    /// [`NodeError::Full`] at once if too many wait already or if the request could not be answered
    /// by its deadline, and [`NodeError::Timeout`] if the deadline passes meanwhile.
    pub async fn enter(&self, deadline: Option<Instant>) -> Result<Place, NodeError> {
        self.0.gate.enter(deadline).await
    }

    /// How long one item may take, waiting and a stream's end included, if the file says.
    pub fn timeout(&self) -> Option<Duration> {
        self.0.settings.load().timeout
    }

    /// Tells it from other pools; clones have the same.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The node's series.
    pub fn metrics(&self) -> &NodeMetrics {
        &self.0.metrics
    }

    /// What it has at the moment.
    pub fn status(&self) -> PoolStatus {
        let counts = &self.0.counts;
        PoolStatus {
            replicas: counts.replicas.load(Relaxed),
            target: counts.target.load(Relaxed),
            starting: counts.starting.load(Relaxed),
            healthy: !counts.unhealthy.load(Relaxed),
            queued: counts.queued.load(Relaxed) + self.0.gate.waiting(),
            ongoing: counts.ongoing.load(Relaxed),
            answered: counts.answered.load(Relaxed),
            startup_ms: self.0.startup.as_millis() as u64,
        }
    }
}

impl tower::Service<Input> for Pool {
    type Response = Value;
    type Error = NodeError;
    type Future = BoxFuture<'static, Result<Value, NodeError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NodeError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, input: Input) -> Self::Future {
        let pool = self.clone();
        Box::pin(async move { pool.answer(input).await })
    }
}

/// Tells the owner when a caller leaves without its answer.
struct Leaving<'a> {
    counts: &'a Counts,
    answered: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.counts.abandoned.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
