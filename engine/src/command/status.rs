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
    let word = |of: &Value, key: &str| of[key].as_str().unwrap_or("?").to_owned();
    let mut text = format!("generation {}\n", status["generation"]);
    text.push_str(&last_reload(&status["last_reload"]));
    for graph in status["graphs"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "\n{}  POST {}\n",
            word(graph, "graph"),
            word(graph, "route")
        ));
        for node in graph["nodes"].as_array().into_iter().flatten() {
            text.push_str(&format!(
                "  {:<20} {:<9}",
                word(node, "node"),
                word(node, "kind")
            ));
            if let Some(pool) = node["pool"].as_object() {
                for column in ["replicas", "ongoing", "queued", "answered"] {
                    let number = pool.get(column).and_then(Value::as_u64).unwrap_or(0);
                    text.push_str(&format!(" {column} {number:<5}"));
                }
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
    }
    text
}

/// What came of the last reload, if there was one.
fn last_reload(outcome: &Value) -> String {
    let Some(ok) = outcome["ok"].as_bool() else {
        return String::new();
    };
    if ok {
        let (nodes, millis) = (outcome["nodes"].as_str(), &outcome["millis"]);
        return match nodes.unwrap_or_default() {
            "" => "last reload: nothing changed\n".to_owned(),
            nodes => format!("last reload: {nodes}, in {millis} ms\n"),
        };
    }
    let problems = outcome["problems"].as_array().into_iter().flatten();
    let mut text = "last reload failed, and what ran before goes on:\n".to_owned();
    for line in problems.filter_map(Value::as_str).flat_map(str::lines) {
        text.push_str(format!("  {line}").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn a_line_a_node() {
        let pool = json!({ "replicas": 2, "queued": 1, "ongoing": 8, "answered": 42 });
        let nodes = json!([
            { "node": "question", "kind": "embed", "pool": pool },
            { "node": "report", "kind": "template" },
        ]);
        let graphs = json!([{ "graph": "rag", "route": "/rag", "nodes": nodes }]);
        expect![[r#"
            generation 3

            rag  POST /rag
              question             embed     replicas 2     ongoing 8     queued 1     answered 42
              report               template
        "#]]
        .assert_eq(&table(&json!({ "generation": 3, "graphs": graphs })));
    }

    #[test]
    fn the_last_reload_is_told() {
        let done = json!({ "ok": true, "nodes": "2 kept, 1 adjusted", "millis": 12 });
        let failed = json!({ "ok": false, "problems": ["x broken\n\n  here", "model missing"] });
        let none = json!(null);
        let told = [done, failed, none].map(|last| {
            table(&json!({
                "generation": 2, "last_reload": last, "graphs": [],
            }))
        });
        expect![[r#"
            generation 2
            last reload: 2 kept, 1 adjusted, in 12 ms
            generation 2
            last reload failed, and what ran before goes on:
              x broken

                here
              model missing
            generation 2
        "#]]
        .assert_eq(&told.concat());
    }
}
