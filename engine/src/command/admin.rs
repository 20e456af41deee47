//! The admin listener of a running engine, as commands ask it.

use super::{Failure, chain, run::runtime};
use engine::reload::Outcome;
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;

/// Where the admin listener of the engine is.
#[derive(Debug, clap::Args)]
pub struct Admin {
    /// The engine's admin address.
    #[arg(
        long = "admin",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8001"
    )]
    address: String,
}

impl Admin {
    /// Sends a request and reads what comes back.
    pub fn ask<T>(
        &self,
        make: impl FnOnce(&Client, Url) -> RequestBuilder,
        path: &str,
        read: impl AsyncFnOnce(Response) -> Result<T, reqwest::Error>,
    ) -> Result<T, Failure> {
        let address = &self.address;
        let url = Url::parse(&format!("http://{address}{path}"))
            .map_err(|error| Failure::usage(format!("--admin {address:?}: {error}")))?;
        let asked = runtime(1)?.block_on(async {
            let client = nodes::http_client().build()?;
            read(make(&client, url).send().await?).await
        });
        asked.map_err(|error| {
            Failure::runtime(format!("no engine answers at {address}: {}", chain(&error)))
        })
    }

    /// Gets a page that must be there.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Client::get::<Url>, path, async |answer| {
            answer.error_for_status()?.json().await
        })
    }

    /// Gives an order and says what came of it, good or not.
    pub fn order(&self, path: &str) -> Result<Outcome, Failure> {
        self.ask(Client::post::<Url>, path, async |answer| {
            answer.json().await
        })
    }
}

/// A failure with this message if an order was refused; its reasons are printed.
pub fn accepted(outcome: &Outcome, refused: String) -> Result<(), Failure> {
    for problem in &outcome.problems {
        eprintln!("{problem}\n");
    }
    match outcome.ok {
        true => Ok(()),
        false => Err(Failure::invalid_file(refused)),
    }
}
