//! Adapters that are loaded while earlier nodes run.
//!
//! Which adapter a node needs is often known before its turn: at the door, if a header or a field of
//! the request says it. It is loaded from then on and kept for the request. Where each element of a
//! list chooses, those of all elements are loaded once the list is there. Nothing fails here: what
//! cannot be evaluated or loaded is an error when the node's turn comes.

use super::{
    call::Elements,
    prepared::Node,
    scope::{Scope, View},
};
use crate::adapters::Shelves;
use graphs::{Expression, GraphNode, NodeIx, Root};
use nodes::{Value, residency::Ahead};
use smallvec::SmallVec;
use std::sync::Arc;

/// How many adapters are asked for ahead of one node at most. A list may be long, and what is loaded
/// ahead of a late element is gone by its turn.
const MOST: usize = 64;

/// Adapters on their way to a node.
pub(super) type Leases = SmallVec<[Ahead; 1]>;

/// A node whose adapter can be known before its turn.
#[derive(Debug)]
pub(super) struct Lookahead {
    /// The node.
    pub(super) node: NodeIx,
    /// Which of its ports is the adapter.
    port: usize,
    /// Whether each element of the node's list chooses.
    by_item: bool,
    model: Box<str>,
    /// The nodes that say which adapter it is and whether it is needed, and what the elements are.
    after: SmallVec<[NodeIx; 2]>,
    shelves: Arc<Shelves>,
}

impl Lookahead {
    /// What can be looked ahead to at a node. Nothing at one that may never run, because it stands
    /// in for another.
    pub(super) fn of(ix: NodeIx, node: &GraphNode, shelves: &Arc<Shelves>) -> Option<Self> {
        let (model, _) = node.decl.work.adapter()?;
        let port = (node.ports.iter()).position(|port| &*port.port == "adapter")?;
        let adapter = &node.ports[port].expression;
        if node.on_demand {
            return None;
        }
        let by_item = reads_item(adapter);
        let list = node.each.iter().filter(|_| by_item);
        let after = adapter
            .nodes()
            .chain(node.when.iter().flat_map(Expression::nodes))
            .chain(list.flat_map(|each| each.list.nodes()));
        Some(Self {
            node: ix,
            port,
            by_item,
            model: model.as_str().into(),
            after: after.collect(),
            shelves: Arc::clone(shelves),
        })
    }

    /// What must have settled before the adapter is known.
    pub(super) fn after(&self) -> impl Iterator<Item = NodeIx> {
        self.after.iter().copied()
    }

    /// Begins to load the adapters; `node` is the node of this.
    pub(super) fn begin(&self, node: &Node, scope: &Scope) -> Leases {
        let mut leases = Leases::new();
        if !node.is_wanted(scope).unwrap_or(false) {
            return leases;
        }
        let Some(store) = self.shelves.get(&self.model) else {
            return leases;
        };
        if !self.by_item {
            let name = self.name(node, scope, None);
            leases.extend(name.map(|name| store.ahead(&name)));
            return leases;
        }
        let mut names: SmallVec<[Arc<str>; 4]> = SmallVec::new();
        for item in elements(node, scope) {
            if let Some(name) = self.name(node, scope, Some(&item))
                && !names.contains(&name)
            {
                leases.push(store.ahead(&name));
                names.push(name);
            }
            if names.len() == MOST {
                break;
            }
        }
        leases
    }

    /// The adapter of the node, or of one of its elements.
    fn name(&self, node: &Node, scope: &Scope, item: Option<&Value>) -> Option<Arc<str>> {
        let view = View { scope, item };
        match node.ports[self.port].value.evaluate(view).ok()? {
            Value::Text(name) => Some(name),
            _ => None,
        }
    }
}

/// The elements that a node goes through; none if that cannot be said.
fn elements(node: &Node, scope: &Scope) -> impl Iterator<Item = Value> {
    let view = View { scope, item: None };
    let list = node.each.as_ref().map(|each| each.list.evaluate(view));
    let list = list.and_then(Result::ok).map(Elements::of);
    let list = list.and_then(Result::ok).flatten();
    list.into_iter()
        .flat_map(|list| (0..list.len()).map(move |index| list.get(index)))
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
