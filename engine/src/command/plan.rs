//! `engine plan`: what a reload from one file to another would do.

use super::{Failure, terminal};
use engine::{facts, supervisor};
use std::path::PathBuf;

/// Print what a reload from one file to another keeps, adjusts, starts, replaces and stops.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// The file that runs.
    old: PathBuf,
    /// The file that is to run.
    new: PathBuf,
}

impl Plan {
    pub fn execute(self) -> Result<(), Failure> {
        let old = terminal::load(&self.old, facts::gather(&self.old))?;
        let new = terminal::load(&self.new, facts::gather(&self.new))?;
        let plan = graphs::plan(&old.program, &new.program, supervisor::capacity());
        print!("{plan}");
        Ok(())
    }
}
