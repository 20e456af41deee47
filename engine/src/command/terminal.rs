//! What the terminal can show, and files loaded with their problems shown.

use super::Failure;
use engine::{
    facts,
    load::{self, Loaded, Rejected},
    locked,
    report::{self, Style},
    topology::unbuilt,
};
use graphs::Facts;
use schema::{Diagnostic, Document, Lock, Sources};
use std::{io::IsTerminal, path::Path};

/// How to draw on standard error.
pub fn style() -> Style {
    let terminal = std::io::stderr().is_terminal();
    Style {
        colours: terminal && std::env::var_os("NO_COLOR").is_none(),
        width: terminal_size::terminal_size().map_or(100, |(width, _)| width.0.into()),
    }
}

/// Loads a file, printing its warnings or, if it cannot be run, all its problems.
pub fn load(path: &Path, facts: impl FnOnce(&Document) -> Facts) -> Result<Loaded, Failure> {
    match load::load(path, facts) {
        Ok(loaded) => {
            eprint!(
                "{}",
                report::human(&loaded.warnings, &loaded.sources, style())
            );
            Ok(loaded)
        }
        Err(rejected) => {
            print_problems(&rejected);
            let summary = report::summary(&rejected.diagnostics);
            Err(Failure::invalid_file(format!(
                "{}: {summary}",
                path.display()
            )))
        }
    }
}

/// Loads a file that is to be run: what it asks for and is not built yet is refused too.
pub fn load_to_run(path: &Path) -> Result<Loaded, Failure> {
    let loaded = load(path, facts::gather(path))?;
    let missing = unbuilt(&loaded.program);
    if missing.is_empty() {
        return Ok(loaded);
    }
    eprint!("{}", report::human(&missing, &loaded.sources, style()));
    Err(Failure::invalid_file(report::summary(&missing)))
}

/// The lock of a file, printing what is to be said of it. With `binding` there must be one, and it
/// must have everything.
pub fn lock(path: &Path, loaded: &mut Loaded, binding: bool) -> Result<Option<Lock>, Failure> {
    let (lock, problems) = locked::read(path, loaded, binding);
    accept(&problems, &loaded.sources)?;
    Ok(lock)
}

/// Draws problems, and fails if there is an error among them.
pub fn accept(problems: &[Diagnostic], sources: &Sources) -> Result<(), Failure> {
    eprint!("{}", report::human(problems, sources, style()));
    match problems.iter().any(Diagnostic::is_error) {
        true => Err(Failure::invalid_file(report::summary(problems))),
        false => Ok(()),
    }
}

/// Draws all problems on standard error.
pub fn print_problems(rejected: &Rejected) {
    let text = report::human(&rejected.diagnostics, &rejected.sources, style());
    eprint!("{text}");
}
