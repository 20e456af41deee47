//! `engine run`: serve the graphs of a file.

use super::{Failure, chain, terminal};
use clap::ValueEnum;
use engine::{
    facts,
    ingress::{Connections, Doors, Front, serve},
    locked,
    metrics::Metrics,
    progress::Bars,
    reload::Control,
    startup::{self, StartupError},
    supervisor::{Settings, Supervisor},
    topology::Topology,
};
use graphs::Program;
use nodes::StandardCatalog;
use schema::{ByteSize, Lock, Sources};
use std::{
    io::IsTerminal,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Runtime, time::Instant};
use tracing::info;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Serve the graphs of a file over HTTP.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The file.
    file: PathBuf,
    /// Where to take requests, instead of the file's `listen`.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where to serve metrics and status, instead of the file's `admin`.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Fetch nothing: use models that are on this machine.
    #[arg(long)]
    offline: bool,
    /// Take nothing but what the lock beside the file has, as it has it.
    #[arg(long)]
    locked: bool,
    /// Load a changed file only when asked: SIGHUP, `engine reload`.
    #[arg(long)]
    no_watch: bool,
    #[command(flatten)]
    log: Log,
}

/// What is logged and how.
#[derive(Debug, clap::Args)]
pub struct Log {
    /// Least severe level that is logged, as in `debug` or `engine=debug`.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "ENGINE_LOG")]
    log: String,
    /// How log lines look; `auto` is readable on a terminal and JSON elsewhere.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Auto,
    Human,
    Json,
}

impl Log {
    /// Starts logging to standard error. Whether lines are for a person.
    pub fn start(&self) -> Result<bool, Failure> {
        let filter = self.filter()?;
        let terminal = std::io::stderr().is_terminal();
        let human = match self.log_format {
            LogFormat::Auto => terminal,
            LogFormat::Human => true,
            LogFormat::Json => false,
        };
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        match human {
            true => lines
                .with_ansi(terminal)
                .with_target(false)
                .compact()
                .init(),
            false => lines.json().flatten_event(true).init(),
        }
        Ok(human)
    }

    fn filter(&self) -> Result<EnvFilter, Failure> {
        let wrong = |reason: String| Failure::usage(format!("--log {:?}: {reason}", self.log));
        // The filter takes a word that is no level for the name of a part, and logs nothing else.
        let words = self.log.split(',').map(str::trim);
        let mut levels = words.filter(|word| !word.contains(['=', '[']));
        if let Some(word) = levels.find(|word| word.parse::<LevelFilter>().is_err()) {
            return Err(wrong(format!(
                "{word:?} is no level; levels are off, error, warn, info, debug and trace"
            )));
        }
        EnvFilter::try_new(&self.log).map_err(|error| wrong(error.to_string()))
    }
}

/// A runtime with this many workers.
pub fn runtime(workers: usize) -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.max(1))
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format!("cannot start the runtime: {error}")))
}

impl Run {
    pub fn execute(self) -> Result<(), Failure> {
        let human = self.log.start()?;
        let mut loaded = terminal::load_to_run(&self.file)?;
        let lock = terminal::lock(&self.file, &mut loaded, self.locked)?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let program = Arc::new(loaded.program);
        let sources = loaded.sources;
        runtime(workers)?.block_on(self.serve(program, &sources, lock, human))
    }

