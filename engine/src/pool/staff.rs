//! The replicas of a pool: who works, who is being built, who is about to go.
//!
//! [`Staff::settle`] brings what is there towards what is wanted. Whether an item may run is not
//! decided here.

use super::{
    forecast::Capacity,
    ledger::{Lease, Ledger, TooLarge},
    limits::Limits,
    pulse::Pulse,
    recipe::Recipe,
    recovery::Recovery,
    ticket::ReplicaId,
    wear::Wear,
};
use nodes::{Node, NodeError, placement::Spot};
use smallvec::SmallVec;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod health;

/// One replica.
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) node: Arc<dyn Node>,
    /// Items that it holds, streams that are read among them.
    pub(super) ongoing: usize,
    /// Batches that it has not answered.
    runs: usize,
    /// When it began the last of them.
    pub(super) began: Duration,
    /// Set when it is given up with all that it runs.
    pub(super) lost: CancellationToken,
    pulse: Pulse,
    wear: Wear,
    /// Whether the item that breaks it is the only one that it runs.
    runs_one: bool,
    /// Runs what broke another before, and takes nothing beside it.
    pub(super) alone: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    /// As working, until a fresh one is ready to take its place.
    Worn,
    /// Takes nothing more, and goes when it holds nothing.
    Leaving,
}

/// The replicas of a pool.
pub(super) struct Staff {
    recipe: Arc<Recipe>,
    replicas: Vec<Replica>,
    builds: JoinSet<Result<Arc<dyn Node>, NodeError>>,
    /// Replicas that are asked how they are.
    checks: JoinSet<(ReplicaId, Result<(), NodeError>)>,
    /// One for each replica whose node may end by itself.
    lives: JoinSet<(ReplicaId, NodeError)>,
    recovery: Recovery,
    /// One for each replica that is wanted.
    leases: Vec<Lease>,
    ledger: Ledger,
    next: ReplicaId,
    /// Why the last replica broke or could not be built.
    error: Option<NodeError>,
}

/// What is heard of replicas.
pub(super) enum News {
    /// One is built, or could not be.
    Built(Result<Arc<dyn Node>, NodeError>),
    /// One has said how it is.
    Checked(ReplicaId, Result<(), NodeError>),
    /// The node of one is lost.
    Lost(ReplicaId, NodeError),
}

/// How many replicas are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) working: usize,
    pub(super) starting: usize,
    pub(super) leaving: usize,
}

impl Replica {
    /// Whether it takes items.
    fn works(&self) -> bool {
        matches!(self.state, State::Working | State::Worn)
    }

    /// Which is given items first.
    fn rank(&self) -> (bool, usize) {
        (self.pulse.is_doubtful(), self.ongoing)
    }

    /// It is given items.
    pub(super) fn take(&mut self, items: usize, now: Duration) {
        self.ongoing += items;
        self.runs += 1;
        self.began = now;
        self.wear.items += items as u64;
        self.pulse.begin(now);
    }
}

impl Staff {
    /// Replicas that are ready, as many as are wanted.
    pub(super) fn new(
        recipe: Arc<Recipe>,
        nodes: Vec<Arc<dyn Node>>,
        leases: Vec<Lease>,
        ledger: Ledger,
    ) -> Self {
        let mut staff = Self {
            recipe,
            replicas: Vec::new(),
            builds: JoinSet::new(),
            checks: JoinSet::new(),
            lives: JoinSet::new(),
            recovery: Recovery::default(),
            leases,
            ledger,
            next: 0,
            error: None,
        };
        nodes
            .into_iter()
            .for_each(|node| staff.join(node, Duration::ZERO));
        staff
    }

    /// Waits for the next replica that is built, or cannot be, that says how it is, or that is lost.
    pub(super) async fn next(&mut self) -> News {
        tokio::select! {
            biased;
            Some(built) = self.builds.join_next() => News::Built(built.unwrap_or_else(|error| {
                Err(NodeError::because("building the node was given up", error))
            })),
            Some(Ok((replica, error))) = self.lives.join_next() => News::Lost(replica, error),
            // A question that panicked has no answer, which will be seen.
            Some(Ok((replica, said))) = self.checks.join_next() => News::Checked(replica, said),
            else => std::future::pending().await,
        }
    }

    /// Takes note of what was built.
    pub(super) fn receive(&mut self, built: Result<Arc<dyn Node>, NodeError>, now: Duration) {
        self.recovery.built(built.is_ok());
        match built {
            Ok(node) => self.join(node, now),
            Err(error) => {
                tracing::error!(node = self.recipe.metrics.node, %error, "failed to build a replica");
                self.error = Some(error);
            }
        }
    }

    fn join(&mut self, node: Arc<dyn Node>, now: Duration) {
        if let Some(ended) = node.ended() {
            let id = self.next;
            self.lives.spawn(async move { (id, ended.await) });
        }
        self.replicas.push(Replica {
            id: self.next,
            ongoing: 0,
            runs: 0,
            began: now,
            lost: CancellationToken::new(),
            pulse: Pulse::new(now),
            wear: Wear {
                born: now,
                items: 0,
                memory: node.memory(),
            },
            runs_one: true,
            alone: false,
            state: State::Working,
            node,
        });
        self.next += 1;
    }

    /// A replica broke: it takes nothing more, and another is built in its place.
    pub(super) fn broke(&mut self, replica: ReplicaId, error: &NodeError) {
        let found = self.get(replica);
        let Some(replica) = found.filter(|replica| replica.state != State::Leaving) else {
            return;
        };
        replica.state = State::Leaving;
        if matches!(error, NodeError::Lost { .. }) {
            // All that it holds was in it.
            replica.runs_one = replica.ongoing <= 1;
        }
        tracing::error!(node = self.recipe.metrics.node, %error, "a replica broke and is replaced");
        self.recovery.broke();
        self.error = Some(error.clone());
    }

