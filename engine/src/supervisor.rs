//! The owner of what runs: it waits until the file changed or somebody asks, and puts the next
//! generation in the place of the current one.
//!
//! Orders are carried out one after the other. What does not check, or does not start, changes
//! nothing: the last good generation goes on.

use crate::{
    facts,
    ingress::{Doors, Front},
    load::{self, Given, Loaded, Origin},
    locked,
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
    net::TcpListener,
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
        (front, doors): (Arc<Front>, Doors),
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
            doors,
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
                let outcome = match order {
                    Order::Plan(texts) => self.plan(texts).await,
                    order => self.carry_out(order).await,
                };
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
            Order::Plan(texts) => return self.plan(texts).await,
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

    /// Says what a reload to these texts would do. Nothing is touched.
    async fn plan(&self, texts: Vec<Given>) -> Outcome {
        let begun = Instant::now();
        let running = self.front.topology();
        let file = self.settings.file.clone();
        let main = texts.first().map(|given| given.path.clone());
        let load = move || {
            let main = main.unwrap_or_default();
            load::load_from(Origin::Given(texts), &main, facts::gather(&file))
        };
        let result = match tokio::task::spawn_blocking(load).await {
            Ok(Ok(loaded)) => {
                let unbuilt = unbuilt(&loaded.program);
                match unbuilt.is_empty() {
                    true => Ok(graphs::plan(running.program(), &loaded.program, capacity())),
                    false => Err(drawn(&unbuilt, &loaded.sources)),
                }
            }
            Ok(Err(rejected)) => Err(drawn(&rejected.diagnostics, &rejected.sources)),
            Err(error) => Err(vec![format!("the file cannot be read: {error}")]),
        };
        let mut outcome = match result {
            Ok(plan) => Outcome {
                plan: plan.to_string(),
                ..Outcome::done(running.generation(), Some(plan.counts()))
            },
            Err(problems) => Outcome::refused(running.generation(), problems),
        };
        outcome.millis = begun.elapsed().as_millis() as u64;
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
        let mut loaded = match loaded {
            Ok(loaded) => loaded,
            Err(rejected) => {
                self.watch = reload::watch(&rejected.sources, &rejected.missing);
                return Err(drawn(&rejected.diagnostics, &rejected.sources));
            }
        };
        let locked = self.take_lock(&mut loaded);
        self.watch = reload::watch(&loaded.sources, &[]);
        let unbuilt = unbuilt(&loaded.program);
        if !unbuilt.is_empty() {
            return Err(drawn(&unbuilt, &loaded.sources));
        }
        locked?;
        self.change_to(Arc::new(loaded.program)).await
    }

    /// Reads the lock again, which may have changed with the file. What is loaded stays as it is.
    fn take_lock(&self, loaded: &mut Loaded) -> Result<(), Vec<String>> {
        let binding = self.settings.locked;
        let (lock, problems) = locked::read(&self.settings.file, loaded, binding);
        if problems.iter().any(Diagnostic::is_error) {
            return Err(drawn(&problems, &loaded.sources));
        }
        for problem in &problems {
            warn!(code = problem.code, "{}", problem.message);
        }
        self.fetcher.use_lock(lock, binding);
        Ok(())
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
        let doors = self.open(&plan, &program).await?;
        self.refuse(&plan, &program, &doors)?;
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
        next.adjust_pools();
        // Requests that run hold what they began on; it ends with the last of them.
        let before = self.front.publish(next);
        self.hand_over(doors);
        before.retire(&plan);
        drop((running, before));
        self.catalog = catalog;
        self.history.push_back((self.next, program));
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.next += 1;
        Ok(Some(plan))
    }

    /// Opens the sockets that are new. Nobody is served there before the generation is published.
    async fn open(&self, plan: &Plan, program: &Program) -> Result<Opened, Vec<String>> {
        let (settings, server) = (&self.settings, program.server());
        let mut opened = Opened::default();
        let mut problems = Vec::new();
        for (what, step, own, address, socket) in [
            (
                "listen",
                &plan.listen,
                settings.own_listen,
                &server.listen,
                &mut opened.public,
            ),
            (
                "admin",
                &plan.admin,
                settings.own_admin,
                &server.admin,
                &mut opened.admin,
            ),
        ] {
            if *step == Step::Keep || own {
                continue;
            }
            match TcpListener::bind(address.expose()).await {
                Ok(listener) => *socket = Some(listener),
                Err(error) => {
                    problems.push(format!("`{what}`: cannot listen on {}: {error}", **address));
                }
            }
        }
        match problems.is_empty() {
            true => Ok(opened),
            false => Err(problems),
        }
    }

    /// Lets requests in at the new sockets and closes the old ones.
    fn hand_over(&mut self, opened: Opened) {
        let address = |listener: &TcpListener| listener.local_addr().map(|it| it.to_string());
        if let Some(listener) = opened.public {
            self.settings.public = is_public(&listener);
            let listen = address(&listener).unwrap_or_default();
            info!(listen, "taking requests in at another address");
            self.doors.open_public(listener);
        }
        if let Some(listener) = opened.admin {
            let admin = address(&listener).unwrap_or_default();
            info!(admin, "serving operators at another address");
            self.doors.open_admin(listener);
        }
    }

    /// What a running engine cannot do, and must not.
    fn refuse(&self, plan: &Plan, program: &Program, opened: &Opened) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        let public = opened
            .public
            .as_ref()
            .map_or(self.settings.public, is_public);
        if public && program.server().api_keys.is_empty() {
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

/// Sockets that are open and that nobody serves yet.
#[derive(Default)]
struct Opened {
    public: Option<TcpListener>,
    admin: Option<TcpListener>,
}

/// Whether other machines can ask there.
fn is_public(listener: &TcpListener) -> bool {
    let address = listener.local_addr();
    address.map_or(true, |address| !address.ip().is_loopback())
}

/// What plans may count on here.
pub fn capacity() -> Capacity {
    Capacity {
        adjusts_pools: true,
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
