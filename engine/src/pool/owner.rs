//! The task that owns a pool: it waits for an event, then applies it.

use super::{
    Counts,
    limits::Limits,
    queue::{Next, Queue},
    rate::Rate,
    replica,
};
use crate::metrics::NodeMetrics;
use nodes::{Input, Node, NodeError, Value};
use std::{
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// An item and the way back to its caller.
#[derive(Debug)]
pub(super) struct Ticket {
    input: Input,
    reply: oneshot::Sender<Result<Value, NodeError>>,
    entered: Instant,
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
            reply,
            entered,
        };
        (ticket, answer)
    }

    pub(super) fn into_parts(self) -> (Input, oneshot::Sender<Result<Value, NodeError>>) {
        (self.input, self.reply)
    }

    fn refuse(self, error: NodeError) {
        // Who has left does not need it.
        let _ = self.reply.send(Err(error));
    }
}

/// The right to a part of a replica; dropping it gives the part back.
#[derive(Debug)]
pub(super) struct Permit {
    freed: mpsc::UnboundedSender<Freed>,
    part: Freed,
}

#[derive(Debug, Clone, Copy)]
struct Freed {
    replica: usize,
    items: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        // After its owner's end there is nothing to give back to.
        let _ = self.freed.send(self.part);
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one event at a time, on the owner's stack"
)]
enum Event {
    Arrived(Ticket),
    Freed(Freed),
    /// A batch has waited for more long enough.
    Waited,
    /// No handle is left.
    Unused,
    /// The time to finish is over.
    Over,
}

struct Replica {
    node: Arc<dyn Node>,
    ongoing: usize,
}

/// The owner of a pool.
pub(super) struct Owner {
    limits: Limits,
    replicas: Vec<Replica>,
    queue: Queue<Ticket>,
    rate: Rate,
    start: Instant,
    arrivals: mpsc::UnboundedReceiver<Ticket>,
    freed: mpsc::UnboundedReceiver<Freed>,
    free: mpsc::UnboundedSender<Freed>,
    running: JoinSet<()>,
    /// When the batch that is being gathered goes off at the latest.
    wake: Option<Instant>,
    /// Set when no handle is left: when to stop whatever still runs.
    end: Option<Instant>,
    counts: Arc<Counts>,
    metrics: Arc<NodeMetrics>,
}

impl Owner {
    pub(super) fn new(
        replicas: Vec<Arc<dyn Node>>,
        limits: Limits,
        arrivals: mpsc::UnboundedReceiver<Ticket>,
        counts: Arc<Counts>,
        metrics: Arc<NodeMetrics>,
    ) -> Self {
        let (free, freed) = mpsc::unbounded_channel();
        counts.replicas.store(replicas.len(), Relaxed);
        metrics.replicas.inc_by(replicas.len() as i64);
        let idle = |node| Replica { node, ongoing: 0 };
        Self {
            limits,
            replicas: replicas.into_iter().map(idle).collect(),
            queue: Queue::new(),
            rate: Rate::default(),
            start: Instant::now(),
            arrivals,
            freed,
            free,
            running: JoinSet::new(),
            wake: None,
            end: None,
            counts,
            metrics,
        }
    }

    /// Works until no handle is left and everything is answered, or the time to finish is over.
    pub(super) async fn run(mut self) {
        while !self.is_done() {
            let event = self.next().await;
            self.apply(event, self.start.elapsed());
        }
    }

    fn is_done(&self) -> bool {
        let idle = self.replicas.iter().all(|replica| replica.ongoing == 0);
        self.end
            .is_some_and(|end| end <= Instant::now() || (idle && self.queue.len() == 0))
    }

