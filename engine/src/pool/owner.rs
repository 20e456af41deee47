//! The task that owns a pool: it waits for an event, then applies it.

mod show;
mod work;

use super::{
    Counts,
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
use nodes::{BatchKey, Node, NodeError};
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

/// The owner of a pool.
pub(super) struct Owner {
    limits: Limits,
    staff: Staff,
    spec: PoolSpec,
    scaler: Option<Scaler>,
    /// The next decision, where there is any to make.
    tick: Option<Instant>,
    queue: Queue<Option<BatchKey>, Ticket>,
    /// Parts of batches whose replica broke. They run by themselves, before the queue.
    suspects: VecDeque<Vec<Ticket>>,
    quarantine: Quarantine,
    rate: Rate,
    service: Service,
    start: Instant,
    arrivals: mpsc::UnboundedReceiver<Ticket>,
    reported: mpsc::UnboundedReceiver<Report>,
    reports: mpsc::UnboundedSender<Report>,
    running: JoinSet<()>,
    /// When the batch that is being gathered goes off at the latest.
    wake: Option<Instant>,
    /// Set when no handle is left: when to stop whatever still runs.
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
        arrivals: mpsc::UnboundedReceiver<Ticket>,
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
        self.end.is_some_and(|end| end <= Instant::now() || idle())
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
            arrived = self.arrivals.recv(), if self.end.is_none() => match arrived {
                Some(ticket) => Event::Arrived(ticket),
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
            Event::Reported(report) => self.note(report, now),
            Event::Built(built) => self.receive(built, now),
            Event::Checked(replica, said) => self.staff.hear(replica, said, now),
            Event::Lost(replica, error) => self.staff.broke(replica, &error),
            Event::Tick => self.tick(now),
            Event::Unused => self.end = Some(self.start + now + self.limits.grace),
            Event::Waited | Event::Over => {}
        }
        self.wind(now);
        self.staff.settle();
        if let Some(error) = self.staff.unhealthy() {
            self.refuse_all(&error);
        }
        self.dispatch(now);
        self.publish();
    }

    /// Takes in a replica. The first after none tells how its node runs, and what items cost.
    fn receive(&mut self, built: Result<Arc<dyn Node>, NodeError>, now: Duration) {
        if let (Ok(node), None) = (&built, self.staff.any()) {
            self.limits = Limits::new(&self.spec, node.running());
            let limits = &self.limits;
            self.queue
                .weigh(|ticket| limits.weigh(&**node, &ticket.input));
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
            self.scaler.as_ref().map(|_| TICK),
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

    fn scale(&mut self, now: Duration) {
        let items = self.waiting() + self.gate.waiting() + self.staff.ongoing();
        let (wanted, working) = (self.staff.wanted(), self.staff.census().working);
        let Some(scaler) = &mut self.scaler else {
            return;
        };
        self.desired = scaler.tick(now, wanted, working, items);
        let fits = self.staff.want(self.desired);
        let got = self.staff.wanted();
        if got != wanted {
            info!(node = self.metrics.node, from = wanted, to = got, "scaled");
        } else if let Err(error) = fits {
            debug!(node = self.metrics.node, %error, "cannot scale up");
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

impl Drop for Owner {
    fn drop(&mut self) {
        self.show((0, 0), Census::default(), (0, 0));
        // Items that still wait are answered by the loss of their tickets; runs are aborted.
        self.queue = Queue::new();
        drop(mem::take(&mut self.running));
    }
}
