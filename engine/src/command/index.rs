//! `engine index`: put documents into an index, or take them out, also while an engine serves it.

use super::{Failure, chain, run, terminal};
use engine::{facts, progress::Bars, startup};
use graphs::Program;
use nodes::{StandardCatalog, store::Build};
use std::path::PathBuf;

/// Put documents into an index, or take them out.
///
/// Documents whose id is in the index already are replaced; unchanged ones are passed over, so that
/// an interrupted run goes on where it stopped.
#[derive(Debug, clap::Args)]
pub struct Index {
    /// Files (.jsonl, .md, .txt) and folders of them; those of the index's `from` if none are given.
    data: Vec<PathBuf>,
    /// The file that declares the index.
    #[arg(long, value_name = "FILE", default_value = "graph.kdl")]
    graph: PathBuf,
    /// The index; can be left out if the file declares one only.
    #[arg(long, value_name = "NAME")]
    index: Option<String>,
    /// Take documents out instead.
    #[arg(long, value_name = "ID", num_args = 1.., conflicts_with_all = ["data", "prune"])]
    delete: Vec<String>,
    /// Afterwards take out what the data does not hold.
    #[arg(long)]
    prune: bool,
    /// Fetch nothing: use models that are on this machine.
    #[arg(long)]
    offline: bool,
}

impl Index {
    pub fn execute(self) -> Result<(), Failure> {
        let mut loaded = terminal::load(&self.graph, facts::gather(&self.graph))?;
        let lock = terminal::lock(&self.graph, &mut loaded, false)?;
        let program = loaded.program;
        let name = self.name(&program)?;
        let bars = Bars::default();
        let base_dir = facts::base_dir(&self.graph);
        let fetcher = startup::fetcher(&base_dir, self.offline, &bars);
        fetcher.use_lock(lock, false);
        let catalog = StandardCatalog::new(
            program.models(),
            program.indexes(),
            &base_dir,
            &fetcher,
            None,
        );
        let runtime = run::runtime(2)?;
        if !self.delete.is_empty() {
            let asked = self.delete.len();
            let done = runtime.block_on(catalog.delete(&name, self.delete));
            let done = done.map_err(|error| Failure::runtime(chain(&error)))?;
            println!(
                "{} of {asked} deleted; {} documents",
                done.deleted, done.documents
            );
            return Ok(());
        }
        let bar = bars.count(&name, 0);
        let shown = bar.clone();
        let progress = move |done: usize, total: usize| {
            shown.set_length(total as u64);
            shown.set_position(done as u64);
        };
        let build = Build {
            prune: self.prune,
            ..Build::default()
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let built = runtime.block_on(catalog.fill(&name, &self.data, build, threads, progress));
        bar.finish_and_clear();
        let built = built.map_err(|error| Failure::runtime(chain(&error)))?;
        println!(
            "{} written, {} unchanged, {} deleted; {} documents",
            built.written, built.unchanged, built.deleted, built.documents
        );
        Ok(())
    }

    /// The index that is meant.
    fn name(&self, program: &Program) -> Result<String, Failure> {
        let names: Vec<_> = program
            .indexes()
            .iter()
            .map(|index| index.id.as_str())
            .collect();
        let file = self.graph.display();
        match (&self.index, names.as_slice()) {
            (Some(name), names) if names.contains(&name.as_str()) => Ok(name.clone()),
            (None, [only]) => Ok((*only).to_owned()),
            (_, []) => Err(Failure::usage(format!("{file} declares no index"))),
            (Some(name), names) => Err(Failure::usage(format!(
                "{file} declares no index {name:?}; it has {}",
                names.join(", ")
            ))),
            (None, names) => Err(Failure::usage(format!(
                "choose an index of {file} with --index: {}",
                names.join(", ")
            ))),
        }
    }
}
