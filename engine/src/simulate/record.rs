//! What happened in a simulation: each request, and the levels of each pool over time.

use super::{Assumed, service};
use crate::pool::Levels;
use std::time::Duration;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The graph.
    pub graph: String,
    /// When the trace was over.
    pub trace_end: Duration,
    /// When the last request was over too.
    pub end: Duration,
    /// The width of a sample.
    pub step: Duration,
    /// Every request, in the order in which they ended.
    pub requests: Vec<Ended>,
    /// The nodes that have a pool, in their order.
    pub nodes: Vec<NodeRecord>,
    /// What was assumed although it probably should have been stated.
    pub notes: Vec<String>,
}

/// A request that is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// When it came.
    pub arrived: Duration,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub how: How,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// With an answer.
    Answered,
    /// A node was full.
    Refused,
    /// A deadline passed.
    Late,
}

/// What happened at a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRecord {
    /// Its name.
    pub node: String,
    /// Its kind.
    pub kind: &'static str,
    /// What was assumed of it.
    pub assumed: Assumed,
    /// Items that came.
    pub items: u64,
    /// Items that found it full.
    pub refused: u64,
    /// Items whose time was over before they were answered.
    pub late: u64,
    /// Batches that were begun.
    pub batches: u64,
    /// Items in them.
    pub batched: u64,
    /// How long items waited that came to run.
    pub waits: Vec<Duration>,
    /// Time of all replicas together, from their order to their end.
    pub replica_time: Duration,
    /// What it had, in steps of equal width.
    pub samples: Vec<Sample>,
}

/// What a pool had during a step of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// The most items that waited.
    pub waiting: usize,
    /// Replicas that could work, at its end.
    pub working: usize,
    /// The most replicas that could work.
    pub most: usize,
    /// Replicas that there should be, at its end.
    pub wanted: usize,
}

/// Writes the levels of a pool down as they change.
#[derive(Debug)]
pub(super) struct Levelled {
    step: Duration,
    seen: Duration,
    now: Levels,
    samples: Vec<Sample>,
    replica_time: Duration,
}

impl Levelled {
    pub(super) fn new(step: Duration, levels: Levels) -> Self {
        let mut levelled = Self {
            step,
            seen: Duration::ZERO,
            now: levels,
            samples: vec![Sample::default()],
            replica_time: Duration::ZERO,
        };
        levelled.mark();
        levelled
    }

    /// The levels are these from `now` on.
    pub(super) fn see(&mut self, now: Duration, levels: Levels) {
        let replicas = u32::try_from(self.now.working + self.now.changing).unwrap_or(u32::MAX);
        self.replica_time += (now - self.seen) * replicas;
        let index = (now.as_nanos() / self.step.as_nanos().max(1)) as usize;
        while self.samples.len() <= index {
            self.samples.push(Sample::default());
            self.mark();
        }
        (self.seen, self.now) = (now, levels);
        self.mark();
    }

    /// Puts the present levels into the last sample.
    fn mark(&mut self) {
        let Levels {
            waiting,
            working,
            wanted,
            ..
        } = self.now;
        if let Some(sample) = self.samples.last_mut() {
            sample.waiting = sample.waiting.max(waiting);
            sample.most = sample.most.max(working);
            (sample.working, sample.wanted) = (working, wanted);
        }
    }

    pub(super) fn into_parts(self) -> (Vec<Sample>, Duration) {
        (self.samples, self.replica_time)
    }
}

impl NodeRecord {
    /// Items in a batch, on average.
    pub fn mean_batch(&self) -> f64 {
        match self.batches {
            0 => 0.0,
            batches => self.batched as f64 / batches as f64,
        }
    }

    /// The fewest and the most replicas that could work.
    pub fn replicas(&self) -> (usize, usize) {
        let fewest = self.samples.iter().map(|sample| sample.working).min();
        let most = self.samples.iter().map(|sample| sample.most).max();
        (fewest.unwrap_or(0), most.unwrap_or(0))
    }

    /// The most items that waited.
    pub fn most_waiting(&self) -> usize {
        let waiting = self.samples.iter().map(|sample| sample.waiting);
        waiting.max().unwrap_or(0)
    }

    /// What was assumed, in words.
    pub fn assumption(&self) -> String {
        let Assumed {
            service,
            startup,
            cost: (low, high),
            each,
            share,
        } = &self.assumed;
        let mut text = format!("takes {service}, starts in {}", service::written(*startup));
        match (low, high) {
            (1, 1) => {}
            (low, high) if low == high => text.push_str(&format!(", cost {low}")),
            (low, high) => text.push_str(&format!(", cost {low} to {high}")),
        }
        if *each != 1 {
            text.push_str(&format!(", {each} elements"));
        }
        if *share < 1.0 {
            text.push_str(&format!(", for {} % of requests", share * 100.0));
        }
        text
    }
}
