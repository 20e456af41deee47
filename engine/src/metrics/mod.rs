//! What the engine counts and times, for Prometheus.
//!
//! One [`Metrics`] is handed to whoever measures; nothing is global. Times are in seconds, sizes in
//! bytes; labels name graphs and nodes, never requests. Series of what is gone are gone too.

mod graph;
mod lease;
mod node;
mod rollout;

pub use graph::GraphMetrics;
pub use node::NodeMetrics;
pub use rollout::RolloutMetrics;

use crate::adapters::{Series, Shelves};
use graph::GraphFamilies;
use lease::Leased;
use node::NodeFamilies;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};
use std::sync::Arc;

/// Every series of the engine.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    graphs: Arc<Leased<GraphFamilies>>,
    nodes: Arc<Leased<NodeFamilies>>,
    generation: Gauge,
    reloads: Family<ReloadLabels, Counter>,
    rollout: RolloutMetrics,
    adapters: Arc<Series>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

/// 10 µs to 100 s in steps of about 2.15 (three a decade).
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(10e-6, 10f64.powf(1.0 / 3.0), 22))
}

/// 1 to 1024 in powers of two.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 11))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series, empty.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("engine");
        let metrics = Self {
            graphs: Leased::new(GraphFamilies::new()),
            nodes: Leased::new(NodeFamilies::new()),
            generation: Gauge::default(),
            reloads: Family::default(),
            rollout: RolloutMetrics::default(),
            adapters: Arc::default(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        Self {
            registry,
            ..metrics
        }
    }

    fn register(&self, registry: &mut Registry) {
        self.graphs.families.register(registry);
        self.nodes.families.register(registry);
        let generation = self.generation.clone();
        registry.register(
            "config_generation",
            "The generation that is served",
            generation,
        );
        registry.register("reloads", "Reloads asked for", self.reloads.clone());
        self.rollout.register(registry);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", build);
        registry.register_collector(Box::new(Arc::clone(&self.adapters)));
    }

    /// The series of a node.
    pub fn node(&self, graph: &str, node: &str) -> NodeMetrics {
        NodeMetrics::of(&self.nodes, graph, node)
    }

    /// The series of a graph, and a fresh tally of one generation of it.
    pub fn graph(&self, graph: &str) -> GraphMetrics {
        GraphMetrics::of(&self.graphs, graph)
    }

    /// The series of rollouts.
    pub fn rollout(&self) -> &RolloutMetrics {
        &self.rollout
    }

    /// Counts a reload that was asked for, by what came of it.
    pub fn reloaded(&self, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.reloads
            .get_or_create_owned(&ReloadLabels { result })
            .inc();
    }

    /// Shows the adapters of these models from now on.
    pub fn watch_adapters(&self, shelves: Arc<Shelves>) {
        self.adapters.watch(shelves);
    }

    /// States which generation is served.
    pub fn set_generation(&self, generation: u64) {
        self.generation.set(generation as i64);
    }

    /// The text that Prometheus scrapes (OpenMetrics 1.0).
    pub fn encode(&self) -> String {
        let mut body = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut body, &self.registry);
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn series_have_the_names_that_dashboards_use() {
        let metrics = Metrics::new();
        metrics.set_generation(3);
        let node = metrics.node("rag", "top");
        node.requests.inc();
        node.duration.observe(20e-6);
        let graph = metrics.graph("rag");
        graph.answered(200, Duration::from_millis(2));
        graph.answered(503, Duration::from_millis(1));
        let text = metrics.encode();
        for line in [
            "engine_config_generation 3",
            r#"engine_requests_total{graph="rag",code="200"} 1"#,
            r#"engine_requests_total{graph="rag",code="503"} 1"#,
            r#"engine_node_requests_total{graph="rag",node="top"} 1"#,
            r#"engine_node_duration_seconds_bucket{le="0.00001",graph="rag",node="top"} 0"#,
            r#"engine_request_duration_seconds_count{graph="rag"} 2"#,
            r#"engine_shed_total{graph="rag",node="top",reason="full"} 0"#,
            r#"engine_replicas{graph="rag",node="top",state="ready"} 0"#,
            r#"engine_build_info{version="0.1.0"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn series_of_what_is_gone_are_gone() {
        let metrics = Metrics::new();
        let lines = || metrics.encode().lines().count();
        let empty = lines();
        let (node, graph) = (metrics.node("rag", "top"), metrics.graph("rag"));
        node.requests.inc();
        for status in [200, 404, 503] {
            graph.answered(status, Duration::from_millis(1));
        }
        let full = lines();
        assert!(full > empty + 100, "{full}");
        // The next generation has them too, and counts on.
        let (next_node, next_graph) = (metrics.node("rag", "top"), metrics.graph("rag"));
        drop((node, graph));
        assert_eq!(lines(), full);
        next_graph.answered(503, Duration::from_millis(1));
        let counted = r#"engine_requests_total{graph="rag",code="503"} 2"#;
        assert!(metrics.encode().contains(counted));
        drop((next_node, next_graph));
        assert_eq!(lines(), empty);
    }
}
