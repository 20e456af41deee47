//! The owner of what runs: it waits until the file changed, somebody asks, or it is time to look at a
//! rollout, and puts the next generation in the place of the current one.
//!
//! Orders are carried out one after the other. What does not check, or does not start, changes
//! nothing: the last good generation goes on. The files are the steps: `sight` (from files to a
//! program), `change` (from a program to a generation), `pause` (where two do not fit side by side),
//! `rollout` (from a generation that is started to one that is served, which `under_way` counts),
//! `sockets`.

mod change;
mod pause;
mod rollout;
mod sight;
mod signals;
mod sockets;
mod under_way;

use crate::{
    content,
    ingress::{Doors, Front},
    progress::Bars,
    reload::{self, Control, Order, Ordered, Outcome, watch::Decision, watch::Watch},
    report,
    startup::StartupError,
};
use change::Way;
use graphs::{Plan, Program, plan::Capacity};
use nodes::{StandardCatalog, source::Fetcher};
use rollout::Standby;
use schema::Sources;
use signals::Hangups;
use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tracing::{info, warn};
use under_way::Rollout;

/// How often files are looked at. A change is loaded at the second look that finds it.
const LOOK: Duration = Duration::from_millis(50);

/// How often a rollout is judged.
const TICK: Duration = Duration::from_millis(100);

/// How many generations can be gone back to.
const HISTORY: usize = 16;

/// What a supervisor goes by.
#[derive(Debug)]
pub struct Settings {
    /// The file.
    pub file: PathBuf,
    /// Whether a changed file is loaded without being asked.
    pub watch: bool,
    /// Whether nothing is taken but what the lock has.
    pub locked: bool,
    /// Whether requests come in at an address of the command line, and not at the file's.
    pub own_listen: bool,
    /// The same for `admin`.
    pub own_admin: bool,
    /// Whether requests come in from other machines too, so that a key is needed.
    pub public: bool,
    /// Whether a person reads standard error: problems are drawn there then, and not in the log.
    pub human: bool,
}

/// The owner of what runs.
pub struct Supervisor {
    settings: Settings,
    front: Arc<Front>,
    doors: Doors,
    control: Arc<Control>,
    orders: mpsc::Receiver<Ordered>,
    catalog: Arc<StandardCatalog>,
    fetcher: Arc<Fetcher>,
    bars: Bars,
    watch: Watch,
    looks: Interval,
    ticks: Interval,
    hangups: Hangups,
    history: VecDeque<(u64, Arc<Program>)>,
    next: u64,
    rollout: Option<Rollout>,
    standby: Option<Standby>,
}

enum Event {
    /// Files were looked at.
    Looked(Vec<reload::watch::Seen>),
    /// Somebody asks.
    Ordered(Ordered),
    /// SIGHUP.
    HungUp,
    /// It is time to look at a rollout.
    Ticked,
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    /// What became of the parts; none if nothing did.
    plan: Option<Plan>,
    /// What became of a rollout, in words.
    rollout: String,
}

/// What kept it from being done, one text each.
type Problems = Vec<String>;

impl Supervisor {
    /// Takes over what was started: `front` serves what `catalog` was made for, from `sources`.
    pub fn new(
        settings: Settings,
        (front, doors): (Arc<Front>, Doors),
        (control, orders): (Arc<Control>, mpsc::Receiver<Ordered>),
        (catalog, fetcher): (Arc<StandardCatalog>, Arc<Fetcher>),
        sources: &Sources,
    ) -> Self {
        let topology = front.topology();
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let generation = topology.generation();
        let program = topology.program();
        Self {
            settings,
            history: VecDeque::from([(generation, Arc::clone(program))]),
            next: generation + 1,
            watch: reload::watch(sources, &[], &content::seen_of(program)),
            front,
            doors,
            control,
            orders,
            catalog,
            fetcher,
            bars: Bars::default(),
            looks: every(LOOK),
            ticks: every(TICK),
            hangups: Hangups::new(),
            rollout: None,
            standby: None,
        }
    }

    /// Works until it is dropped.
    pub async fn run(mut self) {
        loop {
            let event = self.next().await;
            self.apply(event).await;
        }
    }

    async fn next(&mut self) -> Event {
        let ticks = self.rollout.is_some() || self.standby.is_some();
        loop {
            tokio::select! {
                Some(ordered) = self.orders.recv() => return Event::Ordered(ordered),
                () = self.hangups.next() => return Event::HungUp,
                _ = self.ticks.tick(), if ticks => return Event::Ticked,
                _ = self.looks.tick(), if self.settings.watch => {
                    if let Some(seen) = self.look().await {
                        return Event::Looked(seen);
                    }
                }
            }
        }
    }

    async fn apply(&mut self, event: Event) {
        match event {
            Event::Looked(seen) => {
                if self.watch.decide(seen) == Decision::Load {
                    self.carry_out(Order::Reload).await;
                }
            }
            Event::HungUp => {
                self.carry_out(Order::Reload).await;
            }
            Event::Ordered(Ordered { order, reply }) => {
                let outcome = self.carry_out(order).await;
                // Who asked may have left.
                let _ = reply.send(outcome);
            }
            Event::Ticked => self.tick(Instant::now()),
        }
    }

    async fn carry_out(&mut self, order: Order) -> Outcome {
        let begun = Instant::now();
        let reloads = matches!(order, Order::Reload | Order::Rollback(_));
        let result = match order {
            Order::Reload => self.reload().await,
            Order::Rollback(wanted) => self.roll_back(wanted).await,
            Order::Promote => self.promote_now(),
            Order::Abort => self.abort_now(),
            Order::Plan(texts) => return self.plan(texts).await,
        };
        let generation = self.front.topology().generation();
        let mut outcome = match result {
            Ok(done) => Outcome {
                rollout: done.rollout,
                ..Outcome::done(generation, done.plan.map(|plan| plan.counts()))
            },
            Err(problems) => Outcome::refused(generation, problems),
        };
        outcome.millis = begun.elapsed().as_millis() as u64;
        if reloads {
            self.front.metrics().reloaded(outcome.ok);
        }
        self.control.note(&outcome);
        self.report(&outcome);
        outcome
    }

    /// Says what came of an order.
    fn report(&self, outcome: &Outcome) {
        let (generation, nodes, millis) = (outcome.generation, &outcome.nodes, outcome.millis);
        match outcome.ok {
            true if !outcome.rollout.is_empty() => {
                info!(
                    generation,
                    nodes,
                    millis,
                    rollout = outcome.rollout,
                    "rollout"
                );
            }
            true if nodes.is_empty() => info!(generation, "nothing changes"),
            true => info!(generation, nodes, millis, "published generation"),
            false => self.report_problems(generation, &outcome.problems),
        }
    }

    /// Says why what runs goes on.
    fn report_problems(&self, generation: u64, problems: &[String]) {
        let text = problems.join("\n\n");
        if self.settings.human {
            eprintln!("\n{text}\n");
            let problems = problems.len();
            warn!(
                generation,
                problems, "cannot reload; the last good generation goes on"
            );
        } else {
            warn!(
                generation,
                problems = text,
                "cannot reload; the last good generation goes on"
            );
        }
    }
}

/// What plans may count on here.
pub fn capacity() -> Capacity {
    Capacity {
        adjusts_pools: true,
        memory: Some(crate::load::machine().memory),
    }
}

/// An error with its causes; one text for each node.
fn texts(error: StartupError) -> Problems {
    match error {
        StartupError::Nodes(errors) => errors.iter().map(|error| report::chain(error)).collect(),
        error => vec![report::chain(&error)],
    }
}
