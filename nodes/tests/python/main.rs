//! Python nodes on real workers.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod calls;
mod death;
mod environment;
mod kit;
mod serve;
