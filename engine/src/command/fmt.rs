//! `engine fmt`: the one layout.

use super::{Exit, Failure, terminal};
use engine::report;
use schema::{Diagnostic, Sources};
use std::{fs, path::PathBuf};

/// Bring files into the one layout.
#[derive(Debug, clap::Args)]
pub struct Fmt {
    /// Files to format in place.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Change nothing; fail if a file is not in the one layout.
    #[arg(long, conflicts_with = "stdout")]
    check: bool,
    /// Print the result instead of writing it back.
    #[arg(long)]
    stdout: bool,
}

impl Fmt {
    pub fn execute(self) -> Result<(), Failure> {
        let mut rest = 0;
        for file in &self.files {
            let name = file.display().to_string();
            let text = fs::read_to_string(file)
                .map_err(|error| Failure::runtime(format!("cannot read {name}: {error}")))?;
            let mut sources = Sources::default();
            let id = sources.add(&name, &text);
            let source = sources
                .get(id)
                .ok_or_else(|| Failure::runtime("no source"))?;
            let formatted = schema::format(source).map_err(|problems: Vec<Diagnostic>| {
                let shown = report::human(&problems, &sources, terminal::style());
                eprint!("{shown}");
                Failure::invalid_file(format!("{name}: {}", report::summary(&problems)))
            })?;
            if self.stdout {
                print!("{formatted}");
            } else if formatted == text {
                continue;
            } else if self.check {
                println!("{name}: not formatted");
                rest += 1;
            } else {
                fs::write(file, formatted)
                    .map_err(|error| Failure::runtime(format!("cannot write {name}: {error}")))?;
                println!("{name}: formatted");
            }
        }
        match rest {
            0 => Ok(()),
            _ => Err(Failure {
                exit: Exit::InvalidFile,
                message: String::new(),
            }),
        }
    }
}
