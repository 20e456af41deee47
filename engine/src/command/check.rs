//! `engine check`: every problem of a file.

use super::{Exit, Failure, lock, terminal};
use engine::{
    load::{self, Loaded},
    locked, report,
};
use schema::{Diagnostic, Sources};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Report every problem of a file without running it.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Files to check, each with its includes.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print problems as JSON, one object a file, for editors and scripts.
    #[arg(long)]
    json: bool,
    /// Hold each file against the lock beside it: what the lock lacks, and what is on this machine
    /// and something else, is an error.
    #[arg(long)]
    locked: bool,
}

impl Check {
    pub fn execute(self) -> Result<(), Failure> {
        let mut bad = 0;
        for file in &self.files {
            let (diagnostics, sources, good) = match load::load(file, engine::facts::gather(file)) {
                Ok(loaded) => self.with_lock(file, loaded)?,
                Err(rejected) => (rejected.diagnostics, rejected.sources, false),
            };
            bad += usize::from(!good);
            if self.json {
                let problems = report::json(&diagnostics, &sources);
                println!(
                    "{}",
                    json!({ "file": file, "ok": good, "diagnostics": problems })
                );
            } else {
                eprint!(
                    "{}",
                    report::human(&diagnostics, &sources, terminal::style())
                );
                println!("{}: {}", file.display(), report::summary(&diagnostics));
            }
        }
        match bad {
            0 => Ok(()),
            _ => Err(Failure {
                exit: Exit::InvalidFile,
                message: String::new(),
            }),
        }
    }

    /// What is to be said of a good file and of its lock, and whether both are good.
    fn with_lock(
        &self,
        file: &Path,
        mut loaded: Loaded,
    ) -> Result<(Vec<Diagnostic>, Sources, bool), Failure> {
        let (lock, mut problems) = locked::read(file, &mut loaded, self.locked);
        if let Some(lock) = lock.filter(|_| self.locked) {
            problems.extend(lock::here(file, &loaded, lock, true)?);
        }
        let good = !problems.iter().any(Diagnostic::is_error);
        let mut all = loaded.warnings;
        all.extend(problems);
        Ok((all, loaded.sources, good))
    }
}
