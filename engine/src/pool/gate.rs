//! Who may enter a graph: places at one of its nodes, and the requests that wait for one.
//!
//! A request that will come to a node takes a place at it before it begins, so that what waits is
//! the request and not what earlier nodes have made of it. There are as many places as keep the
//! node's replicas busy; the others wait here, earliest deadline first. An item that comes to the
//! node in another way is not counted.

use super::{
    forecast::{Capacity, Service, time_to_done},
    rate,
};
use crate::metrics::NodeMetrics;
use nodes::NodeError;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// Rounds of the replicas for which there are places: one runs, one is about to come.
const ROUNDS: usize = 2;

/// Where a request without a deadline stands among those with one, and those with a later one.
const HORIZON: Duration = Duration::from_secs(60);

/// The places at a node.
#[derive(Debug)]
pub(super) struct Gate {
    line: Mutex<Line<oneshot::Sender<Place>>>,
    metrics: Arc<NodeMetrics>,
}

/// A place at a node; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    gate: Option<Arc<Gate>>,
    since: Instant,
}

/// What the owner says of its pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Items that its replicas hold at once.
    pub(super) slots: usize,
    /// Items that may wait.
    pub(super) queued: usize,
    /// What a run takes, where that is known.
    pub(super) service: Option<Duration>,
    /// Whether everybody may enter, to be told that it cannot answer.
    pub(super) open: bool,
}

/// Who is inside, who waits. Pure; `W` is the way back to one who waits.
#[derive(Debug)]
struct Line<W> {
    room: Room,
    /// From the entry of a request until it comes to the node.
    lead: Service,
    inside: usize,
    waiting: BTreeMap<(Instant, u64), W>,
    arrivals: u64,
}

/// Whether one may enter.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// At once.
    Free,
    /// When it is its turn.
    Wait,
    /// There is no room.
    Full,
    /// It would be late.
    Late,
}

impl Gate {
    pub(super) fn new(metrics: Arc<NodeMetrics>) -> Arc<Self> {
        let line = Mutex::new(Line::new());
        Arc::new(Self { line, metrics })
    }

    /// Takes a place, or waits for one.
    ///
    /// # Errors
    /// [`NodeError::Full`] at once if too many wait, or if the item could not be done by its
    /// deadline; [`NodeError::Timeout`] if the deadline passes meanwhile.
    pub(super) async fn enter(
        self: &Arc<Self>,
        deadline: Option<Instant>,
    ) -> Result<Place, NodeError> {
        let begun = Instant::now();
        let (way, place) = {
            let mut line = self.line();
            match line.enter(begun, deadline) {
                Entry::Free => {
                    drop(line);
                    return Ok(self.place());
                }
                Entry::Full => {
                    self.metrics.shed_full.inc();
                    return Err(line.full());
                }
                Entry::Late => {
                    self.metrics.shed_late.inc();
                    return Err(line.full());
                }
                Entry::Wait => {}
            }
            let (way, place) = oneshot::channel();
            (line.wait(begun, deadline, way), place)
        };
        self.metrics.queued.inc();
        let _waiting = Waiting { gate: self, way };
        let lost = |_| NodeError::unavailable("the node was stopped");
        match deadline {
            None => place.await.map_err(lost),
            Some(deadline) => match timeout_at(deadline, place).await {
                Ok(place) => place.map_err(lost),
                Err(_) => {
                    self.metrics.shed_late.inc();
                    let after = begun.elapsed();
                    Err(NodeError::Timeout { after })
                }
            },
        }
    }

    /// States what the pool has, and lets in whom it has room for.
    pub(super) fn set(self: &Arc<Self>, room: Room) {
        if self.line().set(room) {
            self.fill();
        }
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.line().waiting.len()
    }

    /// Hands free places to those whose turn it is.
    fn fill(self: &Arc<Self>) {
        loop {
            let Some(way) = self.line().next() else {
                return;
            };
            if let Err(mut unused) = way.send(self.place()) {
                // Who has left does not need it; the next one may have it.
                unused.gate = None;
                self.line().inside -= 1;
            }
        }
    }

