//! Behaviour: what a node of each kind does, the model families, indexes and sources of models.
//!
//! Candle, tokenizers, index engines and service clients live here and nowhere else. The crate knows
//! single works (`schema::Work`), not graphs: who feeds a node and how often is the engine's affair.

pub mod adapter;
mod catalog;
pub mod compute;
mod embed;
mod kernel;
pub mod model;
mod node;
mod on_thread;
pub mod ops;
mod rerank;
pub mod residency;
pub mod source;
mod stream;
mod value;

pub use catalog::{Catalog, Order};
pub use embed::Embed;
pub use node::{Arguments, Context, Input, Node, NodeError, Running};
pub use on_thread::{Cost, Model, OnThread};
pub use rerank::Rerank;
pub use stream::{Finish, FinishReason, TextSink, TextStream, text_stream};
pub use value::{Document, Map, Value};