    async fn serve(
        self,
        program: Arc<Program>,
        sources: &Sources,
        lock: Option<Lock>,
        human: bool,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let server = program.server();
        let listen = self.listen.as_deref().unwrap_or(server.listen.expose());
        let admin = self.admin.as_deref().unwrap_or(server.admin.expose());
        refuse_open_door(listen, !server.api_keys.is_empty())?;
        // Bound before models are loaded: a taken port should not cost a minute.
        let (public, admin) = (bind(listen).await?, bind(admin).await?);
        let bars = Bars::default();
        let base_dir = facts::base_dir(&self.file);
        let fetcher = startup::fetcher(&base_dir, self.offline, &bars);
        fetcher.use_lock(lock.clone(), self.locked);
        if let Some(lock) = lock {
            let verified = locked::verify(program.models(), &lock, &fetcher);
            terminal::accept(&verified.await, sources)?;
        }
        let catalog = Arc::new(StandardCatalog::new(
            program.models(),
            program.indexes(),
            &base_dir,
            &fetcher,
            None,
        ));
        let metrics = Arc::new(Metrics::new());
        let topology = startup::start(
            1,
            Arc::clone(&program),
            Arc::clone(&catalog),
            &metrics,
            &bars,
        );
        let topology = tokio::select! {
            topology = topology => topology.map_err(|error| cannot_start(&error))?,
            () = interrupted() => return Err(Failure::runtime("stopped before it was ready")),
        };
        let addresses = (address(&public)?, address(&admin)?);
        if human {
            eprint!(
                "{}",
                summary(&topology, &catalog, addresses, begun.elapsed())
            );
        }
        info!(
            listen = %addresses.0,
            admin = %addresses.1,
            graphs = topology.graphs().len(),
            seconds = begun.elapsed().as_secs_f64(),
            "ready"
        );
        let (control, orders) = Control::new();
        let front = Front::new(topology, metrics).with_control(Arc::clone(&control));
        let front = Arc::new(front);
        let settings = self.settings(!addresses.0.ip().is_loopback(), human);
        let (doors, doorways) = Doors::new(public, admin);
        let supervisor = Supervisor::new(
            settings,
            (Arc::clone(&front), doors),
            (control, orders),
            (catalog, fetcher),
            sources,
        );
        let supervisor = tokio::spawn(supervisor.run());
        let cut = serve(doorways, front, Connections::default(), interrupted()).await;
        supervisor.abort();
        match cut {
            0 => info!("stopped"),
            cut => tracing::warn!(cut, "stopped; some requests did not finish in time"),
        }
        Ok(())
    }

    fn settings(self, public: bool, human: bool) -> Settings {
        Settings {
            file: self.file,
            watch: !self.no_watch,
            locked: self.locked,
            own_listen: self.listen.is_some(),
            own_admin: self.admin.is_some(),
            public,
            human,
        }
    }
}

/// SIGTERM or Ctrl-C; a second one ends the process at once.
async fn interrupted() {
    async fn once() {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            if let Ok(mut terminate) = signal(SignalKind::terminate()) {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                return;
            }
        }
        // Without a handler there is nothing to wait for but Ctrl-C.
        let _ = tokio::signal::ctrl_c().await;
    }
    once().await;
    info!("stopping; a second signal ends it at once");
    tokio::spawn(async {
        once().await;
        std::process::exit(super::Exit::Runtime as i32);
    });
}

/// A public address lets anyone use the models, so it needs a key.
fn refuse_open_door(listen: &str, has_key: bool) -> Result<(), Failure> {
    let addresses = listen
        .to_socket_addrs()
        .map_err(|error| Failure::invalid_file(format!("listen {listen:?}: {error}")))?;
    let public = addresses
        .into_iter()
        .any(|address| !address.ip().is_loopback());
    match public && !has_key {
        true => Err(Failure::invalid_file(format!(
            "listen {listen:?} can be reached from other machines, and the file has no `api-key`; \
             add `api-key (env)\"NAME\"` to `server`, or listen on 127.0.0.1"
        ))),
        false => Ok(()),
    }
}

async fn bind(address: &str) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Failure::runtime(format!("cannot listen on {address}: {error}")))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    let address = listener.local_addr();
    address.map_err(|error| Failure::runtime(format!("a listener has no address: {error}")))
}

/// One line for each thing that stands in the way.
pub fn cannot_start(error: &StartupError) -> Failure {
    let StartupError::Nodes(errors) = error else {
        return Failure::runtime(chain(error));
    };
    let lines: Vec<_> = errors.iter().map(|error| chain(error)).collect();
    Failure::runtime(lines.join("\nengine: "))
}

/// What is served where, for a person.
fn summary(
    topology: &Topology,
    catalog: &StandardCatalog,
    (public, admin): (SocketAddr, SocketAddr),
    took: Duration,
) -> String {
    let mut text = String::from("\n");
    for model in catalog.summary() {
        text.push_str(&format!(
            "  {:<14} {} of {}, loaded in {:.1} s\n",
            model.model,
            model.family,
            ByteSize(model.bytes),
            model.took.as_secs_f64()
        ));
    }
    for graph in topology.program().graphs() {
        let nodes: Vec<_> = graph
            .nodes()
            .map(|(_, node)| node.decl.id.as_str().to_owned())
            .collect();
        text.push_str(&format!(
            "  {:<14} POST http://{public}{}   {}\n",
            graph.id().as_str(),
            graph.route(),
            nodes.join(" → ")
        ));
    }
    text.push_str(&format!(
        "\n  ready in {:.1} s · description http://{public}/docs · metrics http://{admin}/metrics\n\n",
        took.as_secs_f64()
    ));
    text
}
