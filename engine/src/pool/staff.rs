//! The replicas of a pool: who works, who is being built, who is about to go.
//!
//! [`Staff::settle`] brings what is there towards what is wanted. Whether an item may run is not
//! decided here.

use super::{
    ledger::{Lease, Ledger, TooLarge},
    limits::Limits,
    recipe::Recipe,
    recovery::Recovery,
    ticket::ReplicaId,
};
use nodes::{Node, NodeError};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One replica.
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) node: Arc<dyn Node>,
    /// Items that it holds, streams that are read among them.
    pub(super) ongoing: usize,
    /// Batches that these items are in.
    pub(super) batches: usize,
    /// Set when it is given up with all that it runs.
    pub(super) lost: CancellationToken,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    /// Takes nothing more, and goes when it holds nothing.
    Leaving,
}

/// The replicas of a pool.
pub(super) struct Staff {
    recipe: Arc<Recipe>,
    replicas: Vec<Replica>,
    builds: JoinSet<Result<Arc<dyn Node>, NodeError>>,
    recovery: Recovery,
    /// One for each replica that is wanted.
    leases: Vec<Lease>,
    ledger: Ledger,
    next: ReplicaId,
    /// Why the last replica broke or could not be built.
    error: Option<NodeError>,
}

/// How many replicas are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) working: usize,
    pub(super) starting: usize,
    pub(super) leaving: usize,
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
            recovery: Recovery::default(),
            leases,
            ledger,
            next: 0,
            error: None,
        };
        nodes.into_iter().for_each(|node| staff.join(node));
        staff
    }

    /// Waits for the next replica that is built, or cannot be.
    pub(super) async fn built(&mut self) -> Result<Arc<dyn Node>, NodeError> {
        match self.builds.join_next().await {
            Some(Ok(built)) => built,
            Some(Err(error)) => Err(NodeError::because("building the node was given up", error)),
            None => std::future::pending().await,
        }
    }

    /// Takes note of what was built.
    pub(super) fn receive(&mut self, built: Result<Arc<dyn Node>, NodeError>) {
        self.recovery.built(built.is_ok());
        match built {
            Ok(node) => self.join(node),
            Err(error) => {
                tracing::error!(node = self.recipe.metrics.node, %error, "failed to build a replica");
                self.error = Some(error);
            }
        }
    }

    fn join(&mut self, node: Arc<dyn Node>) {
        self.replicas.push(Replica {
            id: self.next,
            node,
            ongoing: 0,
            batches: 0,
            lost: CancellationToken::new(),
            state: State::Working,
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
        tracing::error!(node = self.recipe.metrics.node, %error, "a replica broke and is replaced");
        self.recovery.broke();
        self.error = Some(error.clone());
    }

    /// A replica answered.
    pub(super) fn answered(&mut self) {
        self.recovery.answered();
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
            let working = working.filter(|replica| replica.state == State::Working);
            // The one that has least to finish.
            if let Some(idlest) = working.min_by_key(|replica| replica.ongoing) {
                idlest.state = State::Leaving;
            }
        }
        self.replicas
            .retain(|replica| replica.state == State::Working || replica.ongoing > 0);
        let Census {
            working, starting, ..
        } = self.census();
        for _ in working + starting..self.leases.len() {
            let recipe = Arc::clone(&self.recipe);
            self.builds.spawn(recipe.build(self.recovery.pause()));
        }
    }

    /// The replica with the fewest items, if it may take another.
    pub(super) fn free(&mut self, limits: &Limits) -> Option<&mut Replica> {
        let room = |replica: &Replica| limits.has_room(replica.batches, replica.ongoing);
        let working = self
            .replicas
            .iter_mut()
            .filter(|replica| replica.state == State::Working);
        working
            .filter(|replica| room(replica))
            .min_by_key(|replica| replica.ongoing)
    }

    /// A replica that has not gone yet.
    pub(super) fn get(&mut self, id: ReplicaId) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.id == id)
    }

    /// Any node, to ask what an item costs.
    pub(super) fn any(&self) -> Option<&dyn Node> {
        self.replicas.first().map(|replica| &*replica.node)
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
            .filter(|replica| replica.state == State::Working)
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
        })
    }
}
