//! What each command does: one file a command. A command prints to standard output what it was
//! asked for, and everything else to standard error.

mod adapters;
mod admin;
mod bench;
mod check;
mod fmt;
mod graph;
mod index;
mod lock;
mod plan;
mod pull;
mod reference;
mod reload;
mod run;
mod simulate;
mod status;
mod terminal;

use clap::Subcommand;
use engine::report::chain;
use std::{fmt::Display, process::ExitCode};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the graphs of a file over HTTP.
    Run(run::Run),
    /// Report every problem of a file without running it.
    Check(check::Check),
    /// Bring files into the one layout.
    Fmt(fmt::Fmt),
    /// Draw the graphs of a file.
    Graph(graph::Draw),
    /// Fetch the models of a file, so that a later run needs no network.
    Pull(pull::Pull),
    /// Write down what the sources of a file stand for.
    Lock(lock::Lock),
    /// Put documents into an index, or take them out.
    Index(index::Index),
    /// Load a graph and report throughput and latency.
    Bench(bench::Bench),
    /// Say what a graph would do under a load, without running it.
    Simulate(simulate::Simulate),
    /// Show what a running engine is doing.
    Status(status::Status),
    /// List the LoRA adapters of a running engine, and load, unload, pin or unpin one.
    Adapters(adapters::Adapters),
    /// Print what a reload from one file to another would do.
    Plan(plan::Plan),
    /// Have a running engine load its file again.
    Reload(reload::Reload),
    /// Have a running engine go back to an earlier generation.
    Rollback(reload::Rollback),
    /// Have all requests get the generation that a rollout is about.
    Promote(reload::Promote),
    /// Give up the generation that a rollout is about.
    Abort(reload::Abort),
    /// Print the reference of the language.
    Reference(reference::Reference),
}

impl Command {
    /// Does it.
    pub fn execute(self) -> Result<(), Failure> {
        match self {
            Command::Run(run) => run.execute(),
            Command::Check(check) => check.execute(),
            Command::Fmt(fmt) => fmt.execute(),
            Command::Graph(draw) => draw.execute(),
            Command::Pull(pull) => pull.execute(),
            Command::Lock(lock) => lock.execute(),
            Command::Index(index) => index.execute(),
            Command::Bench(bench) => bench.execute(),
            Command::Simulate(simulate) => simulate.execute(),
            Command::Status(status) => status.execute(),
            Command::Adapters(adapters) => adapters.execute(),
            Command::Plan(plan) => plan.execute(),
            Command::Reload(reload) => reload.execute(),
            Command::Rollback(rollback) => rollback.execute(),
            Command::Promote(promote) => promote.execute(),
            Command::Abort(abort) => abort.execute(),
            Command::Reference(reference) => reference.execute(),
        }
    }
}

/// Why a command ended without success.
#[derive(Debug)]
pub struct Failure {
    /// What it tells the shell.
    pub exit: Exit,
    /// One line for the person; empty if everything was said already.
    pub message: String,
}

/// Exit codes; documented in `docs/command-line.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command line is not right.
    Usage = 1,
    /// The file is not right.
    InvalidFile = 2,
    /// It went wrong while it ran.
    Runtime = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl Failure {
    fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    fn invalid_file(message: impl Display) -> Self {
        Self::new(Exit::InvalidFile, message)
    }

    fn runtime(message: impl Display) -> Self {
        Self::new(Exit::Runtime, message)
    }

    fn new(exit: Exit, message: impl Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }
}
