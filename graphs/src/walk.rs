//! The way of one request through a graph, as a state machine that computes nothing itself.
//!
//! An executor runs what [`Walk::start`] and [`Walk::finish`] hand out and reports how it went:
//!
//! ```text
//! ready = walk.start()
//! loop: run a ready node, then match walk.finish(node, outcome)
//!     Next::Run(nodes)   these are ready now (none: others are under way, or it is over)
//!     Next::StandIn      evaluate the node's fallback value, then finish the node again
//!     Next::Failed(node) nothing stands in for the node's result; the request fails
//! until walk.is_over()
//! ```
//!
//! A node is ready when everything that it reads has settled: done, skipped, or replaced by its
//! fallback. The walk holds no results; [`Walk::result_of`] says whose result stands for a node's.

use crate::{BoundFallback, Graph, GraphNode, NodeIx};
use petgraph::{Direction, graph::DiGraph, graph::NodeIndex};
use smallvec::SmallVec;

/// Nodes to run, in the order of their indices.
pub type Ready = SmallVec<[NodeIx; 8]>;

/// How a node's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has a result.
    Done,
    /// It did not run, and yields none: its `when` is false, or a value that it needs is none.
    Skipped,
    /// It has no result.
    Failed,
}

/// What comes after a node has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Run these; they may run at the same time.
    Run(Ready),
    /// Put the value of the node's fallback in the place of its result, then finish it as `Done`,
    /// or as `Failed` if even that fails.
    StandIn,
    /// The request fails: this node has failed and nothing stands in for its result.
    Failed(NodeIx),
}

/// One request's way through a graph.
#[derive(Debug, Clone)]
pub struct Walk<'g> {
    graph: &'g Graph,
    slots: SmallVec<[Slot; 16]>,
    /// Nodes that have to settle before it is over.
    unsettled: usize,
    lost: bool,
}

/// What a walk knows of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    /// How many of the nodes that it reads have not settled yet.
    pending: u32,
    state: State,
    /// Its fallback node's result stands for its own.
    replaced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Runs only if a node whose fallback it is fails.
    OnDemand,
    /// Runs when all that it reads has settled.
    Waiting,
    Running,
    /// Has failed; its fallback value is being put in place.
    StandingIn,
    /// Has failed; its fallback node decides.
    Relying,
    Done,
    Skipped,
    Lost,
}

/// The slots with which every walk through a graph begins.
pub(crate) fn initial_slots(dag: &DiGraph<GraphNode, ()>) -> Vec<Slot> {
    let slot = |ix: NodeIndex| Slot {
        pending: dag.neighbors_directed(ix, Direction::Incoming).count() as u32,
        state: if dag[ix].on_demand {
            State::OnDemand
        } else {
            State::Waiting
        },
        replaced: false,
    };
    dag.node_indices().map(slot).collect()
}

impl<'g> Walk<'g> {
    /// A request that has not set off yet.
    pub fn new(graph: &'g Graph) -> Self {
        let slots = SmallVec::from_slice(&graph.slots);
        let demanded = |slot: &&Slot| slot.state == State::Waiting;
        Self {
            graph,
            unsettled: slots.iter().filter(demanded).count(),
            slots,
            lost: false,
        }
    }

