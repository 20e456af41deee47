//! `engine simulate`: what a graph would do under a load.

use super::{Failure, terminal};
use clap::ValueEnum;
use engine::{
    facts, load, report,
    simulate::{self, Assumed, Scenario, ServiceTime, Spacing, Trace},
};
use graphs::{Graph, Machine, NodeIx, Program};
use schema::{Document, ScalePolicy, Sources};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What `--help` says below the options.
const HELP: &str = "\
The engine's own queues, batches, limits and scaling run over the trace in virtual time. Only the
work is replaced, by a time that you state for each node:

  engine simulate graph.kdl --load trace.csv --service vector=20ms+2ms/item --startup vector=3s

A trace is a table. With the columns `time,rate` each line says how many requests a second come
from that second on, until the next line; the last line is the end:

  time,rate
  0,5
  60,80
  120,5
  180,0

With `time,requests` each line is a number of requests at that second, and with `time` alone one
request.";

/// Say what a graph would do under a load, without running it.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Simulate {
    /// The file.
    file: PathBuf,
    /// The trace, as CSV.
    #[arg(long, value_name = "FILE")]
    load: PathBuf,
    /// The graph to load; can be left out if the file has one only.
    #[arg(long, value_name = "NAME")]
    graph: Option<String>,
    /// How long a batch takes at a node: a sum of a fixed time, a time for each item and a time for
    /// each unit of cost, as in `vector=20ms+2ms/item+30us/cost`. Measure it with `engine bench`.
    #[arg(long, value_name = "NODE=TIME")]
    service: Vec<String>,
    /// How long a replica of a node takes to be ready, as in `vector=3s`.
    #[arg(long, value_name = "NODE=TIME")]
    startup: Vec<String>,
    /// What an item of a node costs, or from where to where: `vector=40`, `vector=8..200`. Costs
    /// are tokens for models.
    #[arg(long, value_name = "NODE=COST")]
    cost: Vec<String>,
    /// How many elements the list of a node with `each` has.
    #[arg(long, value_name = "NODE=COUNT")]
    each: Vec<String>,
    /// The share of requests for which a node runs, from 0 to 1, as for one with `when`.
    #[arg(long, value_name = "NODE=SHARE")]
    share: Vec<String>,
    /// Scale all nodes by this rule, instead of those in the file.
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Processor cores that replicas share; those of this machine if absent.
    #[arg(long, value_name = "CORES")]
    cpus: Option<f64>,
    /// The same seed gives the same requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Space requests evenly instead of at random.
    #[arg(long)]
    even: bool,
    /// Draw the result into this file, too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Policy {
    /// The default: tolerance, a stabilisation window, step limits.
    Steady,
    /// Ray Serve's own.
    Ray,
}

impl Simulate {
    pub fn execute(self) -> Result<(), Failure> {
        let machine = self.machine();
        let gathered = facts::gather(&self.file);
        let loaded = terminal::load(&self.file, |document: &Document| graphs::Facts {
            machine: Some(machine),
            ..gathered(document)
        })?;
        let graph = self.graph(&loaded.program)?;
        let assumed = self.assumed(graph)?;
        let trace = trace(&self.load)?;
        let record = simulate::simulate(&Scenario {
            graph,
            trace: &trace,
            spacing: match self.even {
                true => Spacing::Even,
                false => Spacing::Random { seed: self.seed },
            },
            assumed: &assumed,
            machine,
            policy: self.policy.map(|policy| match policy {
                Policy::Steady => ScalePolicy::Steady,
                Policy::Ray => ScalePolicy::Ray,
            }),
            seed: self.seed,
        });
        let record = record.map_err(Failure::invalid_file)?;
        if let Some(path) = &self.svg {
            std::fs::write(path, simulate::svg(&record)).map_err(|error| {
                Failure::runtime(format!("cannot write {}: {error}", path.display()))
            })?;
        }
        match self.json {
            true => println!("{}", simulate::json(&record)),
            false => print!("{}", simulate::text(&record)),
        }
        Ok(())
    }

    fn machine(&self) -> Machine {
        let here = load::machine();
        Machine {
            cpus: self.cpus.unwrap_or(here.cpus),
            ..here
        }
    }

