//! `engine check`: every problem of a file.

use super::{Exit, Failure, terminal};
use engine::{load, report};
use serde_json::json;
use std::path::PathBuf;

/// Report every problem of a file without running it.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Files to check, each with its includes.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print problems as JSON, one object a file, for editors and scripts.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn execute(self) -> Result<(), Failure> {
        let mut bad = 0;
        for file in &self.files {
            let (diagnostics, sources, good) = match load::load(file, engine::facts::gather(file)) {
                Ok(loaded) => (loaded.warnings, loaded.sources, true),
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
}
