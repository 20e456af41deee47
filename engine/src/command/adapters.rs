//! `engine adapters`: the LoRA adapters of a running engine.

use super::{Failure, admin::Admin};
use clap::Subcommand;
use engine::adapters::{Done, Report};
use reqwest::{Client, Response, Url};
use schema::ByteSize;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// List the LoRA adapters of a running engine, and load, unload, pin or unpin one.
#[derive(Debug, clap::Args)]
pub struct Adapters {
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Show the adapters that are in memory, and those that can be loaded.
    List(To),
    /// Load an adapter, as its first request would.
    Load(Named),
    /// Let go of an adapter; requests that use it keep it.
    Unload(Named),
    /// Load an adapter and keep it, whatever else is asked for.
    Pin(Named),
    /// Let an adapter go again when room is needed.
    Unpin(Named),
}

/// Which engine is told, and how its answer is printed.
#[derive(Debug, clap::Args)]
struct To {
    /// The model; needed where several take adapters, except to list them.
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    admin: Admin,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The adapter.
    name: String,
    #[command(flatten)]
    to: To,
}

impl Adapters {
    pub fn execute(self) -> Result<(), Failure> {
        let (verb, (done, undone), named) = match self.order {
            Order::List(to) => {
                let report: Report = to.ask("", None)?;
                return print(to.json, &report, || table(&report));
            }
            Order::Load(named) => ("load", ("is loaded", ""), named),
            Order::Unload(named) => {
                let said = ("is no longer held", "was not in memory");
                ("unload", said, named)
            }
            Order::Pin(named) => ("pin", ("is pinned", ""), named),
            Order::Unpin(named) => {
                let said = ("may go when room is needed", "was not pinned");
                ("unpin", said, named)
            }
        };
        let answer: Done = named.to.ask(verb, Some(&named.name))?;
        print(named.to.json, &answer, || {
            let what = if answer.changed { done } else { undone };
            format!("{} {what} ({})\n", answer.adapter, answer.model)
        })
    }
}

impl To {
    /// Sends an order about an adapter, or asks for all.
    fn ask<T: DeserializeOwned>(&self, verb: &str, name: Option<&str>) -> Result<T, Failure> {
        let path = match name {
            Some(_) => format!("/adapters/{verb}"),
            None => "/adapters".to_owned(),
        };
        let send = |client: &Client, mut url: Url| {
            for (key, value) in [("model", self.model.as_deref()), ("name", name)] {
                if let Some(value) = value {
                    url.query_pairs_mut().append_pair(key, value);
                }
            }
            match name {
                Some(_) => client.post(url),
                None => client.get(url),
            }
        };
        let read = async |answer: Response| Ok((answer.status(), answer.json::<Value>().await?));
        let (status, body) = self.admin.ask(send, &path, read)?;
        if !status.is_success() {
            let detail = body["detail"].as_str().unwrap_or("it did not say why");
            return Err(Failure::runtime(detail));
        }
        serde_json::from_value(body)
            .map_err(|error| Failure::runtime(format!("the answer makes no sense: {error}")))
    }
}

fn print(json: bool, answer: &impl Serialize, text: impl Fn() -> String) -> Result<(), Failure> {
    match json {
        true => println!("{}", serde_json::to_string(answer).unwrap_or_default()),
        false => print!("{}", text()),
    }
    Ok(())
}

/// The adapters as lines: a model, and below it its adapters.
fn table(report: &Report) -> String {
    let mut text = String::new();
    for model in &report.models {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!(
            "{}  {} in memory\n",
            model.model,
            ByteSize(model.bytes)
        ));
        for adapter in &model.adapters {
            let mut line = format!("  {:<24} {:<10}", adapter.name, adapter.state);
            if adapter.bytes > 0 {
                line.push_str(&format!(
                    " {:>9}  hits {:<7} leases {:<4}",
                    ByteSize(adapter.bytes).to_string(),
                    adapter.hits,
                    adapter.leases
                ));
            }
            if adapter.pinned {
                line.push_str(" pinned");
            }
            if let Some(reason) = &adapter.reason {
                line.push_str(&format!(" {reason}"));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::adapters::{AdapterLine, ModelAdapters};
    use expect_test::expect;

    #[test]
    fn a_line_an_adapter() {
        let line = |name: &str, state: &str| AdapterLine {
            name: name.to_owned(),
            state: state.to_owned(),
            ..AdapterLine::default()
        };
        let qa = AdapterLine {
            bytes: 1_482_752,
            hits: 12,
            leases: 2,
            pinned: true,
            ..line("qa", "loaded")
        };
        let broken = AdapterLine {
            reason: Some("the file is cut".to_owned()),
            ..line("broken", "refused")
        };
        let model = |model: &str, bytes, adapters| ModelAdapters {
            model: model.to_owned(),
            bytes,
            adapters,
        };
        let report = Report {
            models: vec![
                model(
                    "gemma",
                    1_482_752,
                    vec![broken, line("headline", "available"), qa],
                ),
                model("minilm", 0, Vec::new()),
            ],
        };
        expect![[r#"
            gemma  1.4MiB in memory
              broken                   refused    the file is cut
              headline                 available
              qa                       loaded        1.4MiB  hits 12      leases 2    pinned

            minilm  0B in memory
        "#]]
        .assert_eq(&table(&report));
    }
}
