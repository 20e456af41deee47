//! The loop of a simulation: events in the order of their times, and what each changes.

use super::{
    NoRoom, Record, Scenario,
    agenda::Agenda,
    random::Random,
    record::{Ended, How},
    service,
    station::{ItemId, Station},
    timeline,
};
use crate::pool::{Ledger, Rehearsal};
use graphs::{Expression, Graph, GraphNode, Next, NodeIx, Outcome, Ready, Root, Walk};
use schema::Work;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

type RequestId = u64;
type BatchId = u64;

enum Event {
    /// The next request comes.
    Arrives,
    /// A batch is done.
    Done(BatchId),
    /// A replica can work.
    Joins(NodeIx),
    /// The number of replicas is thought about.
    Tick(NodeIx),
    /// A batch has waited for more long enough.
    Wakes(NodeIx),
    /// The time of a request is over.
    Expires(RequestId),
    /// The time that a node gives an item is over.
    ItemExpires(ItemId),
}

/// Everything there is.
pub(super) struct World<'a> {
    graph: &'a Graph,
    agenda: Agenda<Event>,
    arrivals: std::vec::IntoIter<Duration>,
    stations: Vec<Option<Station>>,
    requests: HashMap<RequestId, Request<'a>>,
    items: HashMap<ItemId, Item>,
    batches: HashMap<BatchId, Batch>,
    random: Random,
    /// The last number that was given to a request, an item or a batch.
    count: u64,
    record: Record,
}

/// A request under way.
struct Request<'a> {
    arrived: Duration,
    deadline: Duration,
    walk: Walk<'a>,
    turns: Vec<Turn>,
}

/// A node's turn in a request.
struct Turn {
    node: NodeIx,
    /// Elements that nobody has been asked for yet.
    unasked: u32,
    items: Vec<ItemId>,
}

/// An item that somebody waits for.
struct Item {
    request: RequestId,
    node: NodeIx,
    cost: u64,
    since: Duration,
    batch: Option<BatchId>,
}

