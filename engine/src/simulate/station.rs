//! A node with its pool, as requests find it.

use super::{
    Assumed, NoRoom, Scenario,
    record::{Levelled, NodeRecord},
    service,
};
use crate::pool::{Ledger, Rehearsal};
use graphs::{GraphNode, NodeIx};
use std::time::Duration;

/// Identifies an item; never used twice.
pub(super) type ItemId = u64;

/// A node with its pool.
pub(super) struct Station {
    pub(super) pool: Rehearsal<ItemId>,
    pub(super) assumed: Assumed,
    pub(super) record: NodeRecord,
    levels: Levelled,
}

impl Station {
    /// The station of a node; none for one that needs no pool.
    pub(super) fn of(
        scenario: &Scenario<'_>,
        (ix, node): (NodeIx, &GraphNode),
        (ledger, step): (&Ledger, Duration),
    ) -> Result<Option<Self>, NoRoom> {
        if node.decl.work.is_inline() {
            return Ok(None);
        }
        let mut spec = node.decl.pool.clone();
        spec.replicas.policy = scenario.policy.unwrap_or(spec.replicas.policy);
        let name = node.decl.id.value.as_str();
        let pool = Rehearsal::new(&spec, service::running(&node.decl.work), ledger);
        let pool = pool.map_err(|reason| NoRoom {
            node: name.to_owned(),
            reason,
        })?;
        let assumed = scenario.assumed[ix.index()].clone();
        Ok(Some(Self {
            levels: Levelled::new(step, pool.levels()),
            record: NodeRecord {
                node: name.to_owned(),
                kind: node.decl.work.kind().name(),
                assumed: assumed.clone(),
                items: 0,
                refused: 0,
                late: 0,
                batches: 0,
                batched: 0,
                waits: Vec::new(),
                replica_time: Duration::ZERO,
                samples: Vec::new(),
            },
            assumed,
            pool,
        }))
    }

    /// Writes down what the pool has from now on.
    pub(super) fn mark(&mut self, now: Duration) {
        self.levels.see(now, self.pool.levels());
    }

    pub(super) fn into_record(mut self, end: Duration) -> NodeRecord {
        self.mark(end);
        let (samples, replica_time) = self.levels.into_parts();
        NodeRecord {
            samples,
            replica_time,
            ..self.record
        }
    }
}
