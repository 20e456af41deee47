//! The kit of the end-to-end tests: the real binary, started on ports of its own, and a client.

mod engine;
pub mod faulty;
pub mod inference;
pub mod proxy;
pub mod relay;
pub mod s3;
pub mod servers;
pub mod stores;
pub mod upstream;

pub use engine::{Answer, Engine, repository, run_command, run_command_in, write_graph};
