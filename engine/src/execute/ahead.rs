//! Adapters that are loaded while earlier nodes run.
//!
//! Which adapter a node needs is often known before its turn: at the door, if a header or a field of
//! the request says it. It is loaded from then on and kept for the request. Nothing fails here: what
//! cannot be evaluated or loaded is an error when the node's turn comes.

use super::{
    prepared::Node,
    scope::{Scope, View},
};
use crate::adapters::Shelves;
use graphs::{Expression, GraphNode, NodeIx, Root};
use nodes::{Value, residency::Ahead};
use smallvec::SmallVec;
use std::sync::Arc;

/// A node whose adapter can be known before its turn.
#[derive(Debug)]
pub(super) struct Lookahead {
    /// The node.
    pub(super) node: NodeIx,
    /// Which of its ports is the adapter.
    port: usize,
    model: Box<str>,
    /// The nodes that say which adapter it is and whether it is needed.
    after: SmallVec<[NodeIx; 2]>,
    shelves: Arc<Shelves>,
}

impl Lookahead {
    /// What can be looked ahead to at a node. Nothing at one that may never run, because it stands
    /// in for another, or where each element of a list chooses.
    pub(super) fn of(ix: NodeIx, node: &GraphNode, shelves: &Arc<Shelves>) -> Option<Self> {
        let (model, _) = node.decl.work.adapter()?;
        let port = (node.ports.iter()).position(|port| &*port.port == "adapter")?;
        let adapter = &node.ports[port].expression;
        if node.on_demand || reads_item(adapter) {
            return None;
        }
        let after = adapter
            .nodes()
            .chain(node.when.iter().flat_map(Expression::nodes));
        Some(Self {
            node: ix,
            port,
            model: model.as_str().into(),
            after: after.collect(),
            shelves: Arc::clone(shelves),
        })
    }

    /// What must have settled before the adapter is known.
    pub(super) fn after(&self) -> impl Iterator<Item = NodeIx> {
        self.after.iter().copied()
    }

    /// Begins to load the adapter; `node` is the node of this.
    pub(super) fn begin(&self, node: &Node, scope: &Scope) -> Option<Ahead> {
        let is_wanted = node.is_wanted(scope).unwrap_or(false);
        let adapter = &node.ports[self.port].value;
        let adapter = is_wanted.then(|| adapter.evaluate(View { scope, item: None }).ok())??;
        match &adapter {
            Value::Text(name) => Some(self.shelves.get(&self.model)?.ahead(name)),
            _ => None,
        }
    }
}

fn reads_item(expression: &Expression) -> bool {
    match expression {
        Expression::Constant(_) => false,
        Expression::Path(path) => path.root == Root::Item,
        Expression::Template(template) => {
            let mut reads = template.reads.iter();
            reads.any(|(_, root)| *root == Root::Item)
        }
    }
}
