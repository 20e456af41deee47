//! What happens when a node is slow or fails: decisions about trying again and leaving alone.

pub mod breaker;
pub mod retry;
