//! The task that owns a pool: it waits for an event, then applies it.

mod show;
mod work;

use super::{
    Counts, Order,
    forecast::Service,
    gate::{Gate, Room},
    limits::Limits,
    quarantine::Quarantine,
    queue::Queue,
    rate::Rate,
    scaler::Scaler,
    staff::{Census, News, Staff},
    ticket::{ReplicaId, Report, Ticket},
};
use crate::{metrics::NodeMetrics, resilience::Fingerprint};
use nodes::{BatchKey, Node, NodeError, Running};
use schema::PoolSpec;
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, info};

/// How much suspicion of breaking replicas an item may be under: it may break two alone, or four
/// beside others.
const SUSPICION: u32 = 4;

/// How often the number of replicas is decided, and how they are looked after at most.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How often replicas are looked after at least, where there is a reason to.
const LOOK: Duration = Duration::from_secs(1);

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
    /// A replica has said how it is.
    Checked(ReplicaId, Result<(), NodeError>),
    /// The node of a replica is lost.
    Lost(ReplicaId, NodeError),
    /// A batch has waited for more long enough.
    Waited,
    /// It is time to think about the number of replicas, and how they are.
    Tick,
    /// Its generation is over.
    Retired,
    /// Another needs its place, now or when its replicas hold nothing.
    Rests {
        now: bool,
        gone: oneshot::Sender<()>,
    },
    /// It has its place again.
    Woken,
    /// No handle is left.
    Unused,
    /// The time to finish is over.
    Over,
}

impl From<News> for Event {
    fn from(news: News) -> Self {
        match news {
            News::Built(built) => Event::Built(built),
            News::Checked(replica, said) => Event::Checked(replica, said),
            News::Lost(replica, error) => Event::Lost(replica, error),
        }
    }
}

/// What items that share a batch have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    /// What the node cannot mix.
    mix: Option<BatchKey>,
    /// The replica that has in memory what they would rather find there.
    home: Option<ReplicaId>,
}

/// The owner of a pool.
pub(super) struct Owner {
    limits: Limits,
    staff: Staff,
    spec: PoolSpec,
    scaler: Option<Scaler>,
    /// The next decision, where there is any to make.
    tick: Option<Instant>,
    queue: Queue<Key, Ticket>,
    /// Parts of batches whose replica broke. They run by themselves, before the queue.
    suspects: VecDeque<Vec<Ticket>>,
    quarantine: Quarantine,
    rate: Rate,
    service: Service,
    start: Instant,
    arrivals: mpsc::UnboundedReceiver<Order>,
    reported: mpsc::UnboundedReceiver<Report>,
    reports: mpsc::UnboundedSender<Report>,
    running: JoinSet<()>,
    /// When the batch that is being gathered goes off at the latest.
    wake: Option<Instant>,
    /// Whether no handle is left.
    unused: bool,
    /// Whether another has its place, so that no replica is wanted.
    rests: bool,
    /// Who waits for its replicas to be gone.
    gone: Vec<oneshot::Sender<()>>,
    /// When to stop whatever still runs; set when its generation is over or no handle is left.
    end: Option<Instant>,
    /// How many replicas the load asks for.
    desired: usize,
    counts: Arc<Counts>,
    gate: Arc<Gate>,
    metrics: Arc<NodeMetrics>,
}

