//! Effects: pools of replicas, the way of requests through graphs, HTTP, metrics, and the command
//! line on top of them.
//!
//! What a file means is decided by the crate `graphs` before anything here runs; what a node does
//! is behind `nodes::Catalog`. What requests see is an immutable [`Topology`](topology::Topology).

pub mod adapters;
pub mod admin;
pub mod bench;
pub mod content;
pub mod execute;
pub mod facts;
pub mod ingress;
pub mod load;
pub mod locked;
pub mod metrics;
pub mod pool;
pub mod progress;
pub mod reload;
pub mod report;
pub mod resilience;
pub mod rollout;
pub mod scale;
pub mod simulate;
pub mod startup;
pub mod supervisor;
pub mod topology;
