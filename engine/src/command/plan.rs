//! `engine plan`: what a reload from one file to another would do.

use super::{
    Failure,
    admin::{Admin, accepted},
    terminal,
};
use engine::{facts, load, reload::Outcome, supervisor};
use reqwest::{Client, Response, Url};
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
    /// Asked if there is one file only.
    #[command(flatten)]
    admin: Admin,
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
        let plan = |client: &Client, url: Url| client.post(url).json(&texts);
        let read = async |answer: Response| answer.json::<Outcome>().await;
        let outcome = self.admin.ask(plan, "/plan", read)?;
        print!("{}", outcome.plan);
        accepted(&outcome, String::new())
    }
}
