//! The command line.

mod command;

use clap::Parser;
use command::Command;
use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Model code takes and frees large buffers all the time. This allocator keeps their pages, where
/// the system's gives them back and pays for touching them anew.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Serves retrieval-and-generation pipelines that are declared in one file.
#[derive(Debug, Parser)]
#[command(
    name = "engine",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version come this way too, and are no failure.
            let code = if usage.use_stderr() { 1 } else { 0 };
            return match usage.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    match cli.command.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("engine: {}", failure.message);
            }
            failure.exit.into()
        }
    }
}
