//! The series of nodes.

use super::{
    lease::{Families, Lease, Leased},
    seconds, sizes,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct NodeLabels {
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

/// The states of replicas, the reasons for refusals and the types of tokens that have series.
const STATES: [&str; 3] = ["ready", "starting", "leaving"];
const REASONS: [&str; 3] = ["full", "late", "breaker"];
const TOKENS: [&str; 2] = ["prompt", "completion"];

/// The series of all nodes.
#[derive(Debug)]
pub(super) struct NodeFamilies {
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
    guessed_tokens: Family<NodeLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    shed: Family<ShedLabels, Counter>,
}

/// The series of one node, found once when its pool starts. They leave the registry with the last
/// clone.
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
    /// Those of them that were guessed before.
    pub guessed_tokens: Counter,
    _lease: Arc<Lease<NodeFamilies>>,
}

impl NodeMetrics {
    /// The series of a node.
    pub(super) fn of(all: &Arc<Leased<NodeFamilies>>, graph: &str, node: &str) -> Self {
        let labels = NodeLabels {
            graph: graph.to_owned(),
            node: node.to_owned(),
        };
        let lease = all.lease(&labels);
        let families = &all.families;
        let of = |family: &Histograms| family.get_or_create_owned(&labels);
        let [replicas, replicas_starting, replicas_leaving] = labels
            .states()
            .map(|labels| families.replicas.get_or_create_owned(&labels));
        let [shed_full, shed_late, shed_breaker] = labels
            .reasons()
            .map(|labels| families.shed.get_or_create_owned(&labels));
        let [prompt_tokens, completion_tokens] = labels
            .tokens()
            .map(|labels| families.tokens.get_or_create_owned(&labels));
        Self {
            node: format!("{graph}.{node}"),
            requests: families.requests.get_or_create_owned(&labels),
            errors: families.errors.get_or_create_owned(&labels),
            duration: of(&families.duration),
            queue_duration: of(&families.queue_duration),
            queued: families.queued.get_or_create_owned(&labels),
            ongoing: families.ongoing.get_or_create_owned(&labels),
            batch_size: of(&families.batch_size),
            batch_wait: of(&families.batch_wait),
            batch_duration: of(&families.batch_duration),
            replicas,
            replicas_starting,
            replicas_leaving,
            autoscale_desired: families.autoscale_desired.get_or_create_owned(&labels),
            autoscale_target: families.autoscale_target.get_or_create_owned(&labels),
            starts: families.starts.get_or_create_owned(&labels),
            startup: of(&families.startup),
            shed_full,
            shed_late,
            shed_breaker,
            retries: families.retries.get_or_create_owned(&labels),
            hedges: families.hedges.get_or_create_owned(&labels),
            cache_hits: families.cache_hits.get_or_create_owned(&labels),
            cache_misses: families.cache_misses.get_or_create_owned(&labels),
            ttft: of(&families.ttft),
            inter_token: of(&families.inter_token),
            prompt_tokens,
            cached_tokens: families.cached_tokens.get_or_create_owned(&labels),
            guessed_tokens: families.guessed_tokens.get_or_create_owned(&labels),
            completion_tokens,
            _lease: lease,
        }
    }
}

impl NodeLabels {
    fn states(&self) -> [ReplicaLabels; 3] {
        STATES.map(|state| ReplicaLabels {
            graph: self.graph.clone(),
            node: self.node.clone(),
            state,
        })
    }

    fn reasons(&self) -> [ShedLabels; 3] {
        REASONS.map(|reason| ShedLabels {
            graph: self.graph.clone(),
            node: self.node.clone(),
            reason,
        })
    }

    fn tokens(&self) -> [TokenLabels; 2] {
        TOKENS.map(|kind| TokenLabels {
            graph: self.graph.clone(),
            node: self.node.clone(),
            r#type: kind,
        })
    }
}

impl Families for NodeFamilies {
    type Labels = NodeLabels;

    fn remove(&self, labels: &NodeLabels) {
        let Self {
            requests,
            errors,
            duration,
            queue_duration,
            queued,
            ongoing,
            batch_size,
            batch_wait,
            batch_duration,
            retries,
            hedges,
            cache_hits,
            cache_misses,
            replicas,
            autoscale_desired,
            autoscale_target,
            starts,
            startup,
            ttft,
            inter_token,
            cached_tokens,
            guessed_tokens,
            tokens,
            shed,
        } = self;
        let counters = [
            requests,
            errors,
            retries,
            hedges,
            cache_hits,
            cache_misses,
            cached_tokens,
            guessed_tokens,
            starts,
        ];
        let gauges = [queued, ongoing, autoscale_desired, autoscale_target];
        let histograms = [
            duration,
            queue_duration,
            batch_size,
            batch_wait,
            batch_duration,
            startup,
            ttft,
            inter_token,
        ];
        for family in counters {
            family.remove(labels);
        }
        for family in gauges {
            family.remove(labels);
        }
        for family in histograms {
            family.remove(labels);
        }
        for labels in &labels.states() {
            replicas.remove(labels);
        }
        for labels in &labels.reasons() {
            shed.remove(labels);
        }
        for labels in &labels.tokens() {
            tokens.remove(labels);
        }
    }
}

impl NodeFamilies {
    pub(super) fn new() -> Self {
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
            guessed_tokens: Family::default(),
            tokens: Family::default(),
            shed: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
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
            (
                "guessed_tokens",
                "Generated tokens that were guessed before, and took no step of their own",
                &self.guessed_tokens,
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
        registry.register("tokens", "Tokens of prompts and texts", self.tokens.clone());
        registry.register("shed", "Items refused or dropped", self.shed.clone());
    }
}
