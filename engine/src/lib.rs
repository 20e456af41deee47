//! Effects: pools, requests, HTTP, and the command line's work as a library.

pub mod bench;
pub mod report;
pub mod resilience;
pub mod scale;
