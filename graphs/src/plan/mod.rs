//! What a running program has to do to become another one, decided before anything is done.
//!
//! [`plan`] compares two checked programs and says for every part of the next one whether what runs
//! is kept, adjusted, started, replaced or stopped, and why. It looks at meaning alone: moved lines
//! and comments change nothing. Whoever carries a plan out asks nothing again. What lies on the disk
//! is known as digests only, which whoever read the files has taken ([`Content`](crate::Content)).

mod change;
mod graph;
mod listen;
mod pool;
mod text;
mod world;

pub use change::Change;

use crate::{NodeIx, Program};
use schema::{Kind, Name, Rollout};

/// From one program to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Where requests come in.
    pub listen: Step,
    /// Where operators ask.
    pub admin: Step,
    /// The server's other options.
    pub server: Step,
    /// Models: those of the next program in its order, then those that end.
    pub models: Vec<(Name, Step)>,
    /// Indexes, in the same way.
    pub indexes: Vec<(Name, Step)>,
    /// Graphs of the next program, in its order.
    pub graphs: Vec<GraphPlan>,
    /// Graphs that end, with their nodes.
    pub stopped: Vec<(Name, Vec<Name>)>,
    /// How it comes to be served, where requests would notice the change and the file does not want
    /// all of them to get it at once.
    pub rollout: Option<Rollout>,
}

/// What becomes of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphPlan {
    /// Its name in the next program.
    pub id: Name,
    /// Which graph of the running program it comes from, as an index into [`Program::graphs`].
    pub before: Option<usize>,
    /// What happens to its route and its fields. A graph is never replaced: its nodes are.
    pub step: Step,
    /// Its nodes, by [`NodeIx`].
    pub nodes: Vec<NodePlan>,
    /// Nodes that it had and has no more.
    pub stopped: Vec<Name>,
}

/// What becomes of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodePlan {
    /// Its name in the next program.
    pub id: Name,
    /// Its kind.
    pub kind: Kind,
    /// What happens to it.
    pub step: Step,
    /// Whose replicas, queue and caches it goes on with; filled for a node that is kept or adjusted.
    pub before: Option<NodeIx>,
    /// Whose place it takes; filled for a node that is replaced.
    pub replaces: Option<NodeIx>,
}

/// What happens to a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It goes on as it is.
    Keep,
    /// It goes on and behaves differently from now on.
    Adjust(Vec<Change>),
    /// It is new.
    Start,
    /// Another one takes its place.
    Replace {
        /// What makes that necessary.
        why: Vec<Change>,
        /// In which order.
        handover: Handover,
    },
    /// It is not needed any more.
    Stop,
}

/// In which order a part and its successor stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// The new one is ready before the old one goes.
    Overlap,
    /// Both do not fit at once: requests wait while the old one goes and the new one starts.
    Pause,
}

/// What there is to carry a plan out with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Whether the limits of a running pool can be changed. Where they cannot, a node with other
    /// limits is replaced by one with the same work.
    pub adjusts_pools: bool,
    /// Bytes of memory of the machine, for nodes that declare theirs; `None` if not known.
    pub memory: Option<u64>,
}

/// How many nodes a plan keeps, adjusts, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Unchanged.
    pub kept: usize,
    /// Adjusted in place.
    pub adjusted: usize,
    /// Started, with nothing before them.
    pub started: usize,
    /// Replaced.
    pub replaced: usize,
    /// Stopped.
    pub stopped: usize,
}

/// What has to happen for `next` to run where `running` does.
pub fn plan(running: &Program, next: &Program, capacity: Capacity) -> Plan {
    let world = world::World::compare(running, next);
    let (graphs, stopped) = graph::compare(running, next, &world, capacity);
    let (listen, admin, server) = listen::compare(running.server(), next.server());
    let mut plan = Plan {
        listen,
        admin,
        server,
        models: world.models,
        indexes: world.indexes,
        graphs,
        stopped,
        rollout: None,
    };
    if plan.concerns_requests() {
        plan.rollout.clone_from(&next.server().rollout);
    }
    plan
}

impl Plan {
    /// Whether nothing at all changes.
    pub fn is_empty(&self) -> bool {
        let own = [&self.listen, &self.admin, &self.server];
        own.into_iter().all(|step| *step == Step::Keep) && !self.concerns_requests()
    }

    /// Whether anything changes about what is served, and not only about where and to whom.
    pub fn concerns_requests(&self) -> bool {
        let declared = self.models.iter().chain(&self.indexes);
        let of_graph = |graph: &GraphPlan| {
            graph.step == Step::Keep
                && graph.stopped.is_empty()
                && graph.nodes.iter().all(|node| node.step == Step::Keep)
        };
        !(declared.into_iter().all(|(_, step)| *step == Step::Keep)
            && self.graphs.iter().all(of_graph)
            && self.stopped.is_empty())
    }

    /// The nodes whose successors do not fit beside them, each with its graph.
    pub fn pauses(&self) -> impl Iterator<Item = (&GraphPlan, &NodePlan)> {
        let graphs = self.graphs.iter();
        let nodes = graphs.flat_map(|graph| graph.nodes.iter().map(move |node| (graph, node)));
        nodes.filter(|(_, node)| node.step.pauses())
    }

    /// How many nodes are kept, adjusted, and so on.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for node in self.graphs.iter().flat_map(|graph| &graph.nodes) {
            match node.step {
                Step::Keep => counts.kept += 1,
                Step::Adjust(_) => counts.adjusted += 1,
                Step::Start => counts.started += 1,
                Step::Replace { .. } => counts.replaced += 1,
                Step::Stop => counts.stopped += 1,
            }
        }
        let left = self.graphs.iter().map(|graph| graph.stopped.len());
        let gone = self.stopped.iter().map(|(_, nodes)| nodes.len());
        counts.stopped += left.chain(gone).sum::<usize>();
        counts
    }
}

impl Step {
    /// Whether requests wait while the old one goes and the new one starts.
    pub fn pauses(&self) -> bool {
        let handover = match self {
            Step::Replace { handover, .. } => *handover,
            _ => Handover::Overlap,
        };
        handover == Handover::Pause
    }

    /// Goes on, adjusted if anything is different.
    fn adjust(changes: Vec<Change>) -> Self {
        match changes.is_empty() {
            true => Step::Keep,
            false => Step::Adjust(changes),
        }
    }
}
