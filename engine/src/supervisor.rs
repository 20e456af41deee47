//! The owner of what runs: it waits until the file changed or somebody asks, and puts the next
//! generation in the place of the current one.
//!
//! Orders are carried out one after the other. What does not check, or does not start, changes
//! nothing: the last good generation goes on.

use crate::{
    facts,
    ingress::Front,
    load,
    progress::Bars,
    reload::{self, Control, Order, Ordered, Outcome, watch::Decision, watch::Watch},
    report::{self, Style},
    startup::{self, StartupError},
    topology::{Topology, unbuilt},
};
use graphs::{
    Plan, Program,
    plan::{Capacity, Handover, Step},
};
use nodes::{Catalog, StandardCatalog, source::Fetcher};
use schema::{Diagnostic, Sources};
use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tracing::{info, warn};

/// How often files are looked at. A change is loaded at the second look that finds it.
const LOOK: Duration = Duration::from_millis(50);

/// How many generations can be gone back to.
const HISTORY: usize = 16;

/// What a supervisor goes by.
#[derive(Debug)]
pub struct Settings {
    /// The file.
    pub file: PathBuf,
    /// Whether a changed file is loaded without being asked.
    pub watch: bool,
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
    control: Arc<Control>,
    orders: mpsc::Receiver<Ordered>,
    catalog: Arc<StandardCatalog>,
    fetcher: Arc<Fetcher>,
    bars: Bars,
    watch: Watch,
    looks: Interval,
    hangups: Hangups,
    history: VecDeque<(u64, Arc<Program>)>,
    next: u64,
}

enum Event {
    /// Files were looked at.
    Looked(Vec<reload::watch::Seen>),
    /// Somebody asks.
    Ordered(Ordered),
    /// SIGHUP.
    HungUp,
}

