//! How many replicas a pool should have.
//!
//! Everything here is arithmetic over numbers and a time that is handed in; the pool asks and acts.

mod decide;
mod load;
pub mod ray;
mod steady;

pub use decide::{Load, ScaleMemory, decide};
pub use load::Average;
