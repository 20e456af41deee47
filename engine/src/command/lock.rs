//! `engine lock`: write down what the sources of a file stand for.

use super::{Exit, Failure, chain, run, terminal};
use engine::{facts, load::Loaded, locked, progress::Bars, report, startup};
use nodes::StandardCatalog;
use schema::{Diagnostic, Lock as SourceLock};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Write down what the sources of a file stand for: revisions, and size and digest of every file.
///
/// The lock lies beside the file, with the ending `lock`. A run uses what it has, and with
/// `--locked` nothing else.
#[derive(Debug, clap::Args)]
pub struct Lock {
    /// The file.
    file: PathBuf,
    /// Write and fetch nothing: fail if the lock is not up to date with the file and with what is on
    /// this machine.
    #[arg(long)]
    check: bool,
    /// Fetch nothing: lock what is on this machine.
    #[arg(long, conflicts_with = "check")]
    offline: bool,
}

impl Lock {
    pub fn execute(self) -> Result<(), Failure> {
        let loaded = terminal::load(&self.file, facts::gather(&self.file))?;
        match self.check {
            true => self.compare(loaded),
            false => self.write(&loaded),
        }
    }

    fn write(&self, loaded: &Loaded) -> Result<(), Failure> {
        let base_dir = facts::base_dir(&self.file);
        let fetcher = startup::fetcher(&base_dir, self.offline, &Bars::default());
        let models = loaded.program.models();
        let catalog = StandardCatalog::new(models, &[], &base_dir, &fetcher, None);
        let runtime = run::runtime(1)?;
        let (mut sources, mut failed) = (Vec::new(), 0);
        for model in models {
            match runtime.block_on(catalog.lock(model.id.as_str())) {
                Ok(of_model) => sources.extend(of_model),
                Err(error) => {
                    eprintln!("engine: {}", chain(&error));
                    failed += 1;
                }
            }
        }
        if failed > 0 {
            let message = format!("{failed} models cannot be locked; nothing is written");
            return Err(Failure::runtime(message));
        }
        let lock = SourceLock::of(sources);
        let path = locked::beside(&self.file);
        let text = lock.to_string();
        let is_new = fs::read_to_string(&path).map_or(true, |before| before != text);
        if is_new {
            replace(&path, &text)?;
        }
        let files = lock.sources.iter().map(|source| source.files.len());
        println!(
            "{}: {} sources, {} files{}",
            path.display(),
            lock.sources.len(),
            files.sum::<usize>(),
            if is_new { "" } else { ", unchanged" }
        );
        Ok(())
    }

    fn compare(&self, mut loaded: Loaded) -> Result<(), Failure> {
        let (lock, mut problems) = locked::read(&self.file, &mut loaded, true);
        if let Some(lock) = lock {
            problems.extend(here(&self.file, &loaded, lock, true)?);
        }
        let text = report::human(&problems, &loaded.sources, terminal::style());
        eprint!("{text}");
        let path = locked::beside(&self.file);
        // Also what nothing names any more: the lock is another than would be written.
        match problems.is_empty() {
            true => {
                println!("{}: up to date", path.display());
                Ok(())
            }
            false => Err(Failure {
                exit: Exit::InvalidFile,
                message: format!("{}: {}", path.display(), report::summary(&problems)),
            }),
        }
    }
}

/// Holds what is on this machine against a lock. Nothing is fetched, and what is not here is no
/// problem.
pub fn here(
    file: &Path,
    loaded: &Loaded,
    lock: SourceLock,
    binding: bool,
) -> Result<Vec<Diagnostic>, Failure> {
    let fetcher = startup::fetcher(&facts::base_dir(file), true, &Bars::default());
    fetcher.use_lock(Some(lock.clone()), binding);
    let verified = locked::verify(loaded.program.models(), &lock, &fetcher);
    Ok(run::runtime(1)?.block_on(verified))
}

/// Writes a text in the place of another, so that who reads sees one of them whole.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let temporary = path.with_extension(format!("lock.{}", std::process::id()));
    let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Failure::runtime(format!("cannot write {}: {error}", path.display()))
    })
}
