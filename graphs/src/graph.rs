//! A file that has been checked.

use crate::{Content, Expression, walk::Slot};
use petgraph::graph::DiGraph;
use schema::{Diagnostic, IndexDecl, InputField, ModelDecl, Name, NodeDecl, Server, Type};
use std::{sync::Arc, time::Duration};

/// Everything that a file and its includes declare, checked. Made by [`check`](fn@crate::check) only.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) server: Server,
    pub(crate) models: Vec<ModelDecl>,
    pub(crate) indexes: Vec<IndexDecl>,
    pub(crate) graphs: Vec<Arc<Graph>>,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) content: Content,
}

impl Program {
    /// The same declarations over what lies on the disk by now.
    #[must_use]
    pub fn with_content(&self, content: Content) -> Self {
        Self {
            content,
            ..self.clone()
        }
    }

    /// What lay under the names of the file when it was read.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// How the engine listens.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Models, as declared.
    pub fn models(&self) -> &[ModelDecl] {
        &self.models
    }

    /// Indexes, as declared.
    pub fn indexes(&self) -> &[IndexDecl] {
        &self.indexes
    }

    /// Graphs, as declared.
    pub fn graphs(&self) -> &[Arc<Graph>] {
        &self.graphs
    }

    /// What is probably not meant as it stands.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}

/// Identifies a node of a graph: its place in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIx(pub u32);

impl NodeIx {
    /// As an index into a slice with one element a node.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A graph whose names are resolved and whose edges fit.
#[derive(Debug, Clone)]
pub struct Graph {
    pub(crate) id: Name,
    pub(crate) route: String,
    pub(crate) timeout: Duration,
    pub(crate) input: Vec<InputField>,
    /// Nodes and, as edges, what reads what. A node's petgraph index is its `NodeIx`, and nodes
    /// stand in a topological order: a node comes after everything that it reads.
    pub(crate) dag: DiGraph<GraphNode, ()>,
    pub(crate) output: Vec<BoundOutput>,
    /// How every [`Walk`](crate::Walk) through it begins.
    pub(crate) slots: Vec<Slot>,
}

/// A node with its references resolved.
#[derive(Debug, Clone)]
pub struct GraphNode {
    /// As declared.
    pub decl: NodeDecl,
    /// The values it takes, in the order of `Work::ports`.
    pub ports: Vec<Bound>,
    /// For `merge`: where it takes its result from, in order of preference.
    pub from: Vec<NodeIx>,
    /// It runs only if this is true.
    pub when: Option<Expression>,
    /// It runs for each element of this.
    pub each: Option<BoundEach>,
    /// What stands in for its result when it fails.
    pub fallback: Option<BoundFallback>,
    /// Whether it runs only as another node's fallback.
    pub on_demand: bool,
    /// The type of its result, as others see it: a list under `each`, `Option` if it may be skipped.
    pub output: Type,
}

/// A port and what is given to it.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The port's name.
    pub port: Arc<str>,
    /// What the node accepts.
    pub accepts: Type,
    /// What it is given.
    pub expression: Expression,
    /// Whether the node is skipped when this is none; a port that is not required takes a none.
    pub required: bool,
}

/// A fan-out.
#[derive(Debug, Clone)]
pub struct BoundEach {
    /// The list.
    pub list: Expression,
    /// How many elements are under way at once.
    pub width: usize,
}

/// What stands in for a failed node's result.
#[derive(Debug, Clone)]
pub enum BoundFallback {
    /// This value.
    Value(Expression),
    /// This node's result.
    Node(NodeIx),
}

/// A field of the answer.
#[derive(Debug, Clone)]
pub struct BoundOutput {
    /// Its name in the answer.
    pub name: Arc<str>,
    /// Its value.
    pub expression: Expression,
    /// Its type.
    pub value_type: Type,
}

impl Graph {
    /// Its name.
    pub fn id(&self) -> &Name {
        &self.id
    }

    /// Where it is served.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// How long a request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The fields of a request.
    pub fn input(&self) -> &[InputField] {
        &self.input
    }

    /// The fields of the answer.
    pub fn output(&self) -> &[BoundOutput] {
        &self.output
    }

    /// The nodes in a topological order; `NodeIx(i)` is the i-th.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeIx, &GraphNode)> {
        self.dag
            .raw_nodes()
            .iter()
            .enumerate()
            .map(|(index, node)| (NodeIx(index as u32), &node.weight))
    }

    /// The node with this index.
    pub fn node(&self, ix: NodeIx) -> &GraphNode {
        &self.dag.raw_nodes()[ix.index()].weight
    }

    /// What the node reads.
    pub fn reads(&self, ix: NodeIx) -> impl Iterator<Item = NodeIx> {
        self.neighbours(ix, petgraph::Direction::Incoming)
    }

    /// What reads the node.
    pub fn readers(&self, ix: NodeIx) -> impl Iterator<Item = NodeIx> {
        self.neighbours(ix, petgraph::Direction::Outgoing)
    }

    fn neighbours(
        &self,
        ix: NodeIx,
        direction: petgraph::Direction,
    ) -> impl Iterator<Item = NodeIx> {
        self.dag
            .neighbors_directed(petgraph::graph::NodeIndex::new(ix.index()), direction)
            .map(|node| NodeIx(node.index() as u32))
    }
}