impl Supervisor {
    /// Takes over what was started: `front` serves what `catalog` was made for, from `sources`.
    pub fn new(
        settings: Settings,
        front: Arc<Front>,
        (control, orders): (Arc<Control>, mpsc::Receiver<Ordered>),
        (catalog, fetcher): (Arc<StandardCatalog>, Arc<Fetcher>),
        sources: &Sources,
    ) -> Self {
        let topology = front.topology();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let generation = topology.generation();
        Self {
            settings,
            history: VecDeque::from([(generation, Arc::clone(topology.program()))]),
            next: generation + 1,
            front,
            control,
            orders,
            catalog,
            fetcher,
            bars: Bars::default(),
            watch: reload::watch(sources, &[]),
            looks,
            hangups: Hangups::new(),
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
        loop {
            tokio::select! {
                Some(ordered) = self.orders.recv() => return Event::Ordered(ordered),
                () = self.hangups.next() => return Event::HungUp,
                _ = self.looks.tick(), if self.settings.watch => {
                    let paths: Vec<_> = self.watch.paths().cloned().collect();
                    let look = move || paths.iter().map(|path| reload::look(path)).collect();
                    if let Ok(seen) = tokio::task::spawn_blocking(look).await {
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
        }
    }

    async fn carry_out(&mut self, order: Order) -> Outcome {
        let begun = Instant::now();
        let result = match order {
            Order::Reload => self.reload().await,
            Order::Rollback(wanted) => self.roll_back(wanted).await,
        };
        let generation = self.front.topology().generation();
        let mut outcome = match result {
            Ok(plan) => Outcome::done(generation, plan.map(|plan| plan.counts())),
            Err(problems) => Outcome::refused(generation, problems),
        };
        outcome.millis = begun.elapsed().as_millis() as u64;
        self.front.metrics().reloaded(outcome.ok);
        self.control.note(&outcome);
        match outcome.ok {
            true if outcome.nodes.is_empty() => info!(generation, "nothing changes"),
            true => info!(
                generation,
                nodes = outcome.nodes,
                millis = outcome.millis,
                "published generation"
            ),
            false => self.report(&outcome),
        }
        outcome
    }

    /// Says why what runs goes on.
    fn report(&self, outcome: &Outcome) {
        let (generation, problems) = (outcome.generation, &outcome.problems);
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

    /// Loads the file and puts it in the place of what runs. `None` if nothing changes.
    async fn reload(&mut self) -> Result<Option<Plan>, Vec<String>> {
        let file = self.settings.file.clone();
        let load = move || load::load(&file, facts::gather(&file));
        let loaded = tokio::task::spawn_blocking(load).await;
        let loaded = loaded.map_err(|error| vec![format!("the file cannot be read: {error}")])?;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(rejected) => {
                self.watch = reload::watch(&rejected.sources, &rejected.missing);
                return Err(drawn(&rejected.diagnostics, &rejected.sources));
            }
        };
        self.watch = reload::watch(&loaded.sources, &[]);
        let unbuilt = unbuilt(&loaded.program);
        if !unbuilt.is_empty() {
            return Err(drawn(&unbuilt, &loaded.sources));
        }
        self.change_to(Arc::new(loaded.program)).await
    }

    async fn roll_back(&mut self, wanted: Option<u64>) -> Result<Option<Plan>, Vec<String>> {
        let current = self.front.topology().generation();
        let mut earlier = self.history.iter().rev();
        let found = match wanted {
            Some(wanted) => earlier.find(|(generation, _)| *generation == wanted),
            None => earlier.find(|(generation, _)| *generation < current),
        };
        let Some((_, program)) = found else {
            let known: Vec<_> = self.history.iter().map(|(n, _)| n.to_string()).collect();
            let known = known.join(", ");
            return Err(vec![format!("no such generation; there are {known}")]);
        };
        self.change_to(Arc::clone(program)).await
    }

    /// Starts what is new, publishes, and lets go of what is old.
    async fn change_to(&mut self, program: Arc<Program>) -> Result<Option<Plan>, Vec<String>> {
        let running = self.front.topology();
        let plan = graphs::plan(running.program(), &program, capacity());
        if plan.is_empty() {
            return Ok(None);
        }
        self.refuse(&plan, &program)?;
        let base_dir = facts::base_dir(&self.settings.file);
        let catalog = Arc::new(StandardCatalog::new(
            program.models(),
            program.indexes(),
            &base_dir,
            &self.fetcher,
            Some(&self.catalog),
        ));
        startup::build_indexes(&catalog, &self.bars)
            .await
            .map_err(texts)?;
        let next = Topology::after(
            self.next,
            Arc::clone(&program),
            (&plan, &running),
            Arc::clone(&catalog) as Arc<dyn Catalog>,
            self.front.metrics(),
        );
        let next = next
            .await
            .map_err(|errors| texts(StartupError::Nodes(errors)))?;
        // Requests that run hold what they began on; it ends with the last of them.
        drop(self.front.publish(next));
        self.catalog = catalog;
        self.history.push_back((self.next, program));
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.next += 1;
        Ok(Some(plan))
    }

    /// What a running engine cannot do, and must not.
    fn refuse(&self, plan: &Plan, program: &Program) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        let settings = &self.settings;
        let sockets = [
            ("listen", &plan.listen, settings.own_listen),
            ("admin", &plan.admin, settings.own_admin),
        ];
        for (what, step, own) in sockets {
            if *step != Step::Keep && !own {
                reasons.push(format!("`{what}` changed: that takes a restart"));
            }
        }
        if settings.public && program.server().api_keys.is_empty() {
            reasons.push("other machines can ask, and the file has no `api-key`".to_owned());
        }
        let nodes = plan.graphs.iter().flat_map(|graph| &graph.nodes);
        let pauses = nodes.filter(|node| {
            matches!(
                node.step,
                Step::Replace {
                    handover: Handover::Pause,
                    ..
                }
            )
        });
        reasons.extend(pauses.map(|node| {
            format!(
                "`{}` does not fit into memory twice: that takes a restart",
                node.id
            )
        }));
        match reasons.is_empty() {
            true => Ok(()),
            false => Err(reasons),
        }
    }
}

/// What plans may count on here.
pub fn capacity() -> Capacity {
    Capacity {
        adjusts_pools: false,
        memory: Some(load::machine().memory),
    }
}

/// Errors as `engine check` draws them, without colours.
fn drawn(diagnostics: &[Diagnostic], sources: &Sources) -> Vec<String> {
    let style = Style {
        colours: false,
        width: 100,
    };
    let errors = diagnostics.iter().filter(|one| one.is_error());
    let texts = errors.map(|one| report::human(std::slice::from_ref(one), sources, style));
    texts.map(|text| text.trim_end().to_owned()).collect()
}

/// An error with its causes; one text for each node.
fn texts(error: StartupError) -> Vec<String> {
    match error {
        StartupError::Nodes(errors) => errors.iter().map(|error| report::chain(error)).collect(),
        error => vec![report::chain(&error)],
    }
}

/// SIGHUP, where there is one.
struct Hangups {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self {
            signal: signal(SignalKind::hangup()).ok(),
        }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