struct Batch {
    node: NodeIx,
    replica: u64,
    size: usize,
    /// Those that somebody still waits for.
    items: Vec<ItemId>,
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &Scenario<'a>) -> Result<Self, NoRoom> {
        let ledger = Ledger::new(scenario.machine);
        let trace_end = scenario.trace.end();
        let step = timeline::step(trace_end) / timeline::FINE;
        let nodes = scenario.graph.nodes();
        let stations = nodes.map(|node| Station::of(scenario, node, (&ledger, step)));
        let stations: Vec<_> = stations.collect::<Result<_, _>>()?;
        Ok(Self {
            graph: scenario.graph,
            agenda: Agenda::new(),
            arrivals: scenario.trace.arrivals(scenario.spacing).into_iter(),
            stations,
            requests: HashMap::new(),
            items: HashMap::new(),
            batches: HashMap::new(),
            random: Random::new(scenario.seed ^ 0x5eed),
            count: 0,
            record: Record {
                graph: scenario.graph.id().as_str().to_owned(),
                trace_end,
                end: trace_end,
                step,
                requests: Vec::new(),
                nodes: Vec::new(),
                notes: service::unstated(scenario),
            },
        })
    }

    pub(super) fn run(mut self) -> Record {
        self.expect_arrival();
        for (ix, _) in self.graph.nodes() {
            if self
                .station(ix)
                .is_some_and(|station| station.pool.scales())
            {
                self.agenda.put(Rehearsal::<ItemId>::TICK, Event::Tick(ix));
            }
        }
        while let Some((now, event)) = self.agenda.take() {
            let over = self.requests.is_empty() && !matches!(event, Event::Arrives);
            if over && self.arrivals.as_slice().is_empty() && now >= self.record.trace_end {
                break;
            }
            self.apply(event, now);
            self.record.end = self.record.end.max(now);
        }
        let end = self.record.end;
        let stations = self.stations.into_iter().flatten();
        self.record.nodes = stations.map(|station| station.into_record(end)).collect();
        self.record
    }

    fn apply(&mut self, event: Event, now: Duration) {
        match event {
            Event::Arrives => {
                self.expect_arrival();
                self.begin(now);
            }
            Event::Done(batch) => self.done(batch, now),
            Event::Joins(node) => {
                if let Some(station) = self.station(node) {
                    station.pool.join();
                }
                self.dispatch(node, now);
            }
            Event::Tick(node) => {
                if let Some(station) = self.station(node) {
                    station.pool.tick(now);
                }
                self.agenda
                    .put(now + Rehearsal::<ItemId>::TICK, Event::Tick(node));
                self.dispatch(node, now);
            }
            Event::Wakes(node) => self.dispatch(node, now),
            Event::Expires(request) => self.end(request, How::Late, now),
            Event::ItemExpires(item) => self.expire(item, now),
        }
    }

    fn station(&mut self, node: NodeIx) -> Option<&mut Station> {
        self.stations[node.index()].as_mut()
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// The next arrival is put on the agenda when the one before it comes.
    fn expect_arrival(&mut self) {
        if let Some(at) = self.arrivals.next() {
            self.agenda.put(at, Event::Arrives);
        }
    }

    /// A request comes.
    fn begin(&mut self, now: Duration) {
        let id = self.number();
        let mut walk = Walk::new(self.graph);
        let (ready, over) = (walk.start(), walk.is_over());
        let deadline = now + self.graph.timeout();
        let request = Request {
            arrived: now,
            deadline,
            walk,
            turns: Vec::new(),
        };
        self.requests.insert(id, request);
        self.agenda.put(deadline, Event::Expires(id));
        match over {
            true => self.end(id, How::Answered, now),
            false => self.proceed(id, ready, now),
        }
    }

    /// Begins the turns of nodes that are ready, and of those that become ready by it.
    fn proceed(&mut self, id: RequestId, ready: Ready, now: Duration) {
        let mut ready: VecDeque<NodeIx> = ready.into_iter().collect();
        while let Some(node) = ready.pop_front() {
            let Some((outcome, how)) = self.turn(id, node, now) else {
                continue;
            };
            match self.finish(id, node, (outcome, how), now) {
                Some(more) => ready.extend(more),
                None => return,
            }
        }
    }

    /// A node's turn: how it ended, unless it takes time. A failure says why.
    fn turn(&mut self, id: RequestId, ix: NodeIx, now: Duration) -> Option<(Outcome, How)> {
        let request = self.requests.get_mut(&id)?;
        let node = self.graph.node(ix);
        let done = Some((Outcome::Done, How::Answered));
        let skipped = Some((Outcome::Skipped, How::Answered));
        if !is_fed(node, &request.walk) {
            return skipped;
        }
        let Some(station) = &mut self.stations[ix.index()] else {
            return done;
        };
        let share = station.assumed.share;
        if share < 1.0 && self.random.share() >= share {
            return skipped;
        }
        let each = node.each.as_ref();
        let elements = each.map_or(1, |_| station.assumed.each);
        let width = each.map_or(1, |each| each.width.max(1));
        if elements == 0 {
            return done;
        }
        request.turns.push(Turn {
            node: ix,
            unasked: elements,
            items: Vec::new(),
        });
        for _ in 0..elements.min(u32::try_from(width).unwrap_or(u32::MAX)) {
            if !self.ask(id, ix, now) {
                return Some((Outcome::Failed, How::Refused));
            }
        }
        None
    }

    /// Sends the next element of a turn to the node's pool. Whether it was let in.
    fn ask(&mut self, id: RequestId, ix: NodeIx, now: Duration) -> bool {
        let number = self.number();
        let Some(station) = &mut self.stations[ix.index()] else {
            return true;
        };
        let Some(request) = self.requests.get_mut(&id) else {
            return true;
        };
        let turns = &mut request.turns;
        if let Some(turn) = turns.iter_mut().find(|turn| turn.node == ix) {
            turn.unasked -= 1;
            turn.items.push(number);
        }
        let (low, high) = station.assumed.cost;
        let cost = match low < high {
            true => self.random.between(low, high),
            false => low,
        };
        let own = station.pool.timeout().map(|timeout| now + timeout);
        let deadline = own.map_or(request.deadline, |own| own.min(request.deadline));
        let item = Item {
            request: id,
            node: ix,
            cost,
            since: now,
            batch: None,
        };
        self.items.insert(number, item);
        station.record.items += 1;
        let items = &self.items;
        let wanted = |item: &ItemId| items.contains_key(item);
        if !station.pool.admit(now, (deadline, cost), number, wanted) {
            station.record.refused += 1;
            self.items.remove(&number);
            return false;
        }
        if let Some(own) = own.filter(|own| *own < request.deadline) {
            self.agenda.put(own, Event::ItemExpires(number));
        }
        self.dispatch(ix, now);
        true
    }

    /// Brings a pool's replicas up to date and gives them what waits.
    fn dispatch(&mut self, ix: NodeIx, now: Duration) {
        let Some(station) = &mut self.stations[ix.index()] else {
            return;
        };
        for _ in 0..station.pool.settle() {
            let ready = now + station.assumed.startup;
            self.agenda.put(ready, Event::Joins(ix));
        }
        let mut wake = None;
        loop {
            let items = &self.items;
            let wanted = |item: &ItemId| items.contains_key(item);
            let Some(begun) = station.pool.begin(now, wanted, &mut wake) else {
                break;
            };
            self.count += 1;
            let number = self.count;
            let mut cost = 0;
            for item in &begun.items {
                let Some(item) = self.items.get_mut(item) else {
                    continue;
                };
                cost += item.cost;
                item.batch = Some(number);
                station.record.waits.push(now - item.since);
            }
            station.record.batches += 1;
            station.record.batched += begun.items.len() as u64;
            let took = station.assumed.service.of(begun.ongoing, cost);
            self.agenda.put(now + took, Event::Done(number));
            let batch = Batch {
                node: ix,
                replica: begun.replica,
                size: begun.items.len(),
                items: begun.items,
            };
            self.batches.insert(number, batch);
        }
        if let Some(wake) = wake {
            self.agenda.put(wake, Event::Wakes(ix));
        }
        station.mark(now);
    }

    /// A batch is done: its replica goes on, and then its callers.
    fn done(&mut self, id: BatchId, now: Duration) {
        let Some(batch) = self.batches.remove(&id) else {
            // Given up, because nobody waited for it any more.
            return;
        };
        self.free(&batch, now);
        for item in batch.items {
            self.answered(item, now);
        }
    }

    fn free(&mut self, batch: &Batch, now: Duration) {
        if let Some(station) = self.station(batch.node) {
            station.pool.freed(batch.replica, batch.size);
        }
        self.dispatch(batch.node, now);
    }

    fn answered(&mut self, id: ItemId, now: Duration) {
        let Some(item) = self.items.remove(&id) else {
            return;
        };
        let (request, ix) = (item.request, item.node);
        let Some(turn) = self.turn_of(request, ix) else {
            return;
        };
        turn.items.retain(|other| *other != id);
        let (unasked, is_over) = (turn.unasked, turn.unasked == 0 && turn.items.is_empty());
        if unasked > 0 && !self.ask(request, ix, now) {
            self.settle(request, ix, (Outcome::Failed, How::Refused), now);
        } else if is_over {
            self.settle(request, ix, (Outcome::Done, How::Answered), now);
        }
    }

    fn turn_of(&mut self, request: RequestId, ix: NodeIx) -> Option<&mut Turn> {
        let turns = &mut self.requests.get_mut(&request)?.turns;
        turns.iter_mut().find(|turn| turn.node == ix)
    }

    /// The time that a node gives an item is over.
    fn expire(&mut self, id: ItemId, now: Duration) {
        if let Some(item) = self.items.get(&id) {
            let (request, ix) = (item.request, item.node);
            if let Some(station) = self.station(ix) {
                station.record.late += 1;
            }
            self.settle(request, ix, (Outcome::Failed, How::Late), now);
        }
    }

    /// A turn that took time has ended.
    fn settle(&mut self, id: RequestId, ix: NodeIx, ended: (Outcome, How), now: Duration) {
        if let Some(ready) = self.finish(id, ix, ended, now) {
            self.proceed(id, ready, now);
        }
    }

    /// Takes note of how a turn ended; what is ready then, unless the request is over.
    fn finish(
        &mut self,
        id: RequestId,
        ix: NodeIx,
        (outcome, how): (Outcome, How),
        now: Duration,
    ) -> Option<Ready> {
        let turns = &mut self.requests.get_mut(&id)?.turns;
        let place = turns.iter().position(|turn| turn.node == ix);
        let turn = place.map(|place| turns.swap_remove(place));
        for item in turn.into_iter().flat_map(|turn| turn.items) {
            self.leave(item, now);
        }
        let request = self.requests.get_mut(&id)?;
        let mut next = request.walk.finish(ix, outcome);
        if next == Next::StandIn {
            next = request.walk.finish(ix, Outcome::Done);
        }
        let over = request.walk.is_over();
        match next {
            Next::Run(ready) if !over => return Some(ready),
            Next::Run(_) => self.end(id, How::Answered, now),
            Next::StandIn | Next::Failed(_) => self.end(id, how, now),
        }
        None
    }

    /// Nobody waits for an item any more. A batch that only held such is given up.
    fn leave(&mut self, id: ItemId, now: Duration) {
        let Some(number) = self.items.remove(&id).and_then(|item| item.batch) else {
            return;
        };
        let Some(batch) = self.batches.get_mut(&number) else {
            return;
        };
        batch.items.retain(|other| *other != id);
        if batch.items.is_empty()
            && let Some(batch) = self.batches.remove(&number)
        {
            self.free(&batch, now);
        }
    }

    /// A request is over.
    fn end(&mut self, id: RequestId, how: How, now: Duration) {
        let Some(request) = self.requests.remove(&id) else {
            return;
        };
        for turn in request.turns {
            for item in turn.items {
                if how == How::Late
                    && let Some(station) = self.station(turn.node)
                {
                    station.record.late += 1;
                }
                self.leave(item, now);
            }
        }
        self.record.requests.push(Ended {
            arrived: request.arrived,
            took: now - request.arrived,
            how,
        });
    }
}

/// Whether a node has what it needs: a merge one of its sources, another the results that its
/// required ports are.
fn is_fed(node: &GraphNode, walk: &Walk<'_>) -> bool {
    if matches!(node.decl.work, Work::Merge(_)) {
        return node.from.iter().any(|from| walk.ran(*from));
    }
    node.ports
        .iter()
        .filter(|port| port.required)
        .all(|port| match &port.expression {
            Expression::Path(path) => match path.root {
                Root::Node(read) => walk.ran(read),
                _ => true,
            },
            _ => true,
        })
}
