//! What a graph would do under a load, found out in virtual time.
//!
//! A discrete-event simulation around the engine's own decisions: requests walk the graph by
//! [`graphs::Walk`], items wait in the pools' own queue under their own limits, batches are formed by
//! the same batcher, and replicas come and go by [`scale::decide`](crate::scale::decide) within the
//! same ledger. Only the work itself is replaced, by a time that the caller states.
//!
//! Everything is pure and the same in every run: no clock, no threads, random numbers from a seed.
//! Nothing fails but for being full or late, so `retry`, `hedge`, `breaker` and `cache` are left out,
//! and so is what the HTTP layer takes.

mod agenda;
mod json;
mod picture;
mod plot;
mod random;
mod record;
mod report;
mod service;
mod station;
mod timeline;
mod trace;
mod world;

pub use json::json;
pub use plot::svg;
pub use record::{Ended, How, NodeRecord, Record, Sample};
pub use report::text;
pub use service::{Assumed, BadServiceTime, ServiceTime, duration};
pub use trace::{Spacing, Trace};

use graphs::{Graph, Machine};
use schema::ScalePolicy;
use world::World;

/// What is to be simulated.
#[derive(Debug, Clone, Copy)]
pub struct Scenario<'a> {
    /// The graph that is loaded.
    pub graph: &'a Graph,
    /// When requests come.
    pub trace: &'a Trace,
    /// How they follow each other where the trace states rates.
    pub spacing: Spacing,
    /// What is assumed of each node, by `NodeIx`.
    pub assumed: &'a [Assumed],
    /// What the replicas have to share.
    pub machine: Machine,
    /// The rule of scaling, instead of those of the file.
    pub policy: Option<ScalePolicy>,
    /// Of the random numbers for costs and shares.
    pub seed: u64,
}

/// The first replicas of a node do not fit.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("node `{node}` cannot be started: {reason}")]
pub struct NoRoom {
    /// The node.
    pub node: String,
    /// What is missing.
    pub reason: String,
}

/// Runs a scenario to its end: the trace is over, and so is every request.
///
/// # Errors
/// The machine has no room for the replicas at the start.
pub fn simulate(scenario: &Scenario<'_>) -> Result<Record, NoRoom> {
    Ok(World::new(scenario)?.run())
}

#[cfg(test)]
mod tests;
