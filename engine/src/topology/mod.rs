//! What requests see: one generation of a program with everything that it needs to run.
//!
//! A topology is never changed. A reload makes another one and publishes it in the place of the
//! old, which lives until the last request that began on it is answered; its pools end with it.

mod turnstile;
mod unbuilt;

pub use turnstile::{Closed, Inside, Outside, Turnstile};
pub use unbuilt::unbuilt;

use crate::{
    adapters::Shelves,
    execute::Prepared,
    metrics::{GraphMetrics, Metrics},
    pool::{Allowance, Ledger, Pool, PoolStatus},
};
use bytes::Bytes;
use futures::future::join_all;
use graphs::{Graph, NodeIx, Plan, Program, plan::GraphPlan};
use nodes::{Catalog, NodeError};
use schema::WhenFull;
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A program that is running.
#[derive(Debug)]
pub struct Topology {
    generation: u64,
    program: Arc<Program>,
    graphs: Vec<Served>,
    routes: HashMap<String, usize>,
    ledger: Ledger,
    adapters: Arc<Shelves>,
    openapi: Bytes,
}

/// A graph that is served.
#[derive(Debug)]
pub struct Served {
    prepared: Prepared,
    metrics: GraphMetrics,
    turnstile: Turnstile,
}

/// A node that could not be started.
#[derive(Debug, Clone, thiserror::Error)]
#[error("node `{node}` of graph `{graph}` cannot be started: {error}")]
pub struct StartError {
    /// Its graph.
    pub graph: String,
    /// Its name.
    pub node: String,
    /// Why.
    #[source]
    pub error: NodeError,
}

/// What is running, for people and scripts.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    /// Counts the topologies of this process.
    pub generation: u64,
    /// The graphs, as declared.
    pub graphs: Vec<GraphStatus<'a>>,
}

/// What is running of a graph.
#[derive(Debug, Serialize)]
pub struct GraphStatus<'a> {
    /// Its name.
    pub graph: &'a str,
    /// Where it is served.
    pub route: &'a str,
    /// Requests that wait because a node is being replaced that does not fit beside its successor.
    pub held: usize,
    /// Its nodes in a topological order.
    pub nodes: Vec<NodeStatus<'a>>,
}

/// What is running of a node.
#[derive(Debug, Serialize)]
pub struct NodeStatus<'a> {
    /// Its name.
    pub node: &'a str,
    /// Its kind.
    pub kind: &'static str,
    /// Its replicas and queue; absent for a node that needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolStatus>,
}

/// What a topology comes after.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// What runs.
    pub topology: &'a Topology,
    /// What becomes of it.
    pub plan: &'a Plan,
    /// Others that are about to go, and whose place may be counted on.
    pub going: &'a [Arc<Topology>],
}

impl Before<'_> {
    /// What the pools of the next topology may count on: what is free, and what the pools take that
    /// do not go on.
    fn room(&self) -> Allowance {
        let kept = self.plan.graphs.iter();
        let kept = kept.flat_map(|graph| self.topology.kept(graph).into_values());
        let mut seen: HashSet<_> = kept.map(|pool| pool.id()).collect();
        let others = self.going.iter().flat_map(|other| other.pools());
        let all = self.topology.pools().chain(others);
        let going = all.filter(|pool| seen.insert(pool.id()));
        let going = going.map(|pool| (pool.status().target, pool.spec().resources));
        self.topology.ledger.room_after(&going.collect::<Vec<_>>())
    }
}

impl Topology {
    /// Starts the pools of all graphs at once and waits until all are ready.
    ///
    /// # Errors
    /// Every node that could not be started. What was started beside it is dropped, and ends.
    pub async fn start(
        generation: u64,
        program: Arc<Program>,
        catalog: Arc<dyn Catalog>,
        metrics: &Metrics,
    ) -> Result<Self, Vec<StartError>> {
        Self::begin(generation, program, None, &catalog, metrics).await
    }

