//! What the engine counts and times, for Prometheus.
//!
//! One [`Metrics`] is handed to whoever measures; nothing is global. Times are in seconds, sizes in
//! bytes; labels name graphs and nodes, never requests.

use crate::adapters::{Series, Shelves};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use std::{sync::Arc, time::Duration};

/// Every series of the engine.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<GraphLabels, Histogram, fn() -> Histogram>,
    node: NodeFamilies,
    tokens: Family<TokenLabels, Counter>,
    shed: Family<ShedLabels, Counter>,
    generation: Gauge,
    reloads: Family<ReloadLabels, Counter>,
    adapters: Arc<Series>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    graph: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GraphLabels {
    graph: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    graph: String,
    node: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    graph: String,
    node: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    graph: String,
    node: String,
    r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    graph: String,
    node: String,
    reason: &'static str,
}

type Histograms = Family<NodeLabels, Histogram, fn() -> Histogram>;

#[derive(Debug)]
struct NodeFamilies {
    requests: Family<NodeLabels, Counter>,
    errors: Family<NodeLabels, Counter>,
    duration: Histograms,
    queue_duration: Histograms,
    queued: Family<NodeLabels, Gauge>,
    ongoing: Family<NodeLabels, Gauge>,
    batch_size: Histograms,
    batch_wait: Histograms,
    batch_duration: Histograms,
    retries: Family<NodeLabels, Counter>,
    hedges: Family<NodeLabels, Counter>,
    cache_hits: Family<NodeLabels, Counter>,
    cache_misses: Family<NodeLabels, Counter>,
    replicas: Family<ReplicaLabels, Gauge>,
    autoscale_desired: Family<NodeLabels, Gauge>,
    autoscale_target: Family<NodeLabels, Gauge>,
    starts: Family<NodeLabels, Counter>,
    startup: Histograms,
    ttft: Histograms,
    inter_token: Histograms,
    cached_tokens: Family<NodeLabels, Counter>,
}

/// The series of one node, found once when its pool starts.
#[derive(Debug, Clone)]
pub struct NodeMetrics {
    /// Whose they are, as `graph.node`, for logs.
    pub node: String,
    /// Items asked of it.
    pub requests: Counter,
    /// Items that it did not answer.
    pub errors: Counter,
    /// From an item's arrival to its answer.
    pub duration: Histogram,
    /// From an item's arrival until a replica took it.
    pub queue_duration: Histogram,
    /// Items that wait.
    pub queued: Gauge,
    /// Items that replicas hold.
    pub ongoing: Gauge,
    /// Items in a batch.
    pub batch_size: Histogram,
    /// How long the first item of a batch had waited when the batch was formed.
    pub batch_wait: Histogram,
    /// How long a batch ran.
    pub batch_duration: Histogram,
    /// Replicas that are ready.
    pub replicas: Gauge,
    /// Replicas that are being built.
    pub replicas_starting: Gauge,
    /// Replicas that finish what they hold and go.
    pub replicas_leaving: Gauge,
    /// Replicas that the load asks for.
    pub autoscale_desired: Gauge,
    /// Replicas that there should be, within the limits of the machine.
    pub autoscale_target: Gauge,
    /// Replicas that were started.
    pub starts: Counter,
    /// How long a replica took to be ready.
    pub startup: Histogram,
    /// Items refused because the queue was full.
    pub shed_full: Counter,
    /// Items refused or dropped because they could not be done by their deadline.
    pub shed_late: Counter,
    /// Items refused because the breaker was open.
    pub shed_breaker: Counter,
    /// Tries after the first.
    pub retries: Counter,
    /// Items sent a second time because the first try took long.
    pub hedges: Counter,
    /// Items answered from the cache.
    pub cache_hits: Counter,
    /// Items that the cache did not know.
    pub cache_misses: Counter,
    /// From the start of a text to its first piece.
    pub ttft: Histogram,
    /// Between one piece of a text and the next.
    pub inter_token: Histogram,
    /// Tokens that prompts had.
    pub prompt_tokens: Counter,
    /// Those of them that had been read before.
    pub cached_tokens: Counter,
    /// Tokens that were generated.
    pub completion_tokens: Counter,
}

