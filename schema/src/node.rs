//! A node of a graph: what it does, when, and in which pool.

use crate::{Argument, Name, PoolSpec, Span, Spanned, Work};

/// A node as declared.
///
/// The split matters at a reload: a changed `work` needs new replicas, a changed `pool` is adjusted
/// in place, and the rest changes only how requests walk.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeDecl {
    /// Its name, by which other nodes refer to its result.
    pub id: Spanned<Name>,
    /// What it does.
    pub work: Work,
    /// Its replicas, queue, batching and scaling.
    pub pool: PoolSpec,
    /// It runs only if this is true, and yields none otherwise.
    pub when: Option<Argument>,
    /// It runs once for every element of a list.
    pub each: Option<Each>,
    /// What it yields when it fails.
    pub fallback: Option<Fallback>,
    /// The whole block.
    pub span: Span,
}

/// Fan-out over a list: the node runs for each element, named `item` in its templates, and yields
/// the list of results in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Each {
    /// The list.
    pub list: Argument,
    /// How many elements are under way at once. Default 16.
    pub width: Spanned<u32>,
}

/// What stands in for the result of a node that failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Fallback {
    /// This value.
    Value(Argument),
    /// The result of this node, which runs only then.
    Node(Spanned<Name>),
}