    /// Does what a plan says: takes over the pools of nodes that go on, starts all others at once,
    /// and waits until they are ready. What is before runs on as it is; pools that go on are adjusted
    /// by [`Topology::adjust_pools`], when nothing can fail any more.
    ///
    /// # Errors
    /// Every node that could not be started. What was started beside it is dropped, and ends.
    pub async fn after(
        generation: u64,
        program: Arc<Program>,
        before: Before<'_>,
        catalog: Arc<dyn Catalog>,
        metrics: &Metrics,
    ) -> Result<Self, Vec<StartError>> {
        Self::begin(generation, program, Some(before), &catalog, metrics).await
    }

    async fn begin(
        generation: u64,
        program: Arc<Program>,
        after: Option<Before<'_>>,
        catalog: &Arc<dyn Catalog>,
        metrics: &Metrics,
    ) -> Result<Self, Vec<StartError>> {
        let (ledger, room) = match after {
            None => {
                let ledger = Ledger::new(crate::load::machine());
                let room = ledger.room();
                (ledger, room)
            }
            Some(before) => (before.topology.ledger.clone(), before.room()),
        };
        let adapters = Arc::new(Shelves::new(&program, Arc::clone(catalog)));
        let graphs = program.graphs().iter().enumerate();
        let started = graphs.map(|(index, graph)| {
            let kept = after.map(|before| before.topology.kept(&before.plan.graphs[index]));
            let means = (catalog, &room, &adapters);
            Served::start(graph, kept.unwrap_or_default(), means, metrics)
        });
        let (mut graphs, mut errors) = (Vec::new(), Vec::new());
        for result in join_all(started).await {
            match result {
                Ok(served) => graphs.push(served),
                Err(more) => errors.extend(more),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let routes = graphs
            .iter()
            .map(|served| served.graph().route().to_owned());
        let document = crate::ingress::openapi(&program);
        Ok(Self {
            generation,
            routes: routes.zip(0..).collect(),
            adapters: Arc::clone(&adapters),
            openapi: serde_json::to_vec(&document).unwrap_or_default().into(),
            program,
            graphs,
            ledger,
        })
    }

    /// Gives what none of these takes over its `graceful-shutdown-timeout` to finish. To be called when
    /// they are served, or are about to be, and this is not any more.
    pub fn retire(&self, stays: &[&Topology]) {
        self.beside(stays).for_each(Pool::retire);
    }

    /// The pools that none of these has.
    fn beside<'a>(&'a self, stays: &[&Topology]) -> impl Iterator<Item = &'a Pool> {
        let others: HashSet<_> = stays
            .iter()
            .flat_map(|other| other.pools())
            .map(Pool::id)
            .collect();
        self.pools()
            .filter(move |pool| !others.contains(&pool.id()))
    }

    fn pools(&self) -> impl Iterator<Item = &Pool> {
        let graphs = self.graphs.iter();
        graphs.flat_map(|served| served.prepared.pools().map(|(_, pool)| pool))
    }

    /// Has every pool go by what this program says of it; for pools that were taken over. To be
    /// called when the topology is published.
    pub fn adjust_pools(&self) {
        for served in &self.graphs {
            for (ix, node) in served.graph().nodes() {
                if let Some(pool) = served.prepared.pool(ix) {
                    pool.adjust(&node.decl.pool);
                }
            }
        }
    }

    /// The pools that go on in a graph of the next topology.
    fn kept(&self, plan: &GraphPlan) -> HashMap<NodeIx, Pool> {
        let Some(before) = plan.before.map(|index| &self.graphs[index]) else {
            return HashMap::new();
        };
        let nodes = plan.nodes.iter().enumerate();
        let kept = nodes.filter_map(|(index, node)| {
            let pool = before.prepared.pool(node.before?)?;
            Some((NodeIx(index as u32), pool.clone()))
        });
        kept.collect()
    }

    /// Counts the topologies of this process.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What is running, as checked.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The graphs, as declared.
    pub fn graphs(&self) -> &[Served] {
        &self.graphs
    }

    /// Which of [`Topology::graphs`] is served at this path.
    pub fn index_at(&self, route: &str) -> Option<usize> {
        self.routes.get(path(route)).copied()
    }

