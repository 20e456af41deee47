//! `engine pull`: fetch the models of a file.

use super::{Failure, chain, run, terminal};
use engine::{facts, progress::Bars, startup};
use nodes::StandardCatalog;
use std::path::PathBuf;

/// Fetch the models of a file, so that a later run needs no network.
#[derive(Debug, clap::Args)]
pub struct Pull {
    /// The file.
    file: PathBuf,
    /// Fetch nothing: only say what is on this machine.
    #[arg(long)]
    offline: bool,
}

impl Pull {
    pub fn execute(self) -> Result<(), Failure> {
        let program = terminal::load(&self.file, facts::gather(&self.file))?.program;
        let base_dir = facts::base_dir(&self.file);
        let fetcher = startup::fetcher(&base_dir, self.offline, &Bars::default());
        let catalog = StandardCatalog::new(program.models(), &[], &base_dir, &fetcher, None);
        let runtime = run::runtime(1)?;
        let mut missing = 0;
        for model in program.models() {
            match runtime.block_on(catalog.fetch(model.id.as_str())) {
                Ok(path) => println!("{}  {}", *model.id, path.display()),
                Err(error) => {
                    eprintln!("engine: {}", chain(&error));
                    missing += 1;
                }
            }
        }
        match missing {
            0 => Ok(()),
            _ => Err(Failure::runtime(format!(
                "{missing} models could not be fetched"
            ))),
        }
    }
}
