//! What happens when a node is slow or fails: decisions about trying again and leaving alone, and
//! [`Care`], which acts on them around a pool.

pub mod breaker;
mod budget;
mod cache;
mod care;
mod fingerprint;
mod latency;
pub mod retry;

pub use budget::Budget;
pub use cache::Cache;
pub use care::{Ask, Care};
pub use fingerprint::Fingerprint;
pub use latency::Percentile;