impl Owner {
    pub(super) fn new(
        staff: Staff,
        spec: PoolSpec,
        limits: Limits,
        metrics: Arc<NodeMetrics>,
        arrivals: mpsc::UnboundedReceiver<Order>,
        (counts, gate): (Arc<Counts>, Arc<Gate>),
    ) -> Self {
        let (reports, reported) = mpsc::unbounded_channel();
        let scaler = Scaler::new(&spec.replicas);
        let mut owner = Self {
            limits,
            staff,
            spec,
            tick: None,
            scaler,
            queue: Queue::new(),
            suspects: VecDeque::new(),
            quarantine: Quarantine::default(),
            rate: Rate::default(),
            service: Service::default(),
            start: Instant::now(),
            arrivals,
            reported,
            reports,
            running: JoinSet::new(),
            wake: None,
            unused: false,
            rests: false,
            gone: Vec::new(),
            end: None,
            desired: 0,
            counts,
            gate,
            metrics,
        };
        owner.desired = owner.staff.wanted();
        owner.wind(Duration::ZERO);
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
            event = self.staff.next() => event.into(),
            arrived = self.arrivals.recv(), if !self.unused => match arrived {
                Some(Order::Answer(ticket)) => Event::Arrived(ticket),
                Some(Order::Adjust(spec)) => Event::Adjusted(spec),
                Some(Order::Retire) => Event::Retired,
                Some(Order::Rest { now, gone }) => Event::Rests { now, gone },
                Some(Order::Wake) => Event::Woken,
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
            Event::Adjusted(spec) => self.adjust(*spec),
            Event::Reported(report) => self.note(report, now),
            Event::Built(built) => self.receive(built, now),
            Event::Checked(replica, said) => self.staff.hear(replica, said, now),
            Event::Lost(replica, error) => self.staff.broke(replica, &error),
            Event::Tick => self.tick(now),
            Event::Retired => self.end_within_grace(now),
            Event::Rests { now, gone } => self.rest(now, gone),
            Event::Woken => self.wake(),
            Event::Unused => {
                self.unused = true;
                self.end_within_grace(now);
            }
            Event::Waited | Event::Over => {}
        }
        self.wind(now);
        self.staff.settle();
        if let Some(error) = self.staff.unhealthy() {
            self.refuse_all(&error);
        }
        self.dispatch(now);
        self.publish();
        if self.rests && self.staff.census() == Census::default() {
            for gone in self.gone.drain(..) {
                // Who waited may have left.
                let _ = gone.send(());
            }
        }
    }

    /// Goes by another spec from now on. What waits and what runs is left as it is, even where it is
    /// more than the new limits would let in.
    fn adjust(&mut self, spec: PoolSpec) {
        self.scaler = Scaler::adjusted(self.scaler.take(), &spec.replicas);
        self.spec = spec;
        let node = self.staff.any();
        let running = node.map_or(Running::OneBatch, Node::running);
        self.limits = Limits::new(&self.spec, running);
        if let Some(node) = node {
            let limits = &self.limits;
            self.queue.weigh(|ticket| weigh(limits, node, ticket));
        }
        let replicas = &self.spec.replicas;
        let (fewest, most) = (replicas.min.value as usize, replicas.max.value as usize);
        self.desired = self.staff.wanted().clamp(fewest, most.max(fewest));
        self.fill();
        // There may be other reasons for the next one now.
        self.tick = None;
    }

    /// Asks for the replicas that the load or the file wants. Where the machine has no room for
    /// them yet, as beside a generation that is about to go, it is asked again at the next tick.
    fn fill(&mut self) {
        if self.rests {
            return;
        }
        if let Err(error) = self.staff.want(self.desired) {
            debug!(node = self.metrics.node, %error, "cannot scale up");
        }
    }

    /// Takes in a replica. The first after none tells how its node runs, and what items cost.
    fn receive(&mut self, built: Result<Arc<dyn Node>, NodeError>, now: Duration) {
        if let (Ok(node), None) = (&built, self.staff.any()) {
            self.limits = Limits::new(&self.spec, node.running());
            let limits = &self.limits;
            self.queue.weigh(|ticket| weigh(limits, &**node, ticket));
        }
        self.staff.receive(built, now);
    }

    /// Sets the next tick, where there is a reason for one.
    fn wind(&mut self, now: Duration) {
        if self.tick.is_some() {
            return;
        }
        let period = self.limits.health_check_period;
        let looks = period.map(|period| (period / 4).clamp(TICK, LOOK));
        let looked_after = self.spec.recycle.is_some() || self.staff.is_doubtful();
        let after = [
            (self.scaler.is_some() || self.staff.wanted() < self.desired).then_some(TICK),
            looks,
            looked_after.then_some(LOOK),
        ];
        let after = after.into_iter().flatten().min();
        self.tick = after.map(|after| self.start + now + after);
    }

