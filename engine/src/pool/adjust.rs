//! Another spec for a pool that goes on: what callers go by, and how it is changed.

use super::{Order, Pool};
use crate::{metrics::NodeMetrics, resilience::Care};
use schema::PoolSpec;
use std::{sync::Arc, time::Duration};

/// What callers of a pool go by.
#[derive(Debug)]
pub(super) struct Settings {
    /// What the file says of the pool.
    spec: PoolSpec,
    /// What is done about failures, if anything.
    pub(super) care: Option<Arc<Care>>,
    /// How long one item may take, waiting included.
    pub(super) timeout: Option<Duration>,
}

impl Settings {
    pub(super) fn new(
        spec: &PoolSpec,
        metrics: &Arc<NodeMetrics>,
        before: Option<&Settings>,
    ) -> Self {
        let before = before.and_then(|before| before.care.as_deref());
        Self {
            spec: spec.clone(),
            care: Care::new(spec, Arc::clone(metrics), before).map(Arc::new),
            timeout: spec.timeout.as_ref().map(|timeout| timeout.value),
        }
    }
}

impl Pool {
    /// Goes by another spec from now on. Replicas, the queue and what runs go on, and so do the
    /// cache and the breaker where nothing about them changes; items that were asked before keep
    /// the timeout that they had.
    ///
    /// What replicas are built with (`resources`) is not adjusted: that takes another pool.
    pub fn adjust(&self, spec: &PoolSpec) {
        let before = self.0.settings.load();
        if before.spec == *spec {
            return;
        }
        let settings = Settings::new(spec, &self.0.metrics, Some(&before));
        self.0.settings.store(Arc::new(settings));
        // Its owner lives as long as there is a handle.
        let _ = self.0.orders.send(Order::Adjust(Box::new(spec.clone())));
    }

    /// Ends the pool after its `graceful-shutdown-timeout`, whoever still holds a handle: the
    /// requests of a generation that is over may finish, and no more.
    pub fn retire(&self) {
        let _ = self.0.orders.send(Order::Retire);
    }

    /// What the file says of the pool.
    pub fn spec(&self) -> PoolSpec {
        self.0.settings.load().spec.clone()
    }
}
