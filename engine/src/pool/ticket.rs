//! What passes between callers, the owner of a pool and the runs of its replicas.

use super::Counts;
use crate::resilience::Fingerprint;
use nodes::{Input, NodeError, Value};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// The way of an answer to its caller. It can be used once.
type Reply = oneshot::Sender<Result<Value, NodeError>>;

/// An item and the way back to its caller.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) input: Input,
    pub(super) entered: Instant,
    /// How much it is suspected of breaking replicas, in halves: two for one that ran nothing else,
    /// one for one that ran others beside it.
    pub(super) suspicion: u32,
    reply: Reply,
}

impl Ticket {
    /// A ticket and where its answer arrives.
    pub(super) fn new(
        input: Input,
        entered: Instant,
    ) -> (Self, oneshot::Receiver<Result<Value, NodeError>>) {
        let (reply, answer) = oneshot::channel();
        let ticket = Self {
            input,
            entered,
            suspicion: 0,
            reply,
        };
        (ticket, answer)
    }

    /// Gives the caller its answer.
    pub(super) fn answer(self, answer: Result<Value, NodeError>) {
        // Who has left does not need it.
        let _ = self.reply.send(answer);
    }

    pub(super) fn refuse(self, error: NodeError) {
        self.answer(Err(error));
    }

    /// Whether the caller has left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Waits until the caller has left.
    pub(super) async fn left(&mut self) {
        self.reply.closed().await;
    }
}

/// Which of a pool's replicas; never used twice.
pub(super) type ReplicaId = u64;

/// What a run tells the owner.
#[derive(Debug)]
pub(super) enum Report {
    /// The node has answered a batch, or a part of one that it failed as a whole. Streams may still
    /// be made.
    Answered { replica: ReplicaId, took: Duration },
    /// A replica is through with a batch: answered, or because all callers have left.
    Ended { replica: ReplicaId, abandoned: bool },
    /// The node broke and left these parts of its batch unanswered; the last is the one that it
    /// had begun.
    Broke {
        replica: ReplicaId,
        held: Vec<Vec<Ticket>>,
        error: NodeError,
    },
    /// This item makes batches fail.
    Guilty { item: Fingerprint, error: NodeError },
    /// A part of a replica is free again.
    Freed { replica: ReplicaId, items: usize },
}

/// The right to a part of a replica; dropping it gives the part back.
#[derive(Debug)]
pub(super) struct Permit {
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) counts: Arc<Counts>,
    pub(super) replica: ReplicaId,
    pub(super) items: usize,
}

impl Permit {
    pub(super) fn report(&self, report: impl FnOnce(ReplicaId) -> Report) {
        // After its owner's end there is nobody to tell.
        let _ = self.reports.send(report(self.replica));
    }

    pub(super) fn count_answered(&self, items: usize) {
        self.counts.answered.fetch_add(items as u64, Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let items = self.items;
        self.report(|replica| Report::Freed { replica, items });
    }
}