    /// The graph at this path.
    pub fn at(&self, route: &str) -> Option<&Served> {
        self.index_at(route).map(|index| &self.graphs[index])
    }

    /// The adapters of its models.
    pub fn adapters(&self) -> &Arc<Shelves> {
        &self.adapters
    }

    /// The OpenAPI document of all graphs, as JSON.
    pub fn openapi(&self) -> &Bytes {
        &self.openapi
    }

    /// The nodes that cannot answer at the moment, as `graph.node`.
    pub fn unhealthy(&self) -> Vec<String> {
        let pools = self
            .graphs
            .iter()
            .flat_map(|served| served.prepared.pools());
        let unhealthy = pools.filter(|(_, pool)| !pool.status().healthy);
        unhealthy
            .map(|(_, pool)| pool.metrics().node.clone())
            .collect()
    }

    /// What is running at the moment.
    pub fn status(&self) -> Status<'_> {
        Status {
            generation: self.generation,
            graphs: self.graphs.iter().map(Served::status).collect(),
        }
    }
}

/// A route as it is looked up: `/rag/` is `/rag`.
fn path(route: &str) -> &str {
    route.trim_end_matches('/')
}

impl Served {
    async fn start(
        graph: &Arc<Graph>,
        mut kept: HashMap<NodeIx, Pool>,
        (catalog, room, adapters): (&Arc<dyn Catalog>, &Allowance, &Arc<Shelves>),
        metrics: &Metrics,
    ) -> Result<Self, Vec<StartError>> {
        let id = graph.id().as_str();
        let error = |node: &str, error| StartError {
            graph: id.to_owned(),
            node: node.to_owned(),
            error,
        };
        let pools = graph.nodes().map(|(ix, node)| (kept.remove(&ix), node));
        let pools = pools.map(|(kept, node)| async move {
            let (name, work) = (node.decl.id.value.as_str(), &node.decl.work);
            if work.is_inline() {
                return Ok(None);
            }
            if kept.is_some() {
                return Ok(kept);
            }
            let metrics = metrics.node(id, name);
            let pool = Pool::start(work, &node.decl.pool, Arc::clone(catalog), room, metrics).await;
            pool.map(Some).map_err(|reason| error(name, reason))
        });
        let (mut ready, mut errors) = (Vec::new(), Vec::new());
        for result in join_all(pools).await {
            match result {
                Ok(pool) => ready.push(pool),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let prepared = Prepared::new(Arc::clone(graph), ready, adapters);
        Ok(Self {
            prepared: prepared.map_err(|failed| {
                let node = failed.node.as_deref().unwrap_or("output");
                vec![error(node, failed.error.clone())]
            })?,
            metrics: metrics.graph(id),
            turnstile: Turnstile::default(),
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        self.prepared.graph()
    }

    /// The graph, ready to be walked.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The graph's series.
    pub fn metrics(&self) -> &GraphMetrics {
        &self.metrics
    }

    /// What lets requests in.
    pub fn turnstile(&self) -> &Turnstile {
        &self.turnstile
    }

    /// The replicas of a node; none for one that runs in the request itself.
    pub fn pool(&self, node: NodeIx) -> Option<&Pool> {
        self.prepared.pool(node)
    }

    /// How a node of this name answers when it is full.
    pub fn when_full(&self, node: &str) -> WhenFull {
        let mut nodes = self.graph().nodes();
        let found = nodes.find(|(_, declared)| declared.decl.id.value.as_str() == node);
        found.map_or(WhenFull::Unavailable, |(_, node)| node.decl.pool.when_full)
    }

    fn status(&self) -> GraphStatus<'_> {
        let pools: HashMap<_, _> = self.prepared.pools().collect();
        let nodes = self.graph().nodes().map(|(ix, node)| NodeStatus {
            node: node.decl.id.value.as_str(),
            kind: node.decl.work.kind().name(),
            pool: pools
                .get(self.prepared.node_id(ix))
                .map(|pool| pool.status()),
        });
        GraphStatus {
            graph: self.graph().id().as_str(),
            route: self.graph().route(),
            held: self.turnstile.waiting(),
            nodes: nodes.collect(),
        }
    }
}