    /// Gives up every replica with all that it runs.
    pub(super) fn let_go(&mut self) {
        for replica in self.replicas.drain(..) {
            replica.lost.cancel();
        }
        self.builds.abort_all();
    }

    /// How many replicas there should be.
    pub(super) fn wanted(&self) -> usize {
        self.leases.len()
    }

    /// Asks for this many replicas; as many as the machine has room for are wanted then.
    pub(super) fn want(&mut self, replicas: usize) -> Result<(), TooLarge> {
        self.leases.truncate(replicas);
        while self.leases.len() < replicas {
            self.leases.push(self.ledger.take(&self.recipe.resources)?);
        }
        Ok(())
    }

    /// Starts the builds that are missing and lets those go that are done or too many.
    pub(super) fn settle(&mut self) {
        while self.census().working > self.wanted() {
            let working = self.replicas.iter_mut();
            let working = working.filter(|replica| replica.works());
            // One whose time has come, or the one that has least to finish.
            let first = |replica: &&mut Replica| (replica.state != State::Worn, replica.ongoing);
            if let Some(leaving) = working.min_by_key(first) {
                leaving.state = State::Leaving;
            }
        }
        self.replicas.retain(|replica| {
            let stays = replica.works() || replica.ongoing > 0;
            if !stays {
                // Whoever asks it how it is need not wait for the answer.
                replica.lost.cancel();
            }
            stays
        });
        let Census {
            working, starting, ..
        } = self.census();
        // A fresh one is there before a worn one goes; one after the other.
        let worn = |replica: &Replica| replica.state == State::Worn;
        let spare = usize::from(self.replicas.iter().any(worn));
        for _ in working + starting..self.leases.len() + spare {
            let recipe = Arc::clone(&self.recipe);
            self.builds.spawn(recipe.build(self.recovery.pause()));
        }
    }

    /// The replicas that may take another item, the one with the fewest first; those that may be stuck
    /// come last.
    pub(super) fn all_free(&self, limits: &Limits) -> SmallVec<[ReplicaId; 4]> {
        let mut free: SmallVec<[&Replica; 4]> = self.may_take(limits).collect();
        free.sort_by_key(|replica| replica.rank());
        free.iter().map(|replica| replica.id).collect()
    }

    /// The first of [all that are free](Self::all_free).
    pub(super) fn free(&self, limits: &Limits) -> Option<&Replica> {
        self.may_take(limits).min_by_key(|replica| replica.rank())
    }

    fn may_take<'a, 'l>(
        &'a self,
        limits: &'l Limits,
    ) -> impl Iterator<Item = &'a Replica> + use<'a, 'l> {
        let working = self.replicas.iter().filter(|replica| replica.works());
        working.filter(|replica| {
            let joins = limits.one_at_a_time || !replica.alone;
            joins && limits.has_room(replica.runs, replica.ongoing)
        })
    }

    /// The replicas that take items, as places for what they keep in memory.
    pub(super) fn spots(&self) -> Vec<Spot> {
        let working = self.replicas.iter().filter(|replica| replica.works());
        let spots = working.map(|replica| Spot {
            identity: replica.id,
            load: replica.ongoing,
        });
        spots.collect()
    }

    /// Whether a replica takes items.
    pub(super) fn has(&self, id: ReplicaId) -> bool {
        self.find(id).is_some_and(Replica::works)
    }

    /// A replica that holds nothing; one that may be stuck comes last.
    pub(super) fn idle(&mut self) -> Option<&mut Replica> {
        let working = self.replicas.iter_mut().filter(|replica| replica.works());
        let idle = working.filter(|replica| replica.ongoing == 0);
        idle.min_by_key(|replica| replica.pulse.is_doubtful())
    }

    /// A replica that has not gone yet.
    pub(super) fn find(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.id == id)
    }

    /// A replica that has not gone yet.
    pub(super) fn get(&mut self, id: ReplicaId) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.id == id)
    }

    /// Any node, to ask what an item costs.
    pub(super) fn any(&self) -> Option<&dyn Node> {
        self.replicas.first().map(|replica| &*replica.node)
    }

    /// How many items begin together when every replica begins anew, and when one is free.
    pub(super) fn capacity(&self, limits: &Limits, service: Duration, now: Duration) -> Capacity {
        let items = self.census().working * limits.ongoing;
        let soonest = match self.free(limits) {
            // Items of such a node end at any time.
            None if limits.one_at_a_time => {
                let working = self.replicas.iter().filter(|replica| replica.works());
                let left = working.map(|replica| (replica.began + service).saturating_sub(now));
                left.min().unwrap_or_default()
            }
            _ => Duration::ZERO,
        };
        Capacity { items, soonest }
    }

    /// Items that replicas hold.
    pub(super) fn ongoing(&self) -> usize {
        self.replicas.iter().map(|replica| replica.ongoing).sum()
    }

    /// How many replicas are in which state.
    pub(super) fn census(&self) -> Census {
        let working = self
            .replicas
            .iter()
            .filter(|replica| replica.works())
            .count();
        Census {
            working,
            starting: self.builds.len(),
            leaving: self.replicas.len() - working,
        }
    }

    /// Why items are refused: no replica works, and building others has failed too often.
    pub(super) fn unhealthy(&self) -> Option<NodeError> {
        let missing = self.wanted() > 0 && self.census().working == 0;
        let hopeless = missing && self.recovery.is_hopeless();
        let reason = self.error.as_ref().filter(|_| hopeless)?;
        Some(NodeError::Unavailable {
            reason: format!("the node is unhealthy: {reason}"),
            // The next build begins after that.
            retry_after: Some(self.recovery.pause()),
        })
    }
}