    fn place(self: &Arc<Self>) -> Place {
        Place {
            gate: Some(Arc::clone(self)),
            since: Instant::now(),
        }
    }

    fn line(&self) -> MutexGuard<'_, Line<oneshot::Sender<Place>>> {
        // A panic cannot come between the two halves of a change.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The request has come to the node.
    pub fn arrive(&self) {
        if let Some(gate) = &self.gate {
            gate.line().lead.took(self.since.elapsed());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.line().inside -= 1;
            gate.fill();
        }
    }
}

/// A request that waits; leaves the line when it is dropped.
struct Waiting<'a> {
    gate: &'a Gate,
    way: (Instant, u64),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Not there any more if it has been given its place.
        let left = self.gate.line().waiting.remove(&self.way);
        drop(left);
        self.gate.metrics.queued.dec();
    }
}

impl<W> Line<W> {
    fn new() -> Self {
        Self {
            room: Room::default(),
            lead: Service::default(),
            inside: 0,
            waiting: BTreeMap::new(),
            arrivals: 0,
        }
    }

    /// How many may be inside: enough for the replicas, and for the way to them.
    fn places(&self) -> usize {
        let Room { slots, service, .. } = self.room;
        let way = self.lead.expected().zip(service);
        let rounds = way.map_or(0.0, |(lead, service)| {
            lead.as_secs_f64() / service.as_secs_f64().max(1e-6)
        });
        let way = (slots as f64 * rounds).ceil() as usize;
        let most = self.room.slots + self.room.queued;
        (ROUNDS * slots).saturating_add(way).min(most)
    }

    fn enter(&mut self, now: Instant, deadline: Option<Instant>) -> Entry {
        if self.room.open || (self.waiting.is_empty() && self.inside < self.places()) {
            self.inside += 1;
            return Entry::Free;
        }
        if self.inside + self.waiting.len() >= self.room.slots + self.room.queued {
            return Entry::Full;
        }
        let in_time = deadline.is_none_or(|deadline| {
            let time = self.time_to_done(due(now, Some(deadline)));
            time.is_none_or(|time| now + time < deadline)
        });
        if in_time { Entry::Wait } else { Entry::Late }
    }

    /// How long one takes that is due then; the replicas are at half of what they hold.
    fn time_to_done(&self, due: Instant) -> Option<Duration> {
        let service = self.room.service?;
        let place = (due, self.arrivals);
        let before = match self.waiting.last_key_value() {
            Some((last, _)) if *last > place => self.waiting.range(..place).count(),
            _ => self.waiting.len(),
        };
        let ahead = before + self.inside.saturating_sub(self.room.slots);
        let capacity = Capacity {
            items: self.room.slots,
            soonest: service / 2,
        };
        time_to_done(service, capacity, ahead)
    }

    fn wait(&mut self, now: Instant, deadline: Option<Instant>, way: W) -> (Instant, u64) {
        let place = (due(now, deadline), self.arrivals);
        self.arrivals += 1;
        self.waiting.insert(place, way);
        place
    }

    /// The next who may enter. It counts as inside.
    fn next(&mut self) -> Option<W> {
        if !self.room.open && self.inside >= self.places() {
            return None;
        }
        let (_, way) = self.waiting.pop_first()?;
        self.inside += 1;
        Some(way)
    }

    /// Whether something has changed.
    fn set(&mut self, room: Room) -> bool {
        std::mem::replace(&mut self.room, room) != room
    }

    fn full(&self) -> NodeError {
        let waiting = (self.waiting.len() + 1) as f64;
        let each =
            self.room.service.unwrap_or_default().as_secs_f64() / self.room.slots.max(1) as f64;
        NodeError::Full {
            retry_after: rate::told(waiting * each),
        }
    }
}

fn due(now: Instant, deadline: Option<Instant>) -> Instant {
    let latest = now + HORIZON;
    deadline.map_or(latest, |deadline| deadline.min(latest))
}

#[cfg(test)]
mod tests;
