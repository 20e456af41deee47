//! Models: a file for each family, and what families share.
//!
//! A forward pass here reads like the paper it comes from, over the operations of [`crate::ops`].

mod mapped;
mod weights;

pub use weights::{Table, Weights, WeightsError};
