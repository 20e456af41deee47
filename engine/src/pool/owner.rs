//! The task that owns a pool: it waits for an event, then applies it.

use super::{
    Counts, Order,
    limits::Limits,
    quarantine::Quarantine,
    queue::{Next, Queue},
    rate::Rate,
    replica::Run,
    scaler::Scaler,
    staff::{Census, Staff},
    ticket::{Permit, Report, Ticket},
};
use crate::{metrics::NodeMetrics, resilience::Fingerprint};
use nodes::{Node, NodeError, Running};
use schema::PoolSpec;
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, info};

/// How many replicas one item alone may break before it is refused.
const BREAKS: u32 = 2;

/// How often the number of replicas is decided.
pub(super) const TICK: Duration = Duration::from_millis(100);

#[expect(
    clippy::large_enum_variant,
    reason = "there is one event at a time, on the owner's stack"
)]
enum Event {
    Arrived(Ticket),
    /// The file says something else of the pool.
    Adjusted(Box<PoolSpec>),
    Reported(Report),
    /// A replica is ready, or could not be built.
    Built(Result<Arc<dyn Node>, NodeError>),
    /// A batch has waited for more long enough.
    Waited,
    /// It is time to think about the number of replicas.
    Tick,
    /// Its generation is over.
    Retired,
    /// No handle is left.
    Unused,
    /// The time to finish is over.
    Over,
}

/// The owner of a pool.
pub(super) struct Owner {
    limits: Limits,
    staff: Staff,
    spec: PoolSpec,
    scaler: Option<Scaler>,
    /// The next decision, where there is any to make.
    tick: Option<Instant>,
    queue: Queue<Ticket>,
    /// Parts of batches whose replica broke. They run by themselves, before the queue.
    suspects: VecDeque<Vec<Ticket>>,
    quarantine: Quarantine,
    rate: Rate,
    start: Instant,
    arrivals: mpsc::UnboundedReceiver<Order>,
    reported: mpsc::UnboundedReceiver<Report>,
    reports: mpsc::UnboundedSender<Report>,
    running: JoinSet<()>,
    /// When the batch that is being gathered goes off at the latest.
    wake: Option<Instant>,
    /// Whether no handle is left.
    unused: bool,
    /// When to stop whatever still runs; set when its generation is over or no handle is left.
    end: Option<Instant>,
    /// How many replicas the load asks for.
    desired: usize,
    counts: Arc<Counts>,
    metrics: Arc<NodeMetrics>,
}

impl Owner {
    pub(super) fn new(
        staff: Staff,
        spec: PoolSpec,
        limits: Limits,
        metrics: Arc<NodeMetrics>,
        arrivals: mpsc::UnboundedReceiver<Order>,
        counts: Arc<Counts>,
    ) -> Self {
        let (reports, reported) = mpsc::unbounded_channel();
        let scaler = Scaler::new(&spec.replicas);
        let mut owner = Self {
            limits,
            staff,
            spec,
            tick: scaler.as_ref().map(|_| Instant::now() + TICK),
            scaler,
            queue: Queue::new(),
            suspects: VecDeque::new(),
            quarantine: Quarantine::default(),
            rate: Rate::default(),
            start: Instant::now(),
            arrivals,
            reported,
            reports,
            running: JoinSet::new(),
            wake: None,
            unused: false,
            end: None,
            desired: 0,
            counts,
            metrics,
        };
        owner.desired = owner.staff.wanted();
        owner.publish();
        owner
    }

    /// Works until no handle is left and everything is answered, or the time to finish is over.
    pub(super) async fn run(mut self) {
        while !self.is_done() {
            let event = self.next().await;
            self.apply(event, self.start.elapsed());
        }
    }

    fn is_done(&self) -> bool {
        let idle = || self.staff.ongoing() == 0 && self.waiting() == 0;
        let over = self.end.is_some_and(|end| end <= Instant::now());
        over || (self.unused && idle())
    }