    async fn next(&mut self) -> Event {
        let at = |instant: Option<Instant>| async move {
            match instant {
                Some(instant) => sleep_until(instant).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(freed) = self.freed.recv() => Event::Freed(freed),
            arrived = self.arrivals.recv(), if self.end.is_none() => match arrived {
                Some(ticket) => Event::Arrived(ticket),
                None => Event::Unused,
            },
            () = at(self.wake), if self.wake.is_some() => Event::Waited,
            () = at(self.end), if self.end.is_some() => Event::Over,
        }
    }

    fn apply(&mut self, event: Event, now: Duration) {
        match event {
            Event::Arrived(ticket) => self.admit(ticket, now),
            Event::Freed(Freed { replica, items }) => {
                self.replicas[replica].ongoing -= items;
                self.rate.done(now, items);
                self.counts.answered.fetch_add(items as u64, Relaxed);
                while self.running.try_join_next().is_some() {}
            }
            Event::Unused => self.end = Some(self.start + now + self.limits.grace),
            Event::Waited | Event::Over => {}
        }
        self.dispatch(now);
        self.publish();
    }

    /// Lets an item wait if there is room, or if a replica could take it at once.
    fn admit(&mut self, ticket: Ticket, now: Duration) {
        let full = |owner: &Self| {
            owner.queue.len() >= owner.limits.queued && owner.free_replica().is_none()
        };
        if full(self) && self.counts.abandoned.swap(0, Relaxed) > 0 {
            self.queue.remove(|waiting| waiting.reply.is_closed());
        }
        if full(self) {
            self.metrics.shed_full.inc();
            let retry_after = self.rate.retry_after(now, self.queue.len() + 1);
            return ticket.refuse(NodeError::Full { retry_after });
        }
        let deadline = ticket.input.context.deadline;
        let deadline = deadline.map(|deadline| deadline.saturating_duration_since(self.start));
        let cost = if self.limits.batch.cost == u64::MAX {
            1
        } else {
            self.replicas[0].node.cost(&ticket.input)
        };
        self.queue.push(now, deadline, cost, ticket);
    }

    /// Gives batches to replicas for as long as one is free and something waits.
    fn dispatch(&mut self, now: Duration) {
        self.wake = None;
        for late in self.queue.take_late(now) {
            self.metrics.shed_late.inc();
            let after = Instant::now().saturating_duration_since(late.entered);
            late.refuse(NodeError::Timeout { after });
        }
        while let Some(replica) = self.free_replica() {
            match self.queue.next(now, self.limits.batch) {
                Next::Batch { items, waited } => {
                    let wanted = |ticket: &Ticket| !ticket.reply.is_closed();
                    let batch: Vec<_> = items.into_iter().filter(wanted).collect();
                    if !batch.is_empty() {
                        self.metrics.batch_wait.observe(waited.as_secs_f64());
                        self.run_batch(replica, batch);
                    }
                }
                Next::Wait { until } => {
                    self.wake = Some(self.start + until);
                    break;
                }
                Next::Empty => break,
            }
        }
    }

    /// The replica with the fewest items, if it may take another.
    fn free_replica(&self) -> Option<usize> {
        let room = |replica: &Replica| match self.limits.one_at_a_time {
            true => replica.ongoing == 0,
            false => replica.ongoing < self.limits.ongoing,
        };
        let replicas = self.replicas.iter().enumerate();
        let free = replicas.filter(|(_, replica)| room(replica));
        free.min_by_key(|(_, replica)| replica.ongoing)
            .map(|(index, _)| index)
    }

    fn run_batch(&mut self, replica: usize, batch: Vec<Ticket>) {
        let now = Instant::now();
        for ticket in &batch {
            let waited = now.saturating_duration_since(ticket.entered);
            self.metrics.queue_duration.observe(waited.as_secs_f64());
        }
        let items = batch.len();
        self.metrics.batch_size.observe(items as f64);
        let permit = Permit {
            freed: self.free.clone(),
            part: Freed { replica, items },
        };
        self.replicas[replica].ongoing += items;
        let node = Arc::clone(&self.replicas[replica].node);
        self.running
            .spawn(replica::run(node, batch, permit, Arc::clone(&self.metrics)));
    }

    /// Shows how many items wait and run. The gauges are shared with the pools of other
    /// generations, so they are moved by the difference.
    fn publish(&self) {
        let ongoing = self.replicas.iter().map(|replica| replica.ongoing).sum();
        self.show(self.queue.len(), ongoing);
    }

    fn show(&self, queued: usize, ongoing: usize) {
        let before = self.counts.queued.swap(queued, Relaxed);
        self.metrics.queued.inc_by(queued as i64 - before as i64);
        let before = self.counts.ongoing.swap(ongoing, Relaxed);
        self.metrics.ongoing.inc_by(ongoing as i64 - before as i64);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.show(0, 0);
        self.metrics.replicas.dec_by(self.replicas.len() as i64);
        self.counts.replicas.store(0, Relaxed);
        // Items that still wait are answered by the loss of their tickets; runs are aborted.
        self.queue = Queue::new();
        drop(mem::take(&mut self.running));
    }
}
