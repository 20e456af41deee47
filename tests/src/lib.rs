//! The kit of the end-to-end tests: the real binary, started on ports of its own, and a client.

mod engine;
pub mod faulty;
pub mod proxy;
pub mod servers;
pub mod stores;
pub mod upstream;

pub use engine::{Answer, Engine, repository, run_command, write_graph};
