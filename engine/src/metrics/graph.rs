//! The series of graphs.

use super::{
    lease::{Families, Lease, Leased},
    seconds,
};
use crate::rollout::tally::Tally;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct GraphLabels {
    graph: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    graph: String,
    code: u16,
}

/// The series of all graphs.
#[derive(Debug)]
pub(super) struct GraphFamilies {
    requests: Family<RequestLabels, Counter>,
    duration: Family<GraphLabels, Histogram, fn() -> Histogram>,
    /// The statuses that any graph was answered with: a family does not tell what it has.
    codes: Mutex<BTreeSet<u16>>,
}

/// The series of one graph, and what one generation of it answered. The series leave the registry
/// with the last generation that has the graph.
#[derive(Debug, Clone)]
pub struct GraphMetrics {
    graph: String,
    all: Arc<Leased<GraphFamilies>>,
    ok: Counter,
    duration: Histogram,
    tally: Arc<Tally>,
    _lease: Arc<Lease<GraphFamilies>>,
}

impl GraphMetrics {
    pub(super) fn of(all: &Arc<Leased<GraphFamilies>>, graph: &str) -> Self {
        let graph = graph.to_owned();
        let labels = GraphLabels {
            graph: graph.clone(),
        };
        let lease = all.lease(&labels);
        let families = &all.families;
        Self {
            ok: families.answered(&graph, 200),
            duration: families.duration.get_or_create_owned(&labels),
            all: Arc::clone(all),
            graph,
            tally: Arc::default(),
            _lease: lease,
        }
    }

    /// Counts a request that was answered with this status.
    pub fn answered(&self, status: u16, took: Duration) {
        match status {
            200 => self.ok.inc(),
            status => self.all.families.answered(&self.graph, status).inc(),
        };
        self.duration.observe(took.as_secs_f64());
        self.tally.count(status, took);
    }

    /// What this generation answered.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl GraphFamilies {
    pub(super) fn new() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            codes: Mutex::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "From a request's arrival to the end of its answer",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    fn answered(&self, graph: &str, code: u16) -> Counter {
        let graph = graph.to_owned();
        let codes = self.codes.lock();
        codes.unwrap_or_else(PoisonError::into_inner).insert(code);
        self.requests
            .get_or_create_owned(&RequestLabels { graph, code })
    }
}

impl Families for GraphFamilies {
    type Labels = GraphLabels;

    fn remove(&self, labels: &GraphLabels) {
        self.duration.remove(labels);
        let codes = self.codes.lock();
        for code in codes.unwrap_or_else(PoisonError::into_inner).iter() {
            self.requests.remove(&RequestLabels {
                graph: labels.graph.clone(),
                code: *code,
            });
        }
    }
}
