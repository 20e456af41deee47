//! Behaviour: what a node of each kind does, the model families, indexes and sources of models.
//!
//! Candle, tokenizers, index engines and service clients live here and nowhere else. The crate knows
//! single works (`schema::Work`), not graphs: who feeds a node and how often is the engine's affair.

pub mod adapter;
mod catalog;
pub mod compute;
mod embed;
pub mod endpoint;
mod filter;
pub mod generate;
mod http;
mod http_client;
pub mod index;
mod infer;
mod kernel;
pub mod model;
mod node;
mod on_thread;
pub mod ops;
pub mod placement;
pub mod python;
mod rerank;
pub mod residency;
mod search;
pub mod source;
mod split;
mod standard;
pub mod store;
mod stream;
mod value;

pub use catalog::{Catalog, Order};
pub use embed::Embed;
pub use filter::Filter;
pub use generate::Generate;
pub use http::Http;
pub use http_client::http_client;
pub use infer::Infer;
pub use node::{Arguments, BatchKey, Context, Input, Node, NodeError, Running};
pub use on_thread::{Cost, Model, OnThread};
pub use python::Python;
pub use rerank::Rerank;
pub use search::Search;
pub use split::{Split, pieces};
pub use standard::{Before, ModelSummary, StandardCatalog, local_adapters, local_dimensions};
pub use stream::{Finish, FinishReason, StreamEnd, TextSink, TextStream, text_stream};
pub use value::{Document, Map, Misfit, Value};
