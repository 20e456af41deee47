//! Where a node and its successor do not fit into memory side by side: new requests wait, those that
//! are under way finish, the old replicas go, and the new ones may start.
//!
//! Requests wait at the entry of the graph, within their deadlines, and not at the node: one that is
//! inside has begun on the old generation and has to end on it.

use super::{Problems, Supervisor};
use crate::{
    pool::Pool,
    report,
    topology::{Closed, Served, Topology},
};
use futures::future::join_all;
use graphs::{Plan, Program, plan::Step};
use nodes::StandardCatalog;
use schema::Name;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

/// The least that a request is told to wait which is turned away meanwhile.
const SOON: Duration = Duration::from_secs(1);

/// Nodes whose replicas have gone before their successors started.
#[must_use]
pub(super) struct Pause {
    running: Arc<Topology>,
    /// By graph, as indexes of the running topology.
    nodes: BTreeMap<usize, Vec<Paused>>,
    begun: Instant,
}

struct Paused {
    id: Name,
    pool: Pool,
}

impl Supervisor {
    /// Has the nodes go that a plan wants to pause.
    pub(super) async fn pause(
        &self,
        plan: &Plan,
        running: &Arc<Topology>,
        (program, catalog): (&Program, &StandardCatalog),
    ) -> Result<Pause, Problems> {
        let pause = Pause {
            running: Arc::clone(running),
            nodes: paused(plan, running),
            begun: Instant::now(),
        };
        if pause.nodes.is_empty() {
            return Ok(pause);
        }
        // Before anybody waits: what may take long and needs no memory.
        for model in models(plan, program) {
            let fetched = catalog.fetch(model.as_str()).await;
            fetched.map_err(|error| vec![report::chain(&error)])?;
        }
        pause.begin().await;
        for model in left(plan, running, program) {
            self.catalog.unload(&model);
        }
        Ok(pause)
    }
}

impl Pause {
    /// Lets nobody in, waits until those who are inside have finished, and lets go of the replicas.
    async fn begin(&self) {
        let nodes = self.nodes.values().flatten();
        let names: Vec<_> = nodes.map(|node| node.id.as_str()).collect();
        info!(
            nodes = names.join(", "),
            "requests wait while nodes are replaced"
        );
        for (graph, nodes) in self.graphs() {
            if let Some(closed) = closed(nodes) {
                graph.turnstile().close(closed);
            }
        }
        join_all(self.graphs().map(|(graph, nodes)| let_go(graph, nodes))).await;
    }

    /// The successors are served.
    pub(super) fn end(self) {
        self.graphs()
            .for_each(|(graph, _)| graph.turnstile().redirect());
        self.tell("requests go on");
    }

    /// The successors did not start: what was there comes back.
    pub(super) fn undo(self) {
        for (graph, nodes) in self.graphs() {
            nodes.iter().for_each(|node| node.pool.wake());
            graph.turnstile().open();
        }
        self.tell("the new replicas did not start, and the old ones come back");
    }

    fn tell(&self, what: &str) {
        if !self.nodes.is_empty() {
            let millis = self.begun.elapsed().as_millis() as u64;
            info!(millis, "{what}");
        }
    }

    fn graphs(&self) -> impl Iterator<Item = (&Served, &[Paused])> {
        let nodes = self.nodes.iter();
        nodes.map(|(graph, nodes)| (&self.running.graphs()[*graph], nodes.as_slice()))
    }
}

/// The nodes that a plan wants to pause, with what runs of them.
fn paused(plan: &Plan, running: &Topology) -> BTreeMap<usize, Vec<Paused>> {
    let mut paused: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (graph, node) in plan.pauses() {
        let place = graph.before.zip(node.replaces);
        let pool = place.and_then(|(graph, node)| running.graphs()[graph].pool(node));
        if let (Some((graph, _)), Some(pool)) = (place, pool) {
            paused.entry(graph).or_default().push(Paused {
                id: node.id.clone(),
                pool: pool.clone(),
            });
        }
    }
    paused
}

/// What is said to requests of a graph: as many may wait as may at the nodes.
fn closed(nodes: &[Paused]) -> Option<Closed> {
    let first = nodes.first()?;
    let most = nodes.iter().map(|node| node.pool.most_queued()).min()?;
    let startup = nodes
        .iter()
        .map(|node| node.pool.status().startup_ms)
        .max()?;
    let retry_after = Duration::from_millis(startup).max(SOON);
    Some(Closed::because(first.id.as_str(), most, retry_after))
}

async fn let_go(graph: &Served, nodes: &[Paused]) {
    let grace = nodes.iter().map(|node| node.pool.grace()).max();
    let end = Instant::now() + grace.unwrap_or_default();
    if timeout_at(end, graph.turnstile().empty()).await.is_err() {
        let graph = graph.graph().id().as_str();
        warn!(graph, "requests did not finish in time and are given up");
    }
    let left = end.saturating_duration_since(Instant::now());
    join_all(nodes.iter().map(|node| node.pool.rest(left))).await;
}

/// The models that the successors need.
fn models(plan: &Plan, program: &Program) -> Vec<Name> {
    let mut models = Vec::new();
    for (graph, plan) in program.graphs().iter().zip(&plan.graphs) {
        for ((_, node), plan) in graph.nodes().zip(&plan.nodes) {
            let model = node.decl.work.model().filter(|_| plan.step.pauses());
            models.extend(model.map(|model| model.value.clone()));
        }
    }
    models
}

/// The models that the nodes that go have, and that nobody else is to have as they are.
fn left(plan: &Plan, running: &Topology, program: &Program) -> Vec<Name> {
    let stays = |model: &Name| {
        let kept = (plan.models.iter()).any(|(name, step)| name == model && *step == Step::Keep);
        let nodes = program.graphs().iter().flat_map(|graph| graph.nodes());
        let mut used = nodes.filter_map(|(_, node)| node.decl.work.model());
        kept && used.any(|used| used.value == *model)
    };
    let nodes = plan.pauses().filter_map(|(graph, node)| {
        let graph = &running.program().graphs()[graph.before?];
        Some(graph.node(node.replaces?))
    });
    let models = nodes.filter_map(|node| node.decl.work.model());
    let left = models.map(|model| model.value.clone());
    left.filter(|model| !stays(model)).collect()
}
