//! Items on their way through the owner: let in, put together, handed to replicas.

use super::{Key, Owner};
use crate::{
    pool::{
        forecast::time_to_done,
        queue::{Next, Occasion, Queue, Terms},
        replica::Run,
        ticket::{Permit, ReplicaId, Ticket},
    },
    resilience::Fingerprint,
};
use nodes::{Input, Node, NodeError, placement};
use std::{
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

impl Owner {
    /// Lets an item wait if there is room and it can be done in time, or if a replica could take it
    /// at once.
    pub(super) fn admit(&mut self, ticket: Ticket, now: Duration) {
        if let Some(error) = self.in_quarantine(&ticket, now) {
            return ticket.refuse(error);
        }
        let terms = self.terms(&ticket);
        if self.staff.free(&self.limits).is_some() {
            return self.queue.push(now, terms, ticket);
        }
        if self.queue.len() >= self.limits.queued && self.counts.abandoned.swap(0, Relaxed) > 0 {
            self.queue.remove(Ticket::is_abandoned);
        }
        if self.queue.len() >= self.limits.queued {
            self.metrics.shed_full.inc();
            return ticket.refuse(self.full(now));
        }
        if !self.is_in_time(terms.deadline, now) {
            self.metrics.shed_late.inc();
            return ticket.refuse(self.full(now));
        }
        self.queue.push(now, terms, ticket);
    }

    fn terms(&self, ticket: &Ticket) -> Terms<Key> {
        let deadline = ticket.input.context.deadline;
        let ((cost, mix), home) = match self.staff.any() {
            Some(node) => (
                self.limits.weigh(node, &ticket.input),
                self.home(node, &ticket.input),
            ),
            None => ((1, None), None),
        };
        Terms {
            key: Key { mix, home },
            cost,
            deadline: deadline.map(|deadline| deadline.saturating_duration_since(self.start)),
        }
    }

    /// The replica that has in memory what an item would rather find there, as far as load allows.
    fn home(&self, node: &dyn Node, item: &Input) -> Option<ReplicaId> {
        let name = node.seeks(item)?;
        let mut spots = self.staff.spots();
        for home in self.queue.keys().filter_map(|key| key.home) {
            let spot = spots.iter_mut().find(|spot| spot.identity == home);
            spot.into_iter().for_each(|spot| spot.load += 1);
        }
        let home = placement::place(&name, &spots, self.limits.unbounded())?;
        Some(spots[home].identity)
    }

    /// Whether an item that arrives now will be done by its deadline, as far as can be told.
    fn is_in_time(&mut self, deadline: Option<Duration>, now: Duration) -> bool {
        let (Some(deadline), Some(service)) = (deadline, self.service.expected()) else {
            return true;
        };
        let ahead = self.queue.ahead(now, Some(deadline));
        let capacity = self.staff.capacity(&self.limits, service, now);
        time_to_done(service, capacity, ahead).is_none_or(|time| now + time < deadline)
    }

    fn full(&self, now: Duration) -> NodeError {
        let retry_after = self.rate.retry_after(now, self.queue.len() + 1);
        NodeError::Full { retry_after }
    }

    fn in_quarantine(&mut self, ticket: &Ticket, now: Duration) -> Option<NodeError> {
        if self.quarantine.is_empty() {
            return None;
        }
        let item = Fingerprint::of(&ticket.input.arguments)?;
        self.quarantine.answer(now, &item)
    }

    pub(super) fn refuse_all(&mut self, error: &NodeError) {
        let suspects = mem::take(&mut self.suspects).into_iter().flatten();
        let waiting = mem::replace(&mut self.queue, Queue::new()).into_items();
        for ticket in suspects.chain(waiting) {
            ticket.refuse(error.clone());
        }
    }

    /// Gives batches to replicas for as long as one is free and something waits.
    pub(super) fn dispatch(&mut self, now: Duration) {
        self.wake = None;
        for late in self.queue.take_late(now) {
            self.metrics.shed_late.inc();
            let after = Instant::now().saturating_duration_since(late.entered);
            late.refuse(NodeError::Timeout { after });
        }
        self.dispatch_suspects(now);
        // What may break a replica runs where nothing else does, so that nobody else is suspected.
        // While some of it waits nothing is begun beside it, so that there comes to be such a place.
        while self.suspects.is_empty()
            && self.waiting() > 0
            && self.staff.free(&self.limits).is_some()
        {
            self.drop_hopeless(now);
            match self.form(now) {
                (Next::Batch { items, waited }, replica) => {
                    self.metrics.batch_wait.observe(waited.as_secs_f64());
                    self.run_batch(items, replica, false, now);
                }
                (Next::Wait { until }, _) => {
                    self.wake = Some(self.start + until);
                    break;
                }
                (Next::Empty, _) => break,
            }
        }
    }

    /// Runs what broke a replica before, each part by itself.
    fn dispatch_suspects(&mut self, now: Duration) {
        while !self.suspects.is_empty()
            && let Some(idle) = self.staff.idle()
        {
            let replica = idle.id;
            if let Some(part) = self.suspects.pop_front() {
                self.run_batch(part, replica, true, now);
            }
        }
    }

    /// Refuses items that would be late if they began now: others can still be done in time.
    fn drop_hopeless(&mut self, now: Duration) {
        let Some(service) = self.service.expected() else {
            return;
        };
        for hopeless in self.queue.take_hopeless(now + service) {
            self.metrics.shed_late.inc();
            hopeless.refuse(self.full(now));
        }
    }

    /// Forms a batch for one of the replicas that are free: the first that has something to take.
    fn form(&mut self, now: Duration) -> (Next<Ticket>, ReplicaId) {
        let idle = self.staff.ongoing() == 0;
        let mut nothing = (Next::Empty, ReplicaId::MAX);
        for id in self.staff.all_free(&self.limits) {
            let Some(replica) = self.staff.find(id) else {
                continue;
            };
            let is_resident = |key: &Key| {
                let mix = key.mix.as_ref();
                mix.is_none_or(|mix| replica.node.is_resident(mix))
            };
            let is_elsewhere = |key: &Key| {
                key.home
                    .is_some_and(|home| home != id && self.staff.has(home))
            };
            let next = self.queue.next(&Occasion {
                now,
                limits: self.limits.next_batch(replica.ongoing),
                idle,
                is_resident: &is_resident,
                is_elsewhere: &is_elsewhere,
                is_abandoned: &Ticket::is_abandoned,
            });
            if let Next::Batch { .. } = next {
                return (next, id);
            }
            let sooner = match (&next, &nothing.0) {
                (Next::Wait { until }, Next::Wait { until: before }) => until < before,
                _ => true,
            };
            if sooner {
                nothing = (next, id);
            }
        }
        nothing
    }

    /// Gives a batch to a replica that is free, without those who have left; `alone` where nothing
    /// else may run beside it.
    fn run_batch(
        &mut self,
        mut batch: Vec<Ticket>,
        replica: ReplicaId,
        alone: bool,
        now: Duration,
    ) {
        batch.retain(|ticket| !ticket.is_abandoned());
        let replica = self.staff.get(replica);
        let Some(replica) = replica.filter(|_| !batch.is_empty()) else {
            return;
        };
        replica.alone = alone;
        let instant = self.start + now;
        for ticket in &batch {
            let waited = instant.saturating_duration_since(ticket.entered);
            self.metrics.queue_duration.observe(waited.as_secs_f64());
        }
        let items = batch.len();
        self.metrics.batch_size.observe(items as f64);
        replica.take(items, now);
        let run = Run {
            node: Arc::clone(&replica.node),
            permit: Arc::new(Permit {
                reports: self.reports.clone(),
                counts: Arc::clone(&self.counts),
                replica: replica.id,
                items,
            }),
            lost: replica.lost.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        self.running.spawn(run.run(batch));
    }
}
