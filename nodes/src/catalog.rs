//! Who builds nodes. The engine knows this trait only, so that its tests can script what nodes do.

use crate::{Node, NodeError, residency::AdapterStore};
use futures::future::BoxFuture;
use schema::{Resources, Work};
use std::sync::Arc;

/// What is ordered of a catalog: one replica's node.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The node, as logs name it: `graph.node`.
    pub node: &'a str,
    /// What it does.
    pub work: &'a Work,
    /// Whether the file asks for batches.
    pub batched: bool,
    /// What it may take of the machine; a model computes on `cpu` threads, rounded up.
    pub resources: &'a Resources,
}

/// Builds the nodes of replicas.
pub trait Catalog: Send + Sync {
    /// Builds a node that is ready to run: weights loaded, connections tried.
    ///
    /// # Errors
    /// What stands in the way, in words for the author of the file.
    fn build<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Arc<dyn Node>, NodeError>>;

    /// The adapters over a model, by its name in the file; none if it has none, or is not loaded.
    /// Asked for each request, so it neither waits nor computes.
    fn adapters(&self, _model: &str) -> Option<Arc<dyn AdapterStore>> {
        None
    }
}