    fn graph<'a>(&self, program: &'a Program) -> Result<&'a Graph, Failure> {
        let graphs = program.graphs();
        let found = match &self.graph {
            Some(name) => graphs.iter().find(|graph| graph.id().as_str() == name),
            None => graphs.first().filter(|_| graphs.len() == 1),
        };
        found.map(|graph| &**graph).ok_or_else(|| {
            let names: Vec<_> = graphs.iter().map(|graph| graph.id().as_str()).collect();
            Failure::usage(format!(
                "choose one of the graphs of {} with --graph: {}",
                self.file.display(),
                names.join(", ")
            ))
        })
    }

    /// What is assumed of each node: the defaults, and what the command line says.
    fn assumed(&self, graph: &Graph) -> Result<Vec<Assumed>, Failure> {
        let nodes = graph.nodes();
        let mut assumed: Vec<_> = nodes.map(|(_, node)| Assumed::default_for(node)).collect();
        let mut problems = Vec::new();
        let mut set = |option: &str, given: &[String], put: Put| {
            for text in given {
                let result = node_and_value(graph, text).and_then(|(ix, value)| {
                    let found = put(&mut assumed[ix.index()], value);
                    found.map_err(|wanted| format!("{value:?} is not {wanted}"))
                });
                if let Err(problem) = result {
                    problems.push(format!("--{option} {text}: {problem}"));
                }
            }
        };
        set("service", &self.service, |node, value| {
            let time: ServiceTime = value
                .parse()
                .map_err(|_| "a service time, such as 20ms+2ms/item")?;
            node.service = time;
            Ok(())
        });
        set("startup", &self.startup, |node, value| {
            node.startup = time(value).ok_or("a time, such as 3s")?;
            Ok(())
        });
        set("cost", &self.cost, |node, value| {
            node.cost = cost(value).ok_or("a cost, such as 40 or 8..200")?;
            Ok(())
        });
        set("each", &self.each, |node, value| {
            let count: Option<u32> = value.parse().ok();
            node.each = count
                .filter(|count| *count <= 10_000)
                .ok_or("a number up to 10000")?;
            Ok(())
        });
        set("share", &self.share, |node, value| {
            let share: Option<f64> = value.parse().ok();
            let share = share.filter(|share| (0.0..=1.0).contains(share));
            node.share = share.ok_or("a share from 0 to 1")?;
            Ok(())
        });
        match problems.is_empty() {
            true => Ok(assumed),
            false => Err(Failure::usage(problems.join("\nengine: "))),
        }
    }
}

/// Puts a value where it belongs, or says what it should have been.
type Put = fn(&mut Assumed, &str) -> Result<(), &'static str>;

fn node_and_value<'t>(graph: &Graph, text: &'t str) -> Result<(NodeIx, &'t str), String> {
    let (name, value) = text.split_once('=').ok_or("write NODE=VALUE")?;
    let mut nodes = graph
        .nodes()
        .filter(|(_, node)| !node.decl.work.is_inline());
    let found = nodes.find(|(_, node)| node.decl.id.value.as_str() == name);
    let (ix, _) = found.ok_or_else(|| {
        let nodes = graph
            .nodes()
            .filter(|(_, node)| !node.decl.work.is_inline());
        let names: Vec<_> = nodes
            .map(|(_, node)| node.decl.id.value.as_str().to_owned())
            .collect();
        format!(
            "no node {name:?} with replicas; there are: {}",
            names.join(", ")
        )
    })?;
    Ok((ix, value))
}

fn time(text: &str) -> Option<Duration> {
    simulate::duration(text)
}

fn cost(text: &str) -> Option<(u64, u64)> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high && high <= 1 << 40).then_some((low, high))
}

fn trace(path: &Path) -> Result<Trace, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::invalid_file(format!("cannot read {}: {error}", path.display()))
    })?;
    let mut sources = Sources::default();
    let id = sources.add(path.display().to_string(), text);
    let source = sources.get(id).expect("it was added just now");
    Trace::parse(source).map_err(|problems| {
        eprint!("{}", report::human(&problems, &sources, terminal::style()));
        let summary = report::summary(&problems);
        Failure::invalid_file(format!("{}: {summary}", path.display()))
    })
}
