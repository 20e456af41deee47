//! `engine status`: what a running engine is doing.

use super::{Failure, chain};
use serde_json::Value;

/// Show what a running engine is doing.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// The engine's admin address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8001")]
    admin: String,
    /// Print the status as JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub fn execute(self) -> Result<(), Failure> {
        let url = format!("http://{}/status", self.admin);
        let status = super::run::runtime(1)?
            .block_on(fetch(&url))
            .map_err(|error| {
                Failure::runtime(format!(
                    "no engine answers at {}: {}",
                    self.admin,
                    chain(&error)
                ))
            })?;
        match self.json {
            true => println!("{status}"),
            false => print!("{}", table(&status)),
        }
        Ok(())
    }
}

async fn fetch(url: &str) -> Result<Value, reqwest::Error> {
    let client = nodes::http_client().build()?;
    let answer = client.get(url).send().await?.error_for_status()?;
    answer.json().await
}

/// The status as lines: a graph, and below it its nodes.
fn table(status: &Value) -> String {
    let mut text = format!("generation {}\n", status["generation"]);
    for graph in status["graphs"].as_array().into_iter().flatten() {
        let [id, route] = ["id", "route"].map(|key| graph[key].as_str().unwrap_or("?"));
        text.push_str(&format!("\n{id}  POST {route}\n"));
        for node in graph["nodes"].as_array().into_iter().flatten() {
            let word = |key: &str| node[key].as_str().unwrap_or("?").to_owned();
            let number = |key: &str| node[key].as_u64().unwrap_or(0);
            text.push_str(&format!(
                "  {:<20} {:<9} replicas {:<3} ongoing {:<4} queued {:<4} done {:<8} failed {}\n",
                word("id"),
                word("kind"),
                number("replicas"),
                number("ongoing"),
                number("queued"),
                number("requests"),
                number("errors"),
            ));
        }
    }
    text
}
