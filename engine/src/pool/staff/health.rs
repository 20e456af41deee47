//! How the replicas are: who is stuck is given up, who is worn is replaced.

use super::{Replica, Staff, State};
use crate::pool::{pulse::Verdict, ticket::ReplicaId};
use nodes::NodeError;
use schema::Recycle;
use std::time::Duration;

impl Staff {
    /// A replica has said how it is.
    pub(in crate::pool) fn hear(
        &mut self,
        id: ReplicaId,
        said: Result<(), NodeError>,
        now: Duration,
    ) {
        let Some(replica) = self.get(id) else { return };
        match said {
            Ok(()) => replica.pulse.hear(now),
            Err(error) => self.give_up(id, &error),
        }
    }

    /// A replica answered a batch.
    pub(in crate::pool) fn answered(&mut self, id: ReplicaId, now: Duration) {
        self.recovery.answered();
        if let Some(replica) = self.get(id) {
            replica.pulse.hear(now);
        }
    }

    /// A replica is through with a batch: answered, or because all callers have left.
    pub(in crate::pool) fn ended(&mut self, id: ReplicaId, abandoned: bool) {
        let Some(replica) = self.get(id) else { return };
        if abandoned {
            replica.pulse.abandon();
        }
        replica.runs -= 1;
        if replica.runs == 0 {
            replica.pulse.rest();
        }
    }

    /// A replica holds no items any more.
    pub(in crate::pool) fn freed(&mut self, id: ReplicaId, items: usize) {
        if let Some(replica) = self.get(id) {
            replica.ongoing -= items;
            replica.alone &= replica.ongoing > 0;
        }
    }

    /// Whether a replica may be stuck, so that it should be looked at.
    pub(in crate::pool) fn is_doubtful(&self) -> bool {
        let mut working = self.replicas.iter().filter(|replica| replica.works());
        working.any(|replica| replica.pulse.is_doubtful())
    }

    /// Gives up who is stuck, and asks those who may be how they are.
    pub(in crate::pool) fn look(&mut self, now: Duration, period: Option<Duration>) {
        let mut lost = Vec::new();
        let Self {
            replicas, checks, ..
        } = self;
        for replica in replicas.iter_mut().filter(|replica| replica.works()) {
            match replica.pulse.verdict(now, period) {
                Verdict::Well => {}
                Verdict::Lost(silent) => lost.push((replica.id, silent)),
                Verdict::Ask => {
                    replica.pulse.ask(now);
                    let (id, node) = (replica.id, replica.node.clone());
                    let given_up = replica.lost.clone();
                    checks.spawn(async move {
                        tokio::select! {
                            said = node.check() => (id, said),
                            () = given_up.cancelled() => (id, Ok(())),
                        }
                    });
                }
            }
        }
        for (id, silent) in lost {
            let reason = format!("nothing was heard of the replica for {silent:.1?}");
            self.give_up(id, &NodeError::failed(reason));
        }
    }

    /// Takes from a replica what it runs, and has another built in its place.
    fn give_up(&mut self, id: ReplicaId, error: &NodeError) {
        if let Some(replica) = self.get(id) {
            replica.runs_one = replica.ongoing <= 1;
            replica.lost.cancel();
        }
        self.broke(id, error);
    }

    /// Whether what broke a replica was the only item that it ran, if it was a single one.
    pub(in crate::pool) fn ran_one(&mut self, id: ReplicaId) -> bool {
        self.get(id).is_none_or(|replica| replica.runs_one)
    }

    /// Has a replica replaced that has done or lived enough, one after the other.
    pub(in crate::pool) fn wear(&mut self, bounds: &Recycle, now: Duration) {
        if self
            .replicas
            .iter()
            .any(|replica| replica.state == State::Worn)
        {
            return;
        }
        let is_out = |replica: &&mut Replica| {
            let measured = bounds.memory_growth.is_some();
            let memory = measured.then(|| replica.node.memory()).flatten();
            replica.state == State::Working && replica.wear.is_out(bounds, now, memory)
        };
        if let Some(replica) = self.replicas.iter_mut().find(is_out) {
            replica.state = State::Worn;
            let items = replica.wear.items;
            let age = now.saturating_sub(replica.wear.born);
            let node = &self.recipe.metrics.node;
            tracing::info!(node, items, ?age, "a replica is replaced by a fresh one");
        }
    }
}