/// The series of one graph.
#[derive(Debug, Clone)]
pub struct GraphMetrics {
    graph: String,
    requests: Family<RequestLabels, Counter>,
    ok: Counter,
    duration: Histogram,
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
            requests: Family::default(),
            request_duration: Family::new_with_constructor(seconds),
            node: NodeFamilies::new(),
            tokens: Family::default(),
            shed: Family::default(),
            generation: Gauge::default(),
            reloads: Family::default(),
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
        registry.register("requests", "Requests answered", self.requests.clone());
        let duration = self.request_duration.clone();
        registry.register_with_unit(
            "request_duration",
            "From a request's arrival to the end of its answer",
            Unit::Seconds,
            duration,
        );
        self.node.register(registry);
        registry.register("tokens", "Tokens of prompts and texts", self.tokens.clone());
        registry.register("shed", "Items refused or dropped", self.shed.clone());
        let generation = self.generation.clone();
        registry.register(
            "config_generation",
            "The generation that is served",
            generation,
        );
        registry.register("reloads", "Reloads asked for", self.reloads.clone());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", build);
        registry.register_collector(Box::new(Arc::clone(&self.adapters)));
    }

    /// The series of a node.
    pub fn node(&self, graph: &str, node: &str) -> NodeMetrics {
        let (graph, node) = (graph.to_owned(), node.to_owned());
        let shed = |reason| {
            self.shed.get_or_create_owned(&ShedLabels {
                graph: graph.clone(),
                node: node.clone(),
                reason,
            })
        };
        let tokens = |kind| {
            self.tokens.get_or_create_owned(&TokenLabels {
                graph: graph.clone(),
                node: node.clone(),
                r#type: kind,
            })
        };
        let (shed_full, shed_late, shed_breaker) = (shed("full"), shed("late"), shed("breaker"));
        let (prompt_tokens, completion_tokens) = (tokens("prompt"), tokens("completion"));
        let replicas = |state| {
            self.node.replicas.get_or_create_owned(&ReplicaLabels {
                graph: graph.clone(),
                node: node.clone(),
                state,
            })
        };
        let (replicas, replicas_starting, replicas_leaving) =
            (replicas("ready"), replicas("starting"), replicas("leaving"));
        let name = format!("{graph}.{node}");
        let labels = NodeLabels { graph, node };
        let of = |family: &Histograms| family.get_or_create_owned(&labels);
        NodeMetrics {
            node: name,
            requests: self.node.requests.get_or_create_owned(&labels),
            errors: self.node.errors.get_or_create_owned(&labels),
            duration: of(&self.node.duration),
            queue_duration: of(&self.node.queue_duration),
            queued: self.node.queued.get_or_create_owned(&labels),
            ongoing: self.node.ongoing.get_or_create_owned(&labels),
            batch_size: of(&self.node.batch_size),
            batch_wait: of(&self.node.batch_wait),
            batch_duration: of(&self.node.batch_duration),
            replicas,
            replicas_starting,
            replicas_leaving,
            autoscale_desired: self.node.autoscale_desired.get_or_create_owned(&labels),
            autoscale_target: self.node.autoscale_target.get_or_create_owned(&labels),
            starts: self.node.starts.get_or_create_owned(&labels),
            startup: of(&self.node.startup),
            shed_full,
            shed_late,
            shed_breaker,
            retries: self.node.retries.get_or_create_owned(&labels),
            hedges: self.node.hedges.get_or_create_owned(&labels),
            cache_hits: self.node.cache_hits.get_or_create_owned(&labels),
            cache_misses: self.node.cache_misses.get_or_create_owned(&labels),
            ttft: of(&self.node.ttft),
            inter_token: of(&self.node.inter_token),
            prompt_tokens,
            cached_tokens: self.node.cached_tokens.get_or_create_owned(&labels),
            completion_tokens,
        }
    }

    /// The series of a graph.
    pub fn graph(&self, graph: &str) -> GraphMetrics {
        let graph = graph.to_owned();
        GraphMetrics {
            ok: self.requests.get_or_create_owned(&RequestLabels {
                graph: graph.clone(),
                code: 200,
            }),
            requests: self.requests.clone(),
            duration: self.request_duration.get_or_create_owned(&GraphLabels {
                graph: graph.clone(),
            }),
            graph,
        }
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

impl GraphMetrics {
    /// Counts a request that was answered with this status.
    pub fn answered(&self, status: u16, took: Duration) {
        if status == 200 {
            self.ok.inc();
        } else {
            let labels = RequestLabels {
                graph: self.graph.clone(),
                code: status,
            };
            self.requests.get_or_create(&labels).inc();
        }
        self.duration.observe(took.as_secs_f64());
    }
}

impl NodeFamilies {
    fn new() -> Self {
        let seconds: fn() -> Histograms = || Family::new_with_constructor(seconds);
        Self {
            requests: Family::default(),
            errors: Family::default(),
            duration: seconds(),
            queue_duration: seconds(),
            queued: Family::default(),
            ongoing: Family::default(),
            batch_size: Family::new_with_constructor(sizes),
            batch_wait: seconds(),
            batch_duration: seconds(),
            retries: Family::default(),
            hedges: Family::default(),
            cache_hits: Family::default(),
            cache_misses: Family::default(),
            replicas: Family::default(),
            autoscale_desired: Family::default(),
            autoscale_target: Family::default(),
            starts: Family::default(),
            startup: seconds(),
            ttft: seconds(),
            inter_token: seconds(),
            cached_tokens: Family::default(),
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "node_requests",
            "Items asked of a node",
            self.requests.clone(),
        );
        registry.register("node_errors", "Items a node failed", self.errors.clone());
        registry.register(
            "node_queued_requests",
            "Items that wait",
            self.queued.clone(),
        );
        registry.register(
            "node_ongoing_requests",
            "Items in replicas",
            self.ongoing.clone(),
        );
        for (name, help, family) in [
            ("node_retries", "Tries after the first", &self.retries),
            ("node_hedges", "Items sent a second time", &self.hedges),
            (
                "node_cache_hits",
                "Items answered from the cache",
                &self.cache_hits,
            ),
            (
                "node_cache_misses",
                "Items that the cache did not know",
                &self.cache_misses,
            ),
            (
                "cached_prompt_tokens",
                "Tokens of prompts that had been read before",
                &self.cached_tokens,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register("batch_size", "Items in a batch", self.batch_size.clone());
        registry.register("replicas", "Replicas by state", self.replicas.clone());
        registry.register(
            "autoscale_desired_replicas",
            "Replicas that the load asks for",
            self.autoscale_desired.clone(),
        );
        registry.register(
            "autoscale_target_replicas",
            "Replicas that there should be",
            self.autoscale_target.clone(),
        );
        registry.register("replica_starts", "Replicas started", self.starts.clone());
        let times = [
            ("node_duration", "From arrival to answer", &self.duration),
            (
                "node_queue_duration",
                "From arrival to a replica",
                &self.queue_duration,
            ),
            (
                "batch_wait",
                "Wait of a batch's first item",
                &self.batch_wait,
            ),
            ("batch_duration", "Run of a batch", &self.batch_duration),
            ("replica_startup", "Start of a replica", &self.startup),
            ("ttft", "Time to the first piece of a text", &self.ttft),
            ("inter_token", "Between pieces of a text", &self.inter_token),
        ];
        for (name, help, family) in times {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