    /// Sets off: the nodes that read no other.
    pub fn start(&mut self) -> Ready {
        let mut ready = Ready::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.state == State::Waiting && slot.pending == 0 {
                slot.state = State::Running;
                ready.push(NodeIx(index as u32));
            }
        }
        ready
    }

    /// Takes note of how a node's run ended. A node that is not under way is left as it is.
    pub fn finish(&mut self, node: NodeIx, outcome: Outcome) -> Next {
        let state = self.slot(node).state;
        if self.lost || !matches!(state, State::Running | State::StandingIn) {
            return Next::Run(Ready::new());
        }
        match outcome {
            Outcome::Done => self.settle(node, State::Done),
            Outcome::Skipped => self.settle(node, State::Skipped),
            Outcome::Failed if state == State::StandingIn => self.lose(node),
            Outcome::Failed => match self.graph.node(node).fallback {
                None => self.lose(node),
                Some(BoundFallback::Value(_)) => {
                    self.slot(node).state = State::StandingIn;
                    Next::StandIn
                }
                Some(BoundFallback::Node(other)) => self.rely(node, other),
            },
        }
    }

    /// Whether every node that has to run has settled, or the request has failed.
    pub fn is_over(&self) -> bool {
        self.lost || self.unsettled == 0
    }

    /// Whether the node, or what stands in for it, has a result; one that was skipped has none.
    pub fn ran(&self, node: NodeIx) -> bool {
        self.slots[node.index()].state == State::Done
    }

    /// The node whose result stands for that of `node`: itself, unless its fallback node replaced it.
    pub fn result_of(&self, node: NodeIx) -> NodeIx {
        let mut result = node;
        while self.slots[result.index()].replaced {
            match self.graph.node(result).fallback {
                Some(BoundFallback::Node(other)) => result = other,
                _ => break,
            }
        }
        result
    }

    fn slot(&mut self, node: NodeIx) -> &mut Slot {
        &mut self.slots[node.index()]
    }

    /// `node` has failed and takes what `other` yields.
    fn rely(&mut self, node: NodeIx, other: NodeIx) -> Next {
        self.slot(node).state = State::Relying;
        let slot = self.slot(other);
        match slot.state {
            State::OnDemand => {
                slot.state = State::Waiting;
                self.unsettled += 1;
                let mut ready = Ready::new();
                self.run_if_ready(other, &mut ready);
                Next::Run(ready)
            }
            // Another node has asked for it before, and it is through.
            state @ (State::Done | State::Skipped) => {
                self.slot(node).replaced = true;
                self.settle(node, state)
            }
            _ => Next::Run(Ready::new()),
        }
    }

    /// `node` has come to its end; so has every node that relies on it.
    fn settle(&mut self, node: NodeIx, state: State) -> Next {
        let mut ready = Ready::new();
        let mut settled: SmallVec<[NodeIx; 4]> = SmallVec::from_slice(&[node]);
        while let Some(node) = settled.pop() {
            self.slot(node).state = state;
            self.unsettled -= 1;
            let graph = self.graph;
            for reader in graph.readers(node) {
                self.slot(reader).pending -= 1;
                self.run_if_ready(reader, &mut ready);
            }
            if graph.node(node).on_demand {
                for relying in self.relying_on(node) {
                    self.slot(relying).replaced = true;
                    settled.push(relying);
                }
            }
        }
        ready.sort_unstable();
        Next::Run(ready)
    }

    fn run_if_ready(&mut self, node: NodeIx, ready: &mut Ready) {
        let slot = self.slot(node);
        if slot.state == State::Waiting && slot.pending == 0 {
            slot.state = State::Running;
            ready.push(node);
        }
    }

    /// `node` has failed for good, and the request with it; a node that relied on it is named.
    fn lose(&mut self, mut node: NodeIx) -> Next {
        self.lost = true;
        self.slot(node).state = State::Lost;
        while let Some(relying) = self.relying_on(node).first() {
            node = *relying;
            self.slot(node).state = State::Lost;
        }
        Next::Failed(node)
    }

    fn relying_on(&self, node: NodeIx) -> SmallVec<[NodeIx; 4]> {
        let relies = |(ix, declared): &(NodeIx, &GraphNode)| {
            matches!(declared.fallback, Some(BoundFallback::Node(other)) if other == node)
                && self.slots[ix.index()].state == State::Relying
        };
        let nodes = self.graph.nodes().filter(relies);
        nodes.map(|(ix, _)| ix).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sketch::{self, Sketch, SketchFallback};
    use proptest::prelude::*;
    use std::collections::{BTreeSet, VecDeque};

    fn reads(nodes: &[usize]) -> Sketch {
        Sketch {
            reads: nodes.to_vec(),
            ..Sketch::default()
        }
    }

    fn falls_back(fallback: SketchFallback) -> Sketch {
        Sketch {
            fallback,
            ..Sketch::default()
        }
    }

    fn run(nodes: &[u32]) -> Next {
        Next::Run(nodes.iter().copied().map(NodeIx).collect())
    }

    #[test]
    fn a_join_waits_for_all_that_it_reads() {
        let graph = sketch::graph(&[reads(&[]), reads(&[0]), reads(&[0]), reads(&[1, 2])]);
        let mut walk = Walk::new(&graph);
        assert_eq!(walk.start().as_slice(), [NodeIx(0)]);
        assert_eq!(walk.finish(NodeIx(0), Outcome::Done), run(&[1, 2]));
        assert_eq!(walk.finish(NodeIx(2), Outcome::Skipped), run(&[]));
        assert!(!walk.is_over());
        assert_eq!(walk.finish(NodeIx(1), Outcome::Done), run(&[3]));
        assert_eq!(walk.finish(NodeIx(3), Outcome::Done), run(&[]));
        assert!(walk.is_over());
        assert!(walk.ran(NodeIx(1)) && !walk.ran(NodeIx(2)));
    }

    #[test]
    fn a_failure_without_fallback_fails_the_request() {
        let graph = sketch::graph(&[reads(&[]), reads(&[]), reads(&[0, 1])]);
        let mut walk = Walk::new(&graph);
        walk.start();
        assert_eq!(
            walk.finish(NodeIx(1), Outcome::Failed),
            Next::Failed(NodeIx(1))
        );
        assert!(walk.is_over());
        // What is still under way is of no use any more.
        assert_eq!(walk.finish(NodeIx(0), Outcome::Done), run(&[]));
    }

    #[test]
    fn a_fallback_value_is_put_in_place_by_the_executor() {
        let graph = sketch::graph(&[falls_back(SketchFallback::Value), reads(&[0])]);
        let mut walk = Walk::new(&graph);
        walk.start();
        assert_eq!(walk.finish(NodeIx(0), Outcome::Failed), Next::StandIn);
        let mut other = walk.clone();
        assert_eq!(walk.finish(NodeIx(0), Outcome::Done), run(&[1]));
        assert_eq!(
            other.finish(NodeIx(0), Outcome::Failed),
            Next::Failed(NodeIx(0))
        );
    }

    #[test]
    fn a_fallback_node_runs_when_it_is_needed_and_not_before() {
        // In file order: 0 relies on 1, 2 reads 0. In graph order the fallback comes first.
        let nodes = [falls_back(SketchFallback::Node(1)), reads(&[]), reads(&[0])];
        let graph = sketch::graph(&nodes);
        let (standby, main, reader) = (NodeIx(0), NodeIx(1), NodeIx(2));
        assert!(graph.node(standby).on_demand);

        let mut good = Walk::new(&graph);
        assert_eq!(good.start().as_slice(), [main]);
        assert_eq!(good.finish(main, Outcome::Done), run(&[reader.0]));
        good.finish(reader, Outcome::Done);
        assert!(good.is_over());
        assert_eq!(good.result_of(main), main);

        let mut bad = Walk::new(&graph);
        bad.start();
        assert_eq!(bad.finish(main, Outcome::Failed), run(&[standby.0]));
        assert!(!bad.is_over());
        let mut worse = bad.clone();
        assert_eq!(bad.finish(standby, Outcome::Done), run(&[reader.0]));
        assert_eq!(bad.result_of(main), standby);
        assert!(bad.ran(main));
        assert_eq!(worse.finish(standby, Outcome::Failed), Next::Failed(main));
    }

    #[test]
    fn two_nodes_share_a_fallback_that_runs_once() {
        let shared = || falls_back(SketchFallback::Node(2));
        let graph = sketch::graph(&[shared(), shared(), reads(&[]), reads(&[0, 1])]);
        let standby = NodeIx(0);
        let mut walk = Walk::new(&graph);
        assert_eq!(walk.start().as_slice(), [NodeIx(1), NodeIx(2)]);
        assert_eq!(walk.finish(NodeIx(1), Outcome::Failed), run(&[0]));
        assert_eq!(walk.finish(standby, Outcome::Done), run(&[]));
        assert_eq!(walk.finish(NodeIx(2), Outcome::Failed), run(&[3]));
        assert_eq!(walk.result_of(NodeIx(1)), standby);
        assert_eq!(walk.result_of(NodeIx(2)), standby);
    }

    /// Graphs of up to 12 nodes that read earlier ones. Fallbacks are later nodes that read nothing
    /// and that nobody reads.
    fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
        let node = (any::<u16>(), 0..4_u8);
        (proptest::collection::vec(node, 1..12), 0..3_usize).prop_map(|(nodes, standbys)| {
            let count = nodes.len();
            let sketch = |(index, (mask, fallback)): (usize, (u16, u8))| Sketch {
                reads: (0..index).filter(|read| mask & (1 << read) != 0).collect(),
                fallback: match fallback {
                    1 => SketchFallback::Value,
                    2 | 3 if standbys > 0 => {
                        SketchFallback::Node(count + usize::from(mask) % standbys)
                    }
                    _ => SketchFallback::None,
                },
            };
            let mut sketches: Vec<Sketch> = nodes.into_iter().enumerate().map(sketch).collect();
            sketches.extend(vec![Sketch::default(); standbys]);
            sketches
        })
    }

    proptest! {
        /// However nodes end, and in whatever order: each runs at most once, never before what it
        /// reads, and the walk comes to its end.
        #[test]
        fn every_walk_is_orderly(
            sketches in sketches(),
            outcomes in proptest::collection::vec(0..6_u8, 30),
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 30),
        ) {
            let graph = sketch::graph(&sketches);
            let mut walk = Walk::new(&graph);
            let mut under_way: VecDeque<NodeIx> = walk.start().into_iter().collect();
            let mut started: BTreeSet<NodeIx> = under_way.iter().copied().collect();
            let mut settled: BTreeSet<NodeIx> = BTreeSet::new();
            let mut failed = false;
            let (mut outcomes, mut picks) = (outcomes.into_iter().cycle(), picks.iter().cycle());
            while !under_way.is_empty() && !failed {
                let pick = picks.next().unwrap().index(under_way.len());
                let node = under_way.remove(pick).unwrap();
                let outcome = match outcomes.next().unwrap() {
                    0 => Outcome::Failed,
                    1 => Outcome::Skipped,
                    _ => Outcome::Done,
                };
                let mut next = walk.finish(node, outcome);
                if next == Next::StandIn {
                    next = walk.finish(node, Outcome::Done);
                }
                settled.extend(graph.nodes().map(|(ix, _)| ix).filter(|ix| {
                    matches!(walk.slots[ix.index()].state, State::Done | State::Skipped)
                }));
                match next {
                    Next::Failed(_) => failed = true,
                    Next::StandIn => prop_assert!(false, "a value stands in only once"),
                    Next::Run(ready) => for node in ready {
                        prop_assert!(started.insert(node), "{node:?} ran twice");
                        prop_assert!(graph.reads(node).all(|read| settled.contains(&read)));
                        under_way.push_back(node);
                    },
                }
            }
            prop_assert!(walk.is_over());
            if !failed {
                let demanded = graph.nodes().filter(|(_, node)| !node.on_demand);
                for (ix, _) in demanded {
                    prop_assert!(settled.contains(&ix), "{ix:?} was left behind");
                    prop_assert!(settled.contains(&walk.result_of(ix)));
                }
            }
        }
    }
}
