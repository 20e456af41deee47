//! How the replicas of a pool are made.

use super::replica::panicked;
use crate::metrics::NodeMetrics;
use futures::FutureExt as _;
use nodes::{Catalog, Node, NodeError, Order};
use schema::{Resources, Work};
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// What is ordered of which catalog.
pub(super) struct Recipe {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) work: Work,
    pub(super) resources: Resources,
    /// Whether the file asks for batches.
    pub(super) batched: bool,
    /// Whether the file bounds the growth of a replica's memory, which it must be able to tell then.
    pub(super) weighs_memory: bool,
    pub(super) metrics: Arc<NodeMetrics>,
}

impl Recipe {
    /// Builds a node, after a pause.
    pub(super) async fn build(
        self: Arc<Self>,
        pause: Duration,
    ) -> Result<Arc<dyn Node>, NodeError> {
        // Even a sleep of nothing takes until the timer's next turn.
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let begun = Instant::now();
        self.metrics.starts.inc();
        let order = Order {
            node: &self.metrics.node,
            batched: self.batched,
            work: &self.work,
            resources: &self.resources,
        };
        let build = AssertUnwindSafe(async { self.catalog.build(order).await });
        let built = build.catch_unwind().await;
        let node = built.unwrap_or_else(|panic| Err(panicked("building the node", &*panic)))?;
        if self.weighs_memory && node.memory().is_none() {
            let reason = "`recycle memory-growth` is for replicas with a process of their own, and \
                          this node's share the engine's memory";
            return Err(NodeError::invalid(reason));
        }
        self.metrics.startup.observe(begun.elapsed().as_secs_f64());
        Ok(node)
    }
}
