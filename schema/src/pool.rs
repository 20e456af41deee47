//! How a node runs: resources, replicas, queue, batches, and what happens when something is slow or
//! fails. Field names are Ray Serve's where the meaning is the same.

use crate::{ByteSize, Spanned};
use std::time::Duration;

/// The pool options of a node. Each type's `Default` holds the documented defaults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoolSpec {
    /// What one replica takes of the machine.
    pub resources: Resources,
    /// How items are put together; `None` means one at a time where the node cannot batch, and the
    /// node's own default where it can.
    pub batch: Option<Batch>,
    /// How many replicas there are.
    pub replicas: Replicas,
    /// Items that one replica holds at once, running or gathered in its batch.
    pub max_ongoing_requests: Option<Spanned<u32>>,
    /// Items that may wait for a replica; one more is refused. `None` is the default of 256.
    pub max_queued_requests: Option<Spanned<u32>>,
    /// How a refused item is answered.
    pub when_full: WhenFull,
    /// How long one item may take, waiting included.
    pub timeout: Option<Spanned<Duration>>,
    /// Whether and when a failed item is tried again.
    pub retry: Option<Spanned<Retry>>,
    /// When a failing node is left alone for a while.
    pub breaker: Option<Spanned<Breaker>>,
    /// When a slow item is sent a second time.
    pub hedge: Option<Spanned<Hedge>>,
    /// How long and how much is remembered of earlier results.
    pub cache: Option<Spanned<Cache>>,
    /// How often an idle replica is asked whether it is well.
    pub health_check_period: Option<Spanned<Duration>>,
    /// How long a replica that is taken away may go on with what it has.
    pub graceful_shutdown_timeout: Option<Spanned<Duration>>,
    /// When a replica is replaced by a fresh one.
    pub recycle: Option<Spanned<Recycle>>,
}

/// What one replica takes of the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// Processor cores: a model computes on exactly as many threads, rounded up. Default 1.
    pub cpu: f64,
    /// Share of a GPU. Default 0.
    pub gpu: f64,
    /// Memory. Default: not accounted.
    pub memory: Option<ByteSize>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu: 1.0,
            gpu: 0.0,
            memory: None,
        }
    }
}

/// How items are put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Most items in a batch. Default 32.
    pub max_size: Spanned<u32>,
    /// Most tokens (or other cost that the node states) in a batch; none by default.
    pub max_cost: Option<Spanned<u64>>,
    /// How long a batch that is not full may wait for more while a replica is idle. Default 0: a
    /// batch is formed the moment a replica is free.
    pub max_wait: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_size: Spanned {
                value: 32,
                ..Spanned::default()
            },
            max_cost: None,
            max_wait: Duration::ZERO,
        }
    }
}

/// How many replicas there are, and what moves that number.
#[derive(Debug, Clone, PartialEq)]
pub struct Replicas {
    /// Fewest. Default 1; 0 lets an unused node go.
    pub min: Spanned<u32>,
    /// Most. Default: as `min`, and at least 1.
    pub max: Spanned<u32>,
    /// How many at start; `min` if absent.
    pub initial: Option<Spanned<u32>>,
    /// Which rule decides.
    pub policy: ScalePolicy,
    /// Items under way that one replica is meant to have. Default 2.
    pub target_ongoing_requests: f64,
    /// How long the load must ask for more before there is more. Default 30 s.
    pub upscale_delay: Duration,
    /// How long the load must ask for fewer before there are fewer. Default 600 s.
    pub downscale_delay: Duration,
    /// The same for the last replica, where `min` is 0; `downscale-delay` if absent.
    pub downscale_to_zero_delay: Option<Duration>,
    /// Multiplies each step up. Default 1.
    pub upscaling_factor: f64,
    /// Multiplies each step down. Default 1.
    pub downscaling_factor: f64,
    /// The stretch of time that load is averaged over. Default 30 s.
    pub look_back: Duration,
}

impl Default for Replicas {
    fn default() -> Self {
        let one = Spanned {
            value: 1,
            ..Spanned::default()
        };
        Self {
            min: one,
            max: one,
            initial: None,
            policy: ScalePolicy::default(),
            target_ongoing_requests: 2.0,
            upscale_delay: Duration::from_secs(30),
            downscale_delay: Duration::from_secs(600),
            downscale_to_zero_delay: None,
            upscaling_factor: 1.0,
            downscaling_factor: 1.0,
            look_back: Duration::from_secs(30),
        }
    }
}

/// Which rule decides the number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScalePolicy {
    /// Ours: tolerance, a stabilisation window, step limits.
    #[default]
    Steady,
    /// Ray Serve's own, to the bit.
    Ray,
}

/// How an item that finds the queue full is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// 503 Service Unavailable.
    #[default]
    Unavailable,
    /// 429 Too Many Requests.
    TooManyRequests,
}

/// Whether and when a failed item is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries after the first. Default 1.
    pub max: u32,
    /// Which failures are worth another try. Default `unavailable`.
    pub on: Vec<RetryOn>,
    /// Pause before the second try; doubles from there, with jitter. Default 50 ms.
    pub backoff: Duration,
}

/// A kind of failure that is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// The node or its service was not reachable or full.
    Unavailable,
    /// It took too long.
    Timeout,
    /// It answered with an error.
    Failed,
}

/// When a failing node is left alone for a while (the circuit breaker of Nygard, *Release It!*).
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// The stretch of time that is looked at. Default 10 s.
    pub window: Duration,
    /// Share of failures at which it opens, 0 to 1. Default 0.5.
    pub errors: f64,
    /// Fewest items in the window for it to open. Default 10.
    pub min_requests: u32,
    /// How long it stays open before one item is let through to try. Default 5 s.
    pub open: Duration,
}

/// When a slow item is sent a second time (Dean and Barroso, *The Tail at Scale*).
#[derive(Debug, Clone, PartialEq)]
pub struct Hedge {
    /// After this share of the usual durations, 0 to 1, such as 0.95 for `after="p95"`.
    pub percentile: f64,
}

/// How long and how much is remembered of earlier results.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// How long a result is good. Default 60 s.
    pub ttl: Duration,
    /// How much memory results take at most. Default 64 MiB.
    pub max_bytes: ByteSize,
}

/// When a replica is replaced by a fresh one; the new one stands before the old one goes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recycle {
    /// After this many items.
    pub requests: Option<u64>,
    /// At this age.
    pub age: Option<Duration>,
    /// When its memory has grown by this much.
    pub memory_growth: Option<ByteSize>,
}
