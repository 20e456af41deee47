//! Models: a file for each family, and what families share.
//!
//! A forward pass here reads like the paper it comes from, over the operations of [`crate::ops`].

mod batch;
mod bert;
mod config;
mod dense;
mod encoder;
mod error;
mod family;
mod head;
mod mapped;
mod pooling;
mod tokenize;
mod weights;

pub use batch::Sequence;
pub use encoder::{Encoder, EncoderOptions};
pub use error::LoadError;
pub use pooling::Pooling;
pub use tokenize::{FirstText, Tokenize, TokenizeError, Tokens};
pub use weights::{Table, Weights, WeightsError};
