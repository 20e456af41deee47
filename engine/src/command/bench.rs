//! `engine bench`: load, and what came of it.

use super::{
    Failure, chain,
    run::{self, cannot_start},
    terminal,
};
use engine::{
    bench::{Load, Plan, drive},
    facts,
    ingress::{Connections, Doorways, Front, serve},
    metrics::Metrics,
    progress::Bars,
    startup,
};
use graphs::{Graph, Program};
use nodes::StandardCatalog;
use schema::Lock;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::oneshot};

/// Load a graph and report throughput and latency.
///
/// A file is served on ports of its own for the time of the measurement; a URL is loaded as it is.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// A graph file, or the URL of a route.
    target: String,
    /// The JSON body of every request, or `@FILE`.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    data: String,
    /// The graph to load; can be left out if the file has one only.
    #[arg(long, value_name = "NAME")]
    graph: Option<String>,
    /// Clients, each with one request under way.
    #[arg(long, short = 'c', default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Send this many requests a second instead, whether or not earlier ones are answered.
    #[arg(long, value_name = "REQUESTS", conflicts_with = "clients")]
    rate: Option<f64>,
    /// Seconds that are measured.
    #[arg(long, short = 'd', default_value_t = 10.0)]
    duration: f64,
    /// Seconds before, that are not.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Fetch nothing: use models that are on this machine.
    #[arg(long)]
    offline: bool,
}

impl Bench {
    pub fn execute(self) -> Result<(), Failure> {
        let plan = self.plan()?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = run::runtime(workers)?;
        if self.target.starts_with("http://") || self.target.starts_with("https://") {
            return runtime.block_on(self.measure(plan));
        }
        let file = PathBuf::from(&self.target);
        let mut loaded = terminal::load_to_run(&file)?;
        let lock = terminal::lock(&file, &mut loaded, false)?;
        let measured = self.serve_and_measure(file, loaded.program, lock, plan);
        runtime.block_on(measured)
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let body = match self.data.strip_prefix('@') {
            Some(path) => std::fs::read(path)
                .map_err(|error| Failure::usage(format!("cannot read {path}: {error}")))?,
            None => self.data.clone().into_bytes(),
        };
        let seconds = |option: &str, value: f64| {
            Duration::try_from_secs_f64(value)
                .map_err(|_| Failure::usage(format!("{option} {value} is no length of time")))
        };
        let load = match self.rate {
            Some(rate) if rate > 0.0 && rate.is_finite() => Load::Open { rate },
            Some(rate) => return Err(Failure::usage(format!("--rate {rate} is no rate"))),
            None => Load::Closed {
                clients: self.clients as usize,
            },
        };
        Ok(Plan {
            url: self.target.clone(),
            body: body.into(),
            load,
            warmup: seconds("--warmup", self.warmup)?,
            duration: seconds("--duration", self.duration)?,
        })
    }

    async fn serve_and_measure(
        self,
        file: PathBuf,
        program: Program,
        lock: Option<Lock>,
        mut plan: Plan,
    ) -> Result<(), Failure> {
        let graph = self.chosen(&program)?;
        let base_dir = facts::base_dir(&file);
        let bars = Bars::default();
        let fetcher = startup::fetcher(&base_dir, self.offline, &bars);
        fetcher.use_lock(lock, false);
        let program = Arc::new(program);
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
        let topology = topology.await.map_err(|error| cannot_start(&error))?;
        let cannot = |error: std::io::Error| Failure::runtime(format!("cannot listen: {error}"));
        let public = TcpListener::bind("127.0.0.1:0").await.map_err(cannot)?;
        let admin = TcpListener::bind("127.0.0.1:0").await.map_err(cannot)?;
        let address = public.local_addr().map_err(cannot)?;
        plan.url = format!("http://{address}{}", graph.route());
        let front = Arc::new(Front::new(topology, metrics));
        let doorways = Doorways::of(public, admin);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(serve(doorways, front, Connections::default(), stopped));
        let measured = self.measure(plan).await;
        // The server may have ended by itself; either way it is waited for.
        let _ = stop.send(());
        let _ = serving.await;
        measured
    }

    async fn measure(&self, plan: Plan) -> Result<(), Failure> {
        let client = nodes::http_client()
            .pool_max_idle_per_host(usize::MAX)
            .build()
            .map_err(|error| Failure::runtime(chain(&error)))?;
        let bar = Bars::default().count("seconds", (plan.warmup + plan.duration).as_secs());
        let outcome = drive(&client, &plan, |second| bar.set_position(second)).await;
        bar.finish_and_clear();
        match self.json {
            true => println!("{}", outcome.json()),
            false => print!("{}", outcome.text()),
        }
        match outcome.succeeded() {
            0 => Err(Failure::runtime(format!(
                "no request to {} succeeded",
                plan.url
            ))),
            _ => Ok(()),
        }
    }

    fn chosen(&self, program: &Program) -> Result<Arc<Graph>, Failure> {
        let graphs = program.graphs();
        let chosen = match &self.graph {
            Some(name) => graphs.iter().find(|graph| graph.id().as_str() == name),
            None => graphs.first().filter(|_| graphs.len() == 1),
        };
        let names: Vec<_> = graphs.iter().map(|graph| graph.id().as_str()).collect();
        let choose =
            || Failure::usage(format!("choose a graph with --graph: {}", names.join(", ")));
        chosen.cloned().ok_or_else(choose)
    }
}
