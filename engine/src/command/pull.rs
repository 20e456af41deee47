//! `engine pull`: fetch the models of a file.

use super::{Failure, chain, run, terminal};
use engine::{facts, locked, progress::Bars, startup};
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
    /// Take nothing but what the lock beside the file has, as it has it.
    #[arg(long)]
    locked: bool,
}

impl Pull {
    pub fn execute(self) -> Result<(), Failure> {
        let mut loaded = terminal::load(&self.file, facts::gather(&self.file))?;
        let lock = terminal::lock(&self.file, &mut loaded, self.locked)?;
        let base_dir = facts::base_dir(&self.file);
        let fetcher = startup::fetcher(&base_dir, self.offline, &Bars::default());
        fetcher.use_lock(lock.clone(), self.locked);
        let program = loaded.program;
        let catalog = StandardCatalog::new(program.models(), &[], &base_dir, &fetcher, None);
        let runtime = run::runtime(1)?;
        if let Some(lock) = lock {
            let verified = locked::verify(program.models(), &lock, &fetcher);
            terminal::accept(&runtime.block_on(verified), &loaded.sources)?;
        }
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
