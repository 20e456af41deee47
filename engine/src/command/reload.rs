//! `engine reload` and `engine rollback`: tell a running engine to change.

use super::{Failure, chain};
use engine::reload::Outcome;

/// Have a running engine load its file again.
#[derive(Debug, clap::Args)]
pub struct Reload {
    /// The engine's admin address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8001")]
    admin: String,
}

/// Have a running engine go back to an earlier generation.
#[derive(Debug, clap::Args)]
pub struct Rollback {
    /// The generation; the one before the current one if absent.
    generation: Option<u64>,
    /// The engine's admin address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8001")]
    admin: String,
}

impl Reload {
    pub fn execute(self) -> Result<(), Failure> {
        order(&self.admin, "/reload")
    }
}

impl Rollback {
    pub fn execute(self) -> Result<(), Failure> {
        match self.generation {
            Some(generation) => order(&self.admin, &format!("/rollback?generation={generation}")),
            None => order(&self.admin, "/rollback"),
        }
    }
}

fn order(admin: &str, path: &str) -> Result<(), Failure> {
    let url = format!("http://{admin}{path}");
    let outcome = super::run::runtime(1)?.block_on(post(&url));
    let outcome = outcome.map_err(|error| {
        Failure::runtime(format!("no engine answers at {admin}: {}", chain(&error)))
    })?;
    let Outcome {
        generation, nodes, ..
    } = &outcome;
    match outcome.ok {
        true if nodes.is_empty() => println!("generation {generation}: nothing changes"),
        true => println!("generation {generation} in {} ms: {nodes}", outcome.millis),
        false => {
            for problem in &outcome.problems {
                eprintln!("{problem}\n");
            }
            return Err(Failure::invalid_file(format!(
                "generation {generation} goes on"
            )));
        }
    }
    Ok(())
}

async fn post(url: &str) -> Result<Outcome, reqwest::Error> {
    let client = nodes::http_client().build()?;
    client.post(url).send().await?.json().await
}
