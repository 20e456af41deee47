//! `engine plan`: what a reload from one file to another would do.

use super::{Exit, Failure, chain, terminal};
use engine::{
    facts,
    load::{self, Given},
    reload::Outcome,
    supervisor,
};
use std::path::{Path, PathBuf};

/// Print what a reload keeps, adjusts, starts, replaces and stops.
///
/// With one file, compared with what the running engine serves; with two, with each other.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// The file that is to run; the one that runs, if another follows.
    file: PathBuf,
    /// The file that is to run.
    new: Option<PathBuf>,
    /// The running engine's admin address; asked if there is one file only.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8001")]
    admin: String,
}

impl Plan {
    pub fn execute(self) -> Result<(), Failure> {
        match &self.new {
            Some(new) => self.compare(new),
            None => self.ask(),
        }
    }

    fn compare(&self, new: &Path) -> Result<(), Failure> {
        let old = terminal::load(&self.file, facts::gather(&self.file))?;
        let new = terminal::load(new, facts::gather(new))?;
        let plan = graphs::plan(&old.program, &new.program, supervisor::capacity());
        print!("{plan}");
        Ok(())
    }

    /// The engine reads the texts itself: its environment and its models count, and not those here.
    fn ask(&self) -> Result<(), Failure> {
        let texts = load::texts(&self.file);
        if texts.is_empty() {
            let file = self.file.display();
            return Err(Failure::invalid_file(format!("cannot read {file}")));
        }
        let url = format!("http://{}/plan", self.admin);
        let outcome = super::run::runtime(1)?.block_on(post(&url, &texts));
        let outcome = outcome.map_err(|error| {
            let admin = &self.admin;
            Failure::runtime(format!("no engine answers at {admin}: {}", chain(&error)))
        })?;
        if outcome.ok {
            print!("{}", outcome.plan);
            return Ok(());
        }
        for problem in &outcome.problems {
            eprintln!("{problem}\n");
        }
        Err(Failure {
            exit: Exit::InvalidFile,
            message: String::new(),
        })
    }
}

async fn post(url: &str, texts: &[Given]) -> Result<Outcome, reqwest::Error> {
    let client = nodes::http_client().build()?;
    client.post(url).json(texts).send().await?.json().await
}
