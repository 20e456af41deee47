//! Which nodes a request takes a place at before it begins.
//!
//! A node that is behind others would otherwise gather what they have made. A place is taken at
//! every such node that the request surely comes to, in the order of the graph, so that the one with
//! the least room decides. Nodes without one before them need no place: what waits for them is the
//! request itself.

use super::{Prepared, RequestError};
use crate::pool::Place;
use graphs::{Graph, GraphNode, NodeIx};
use schema::Type;
use smallvec::SmallVec;
use std::sync::Arc;
use tokio::time::Instant;

/// The places of a request at nodes that it has not left behind.
pub(super) struct Places(SmallVec<[(NodeIx, Place); 4]>);

/// The nodes at which places are taken, in topological order.
pub(super) fn gated(graph: &Graph) -> Vec<NodeIx> {
    let mut fed = vec![false; graph.nodes().len()];
    let mut gated = Vec::new();
    for (ix, node) in graph.nodes() {
        // Whether replicas have worked on what it reads.
        let works =
            |before: NodeIx| fed[before.index()] || !graph.node(before).decl.work.is_inline();
        let is_fed = graph.reads(ix).any(works);
        fed[ix.index()] = is_fed;
        if is_fed && needs_replicas_surely(node) {
            gated.push(ix);
        }
    }
    gated
}

/// Whether each request asks this node's replicas for one item, and fails if they refuse it.
fn needs_replicas_surely(node: &GraphNode) -> bool {
    !node.decl.work.is_inline()
        && !node.on_demand
        && !matches!(node.output, Type::Option(_))
        && node.each.is_none()
        && node.fallback.is_none()
        // What is remembered needs no replica.
        && node.decl.pool.cache.is_none()
}

impl Prepared {
    /// Takes the places of a request, which may have to wait for them.
    pub(super) async fn admit(&self, deadline: Option<Instant>) -> Result<Places, RequestError> {
        let mut places = SmallVec::new();
        for &ix in &self.gated {
            let Some(pool) = self.pool(ix) else { continue };
            let place = pool.enter(deadline).await.map_err(|error| RequestError {
                graph: Arc::clone(&self.id),
                node: Some(Arc::clone(self.node_id(ix))),
                error,
            })?;
            places.push((ix, place));
        }
        Ok(Places(places))
    }
}

impl Places {
    /// The request has come to a node.
    pub(super) fn arrive(&self, ix: NodeIx) {
        let place = self.0.iter().find(|(at, _)| *at == ix);
        if let Some((_, place)) = place {
            place.arrive();
        }
    }

    /// The request is through with a node.
    pub(super) fn leave(&mut self, ix: NodeIx) {
        self.0.retain(|(at, _)| *at != ix);
    }
}