    fn tick(&mut self, now: Duration) {
        self.tick = None;
        self.scale(now);
        self.staff.look(now, self.limits.health_check_period);
        if let (Some(bounds), None) = (&self.spec.recycle, self.end) {
            self.staff.wear(&bounds.value, now);
        }
    }

    /// Lets go of all replicas, and wants none. What comes to it waits in the queue.
    fn rest(&mut self, now: bool, gone: oneshot::Sender<()>) {
        self.rests = true;
        self.gone.push(gone);
        // Asking for none always succeeds.
        let _ = self.staff.want(0);
        if now {
            self.staff.let_go();
        }
    }

    /// Has as many replicas built as there were to be before.
    fn wake(&mut self) {
        self.rests = false;
        self.fill();
    }

    fn end_within_grace(&mut self, now: Duration) {
        let end = self.start + now + self.limits.grace;
        self.end = Some(self.end.map_or(end, |before| before.min(end)));
    }

    fn scale(&mut self, now: Duration) {
        let items = self.waiting() + self.gate.waiting() + self.staff.ongoing();
        let (wanted, working) = (self.staff.wanted(), self.staff.census().working);
        let Some(scaler) = self.scaler.as_mut().filter(|_| !self.rests) else {
            return self.fill();
        };
        self.desired = scaler.tick(now, wanted, working, items);
        self.fill();
        let got = self.staff.wanted();
        if got != wanted {
            info!(node = self.metrics.node, from = wanted, to = got, "scaled");
        }
    }

    fn note(&mut self, report: Report, now: Duration) {
        match report {
            Report::Answered { replica, took } => {
                self.staff.answered(replica, now);
                self.service.took(took);
            }
            Report::Ended { replica, abandoned } => self.staff.ended(replica, abandoned),
            Report::Freed { replica, items } => {
                self.staff.freed(replica, items);
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
                let alone = self.limits.one_at_a_time || self.staff.ran_one(replica);
                if let Some(part) = held.pop() {
                    self.suspect(part, alone, error, now);
                }
                self.suspects.extend(held.into_iter().rev());
            }
        }
    }

    /// Has the items that a replica broke on run elsewhere, in halves, so that the one that did it
    /// comes to stand alone. Which half is guilty alternates with one that is not, as halves wait
    /// their turn: the innocent answer in between.
    fn suspect(&mut self, mut part: Vec<Ticket>, alone: bool, error: NodeError, now: Duration) {
        part.retain(|ticket| !ticket.is_abandoned());
        if part.len() > 1 {
            let second = part.split_off(part.len() / 2);
            self.suspects.extend([part, second]);
            return;
        }
        let Some(mut ticket) = part.pop() else { return };
        ticket.suspicion += match error {
            // It had not come to it yet.
            NodeError::Lost { begun: false, .. } => 0,
            _ if alone => 2,
            _ => 1,
        };
        if ticket.suspicion < SUSPICION {
            self.suspects.push_back(vec![ticket]);
            return;
        }
        if let Some(item) = Fingerprint::of(&ticket.input.arguments) {
            self.quarantine.put(now, item, error.clone());
        }
        self.counts.answered.fetch_add(1, Relaxed);
        ticket.refuse(error);
    }
}

/// What an item that waits already costs, and what it must share with others; any replica will do.
fn weigh(limits: &Limits, node: &dyn Node, ticket: &Ticket) -> (u64, Key) {
    let (cost, mix) = limits.weigh(node, &ticket.input);
    (cost, Key { mix, home: None })
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.show((0, 0), Census::default(), (0, 0));
        // Items that still wait are answered by the loss of their tickets; runs are aborted.
        self.queue = Queue::new();
        drop(mem::take(&mut self.running));
    }
}