    /// Items that no replica holds.
    fn waiting(&self) -> usize {
        self.queue.len() + self.suspects.iter().map(Vec::len).sum::<usize>()
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
            Some(report) = self.reported.recv() => Event::Reported(report),
            built = self.staff.built() => Event::Built(built),
            arrived = self.arrivals.recv(), if !self.unused => match arrived {
                Some(Order::Answer(ticket)) => Event::Arrived(ticket),
                Some(Order::Adjust(spec)) => Event::Adjusted(spec),
                Some(Order::Retire) => Event::Retired,
                None => Event::Unused,
            },
            () = at(self.tick), if self.tick.is_some() => Event::Tick,
            () = at(self.wake), if self.wake.is_some() => Event::Waited,
            () = at(self.end), if self.end.is_some() => Event::Over,
        }
    }

    fn apply(&mut self, event: Event, now: Duration) {
        match event {
            Event::Arrived(ticket) => self.admit(ticket, now),
            Event::Adjusted(spec) => self.adjust(*spec, now),
            Event::Reported(report) => self.note(report, now),
            Event::Built(built) => self.receive(built),
            Event::Tick => self.scale(now),
            Event::Retired => self.end_within_grace(now),
            Event::Unused => {
                self.unused = true;
                self.end_within_grace(now);
            }
            Event::Waited | Event::Over => {}
        }
        self.staff.settle();
        if let Some(error) = self.staff.unhealthy() {
            self.refuse_all(&error);
        }
        self.dispatch(now);
        self.publish();
    }

    /// Goes by another spec from now on. What waits and what runs is left as it is, even where it is
    /// more than the new limits would let in.
    fn adjust(&mut self, spec: PoolSpec, now: Duration) {
        self.scaler = Scaler::adjusted(self.scaler.take(), &spec.replicas);
        self.spec = spec;
        let node = self.staff.any();
        let running = node.map_or(Running::OneBatch, Node::running);
        self.limits = Limits::new(&self.spec, running);
        if let (Some(node), true) = (node, self.limits.batch.cost != u64::MAX) {
            self.queue.weigh(|ticket| node.cost(&ticket.input));
        }
        let replicas = &self.spec.replicas;
        let (fewest, most) = (replicas.min.value as usize, replicas.max.value as usize);
        self.desired = self.staff.wanted().clamp(fewest, most.max(fewest));
        self.fill(now);
    }

    /// Asks for the replicas that the load or the file wants. Where the machine has no room for
    /// them yet, as beside a generation that is about to go, it is asked again.
    fn fill(&mut self, now: Duration) {
        if let Err(error) = self.staff.want(self.desired) {
            debug!(node = self.metrics.node, %error, "cannot scale up");
        }
        let short = self.staff.wanted() < self.desired;
        let again = short || self.scaler.is_some();
        self.tick = again.then(|| self.start + now + TICK);
    }

    /// Takes in a replica. The first after none tells how its node runs, and what items cost.
    fn receive(&mut self, built: Result<Arc<dyn Node>, NodeError>) {
        if let (Ok(node), None) = (&built, self.staff.any()) {
            self.limits = Limits::new(&self.spec, node.running());
            if self.limits.batch.cost != u64::MAX {
                self.queue.weigh(|ticket| node.cost(&ticket.input));
            }
        }
        self.staff.receive(built);
    }

    fn end_within_grace(&mut self, now: Duration) {
        let end = self.start + now + self.limits.grace;
        self.end = Some(self.end.map_or(end, |before| before.min(end)));
    }

    fn scale(&mut self, now: Duration) {
        let Some(scaler) = &mut self.scaler else {
            return self.fill(now);
        };
        let (wanted, working) = (self.staff.wanted(), self.staff.census().working);
        let items = self.queue.len()
            + self.suspects.iter().map(Vec::len).sum::<usize>()
            + self.staff.ongoing();
        self.desired = scaler.tick(now, wanted, working, items);
        self.fill(now);
        let got = self.staff.wanted();
        if got != wanted {
            info!(node = self.metrics.node, from = wanted, to = got, "scaled");
        }
    }

    fn note(&mut self, report: Report, now: Duration) {
        match report {
            Report::Answered => self.staff.answered(),
            Report::Freed { replica, items } => {
                if let Some(replica) = self.staff.get(replica) {
                    replica.ongoing -= items;
                }
                self.rate.done(now, items);
                while self.running.try_join_next().is_some() {}
            }
            Report::Guilty { item, error } => self.quarantine.put(now, item, error),
            Report::Broke {
                replica,
                mut held,
                error,
            } => {
                self.staff.broke(replica, &error);
                if let Some(part) = held.pop() {
                    self.suspect(part, error, now);
                }
                self.suspects.extend(held.into_iter().rev());
            }
        }
    }

    /// Has the items that a replica broke on run elsewhere, in halves, so that the one that did it
    /// comes to stand alone. Which half is guilty alternates with one that is not, as halves wait
    /// their turn: the innocent answer in between.
    fn suspect(&mut self, mut part: Vec<Ticket>, error: NodeError, now: Duration) {
        part.retain(|ticket| !ticket.is_abandoned());
        if part.len() > 1 {
            let second = part.split_off(part.len() / 2);
            self.suspects.extend([part, second]);
            return;
        }
        let Some(mut ticket) = part.pop() else { return };
        ticket.broke += 1;
        if ticket.broke < BREAKS {
            self.suspects.push_back(vec![ticket]);
            return;
        }
        if let Some(item) = Fingerprint::of(&ticket.input.arguments) {
            self.quarantine.put(now, item, error.clone());
        }
        self.counts.answered.fetch_add(1, Relaxed);
        ticket.refuse(error);
    }

    /// Lets an item wait if there is room, or if a replica could take it at once.
    fn admit(&mut self, ticket: Ticket, now: Duration) {
        if let Some(error) = self.in_quarantine(&ticket, now) {
            return ticket.refuse(error);
        }
        if self.is_full() && self.counts.abandoned.swap(0, Relaxed) > 0 {
            self.queue.remove(Ticket::is_abandoned);
        }
        if self.is_full() {
            self.metrics.shed_full.inc();
            let retry_after = self.rate.retry_after(now, self.queue.len() + 1);
            return ticket.refuse(NodeError::Full { retry_after });
        }
        let deadline = ticket.input.context.deadline;
        let deadline = deadline.map(|deadline| deadline.saturating_duration_since(self.start));
        let cost = match self.staff.any() {
            Some(node) if self.limits.batch.cost != u64::MAX => node.cost(&ticket.input),
            _ => 1,
        };
        self.queue.push(now, deadline, cost, ticket);
    }

    fn is_full(&mut self) -> bool {
        self.queue.len() >= self.limits.queued && self.staff.free(&self.limits).is_none()
    }

    fn in_quarantine(&mut self, ticket: &Ticket, now: Duration) -> Option<NodeError> {
        if self.quarantine.is_empty() {
            return None;
        }
        let item = Fingerprint::of(&ticket.input.arguments)?;
        self.quarantine.answer(now, &item)
    }

    fn refuse_all(&mut self, error: &NodeError) {
        let suspects = mem::take(&mut self.suspects).into_iter().flatten();
        let waiting = mem::replace(&mut self.queue, Queue::new()).into_items();
        for ticket in suspects.chain(waiting) {
            ticket.refuse(error.clone());
        }
    }

    /// Gives batches to replicas for as long as one is free and something waits.
    fn dispatch(&mut self, now: Duration) {
        self.wake = None;
        for late in self.queue.take_late(now) {
            self.metrics.shed_late.inc();
            let after = Instant::now().saturating_duration_since(late.entered);
            late.refuse(NodeError::Timeout { after });
        }
        while self.staff.free(&self.limits).is_some() {
            if let Some(part) = self.suspects.pop_front() {
                self.run_batch(part);
                continue;
            }
            match self.queue.next(now, self.limits.batch) {
                Next::Batch { items, waited } => {
                    self.metrics.batch_wait.observe(waited.as_secs_f64());
                    self.run_batch(items);
                }
                Next::Wait { until } => {
                    self.wake = Some(self.start + until);
                    break;
                }
                Next::Empty => break,
            }
        }
    }

    /// Gives a batch to the replica that is free, without those who have left.
    fn run_batch(&mut self, mut batch: Vec<Ticket>) {
        batch.retain(|ticket| !ticket.is_abandoned());
        let Some(replica) = self.staff.free(&self.limits).filter(|_| !batch.is_empty()) else {
            return;
        };
        let now = Instant::now();
        for ticket in &batch {
            let waited = now.saturating_duration_since(ticket.entered);
            self.metrics.queue_duration.observe(waited.as_secs_f64());
        }
        let items = batch.len();
        self.metrics.batch_size.observe(items as f64);
        replica.ongoing += items;
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

    /// Shows what there is.
    fn publish(&self) {
        let unhealthy = self.staff.unhealthy().is_some();
        self.counts.unhealthy.store(unhealthy, Relaxed);
        let (desired, target) = (self.desired, self.staff.wanted());
        self.show(
            (self.waiting(), self.staff.ongoing()),
            self.staff.census(),
            (desired, target),
        );
    }

    /// The gauges are shared with the pools of other generations, so they are moved by the
    /// difference.
    fn show(
        &self,
        (queued, ongoing): (usize, usize),
        census: Census,
        (desired, target): (usize, usize),
    ) {
        let (counts, metrics) = (&self.counts, &self.metrics);
        for (count, gauge, value) in [
            (&counts.queued, &metrics.queued, queued),
            (&counts.ongoing, &metrics.ongoing, ongoing),
            (&counts.replicas, &metrics.replicas, census.working),
            (
                &counts.starting,
                &metrics.replicas_starting,
                census.starting,
            ),
            (&counts.leaving, &metrics.replicas_leaving, census.leaving),
            (&counts.desired, &metrics.autoscale_desired, desired),
            (&counts.target, &metrics.autoscale_target, target),
        ] {
            let before = count.swap(value, Relaxed);
            gauge.inc_by(value as i64 - before as i64);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.show((0, 0), Census::default(), (0, 0));
        // Items that still wait are answered by the loss of their tickets; runs are aborted.
        self.queue = Queue::new();
        drop(mem::take(&mut self.running));
    }
}
