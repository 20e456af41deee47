//! `engine status`: what a running engine is doing.

use super::{Failure, admin::Admin};
use engine::rollout::{
    report::{Ended, Report, SideReport},
    shadow::Differences,
};
use schema::Share;
use serde::Deserialize as _;
use serde_json::Value;

/// Show what a running engine is doing.
#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    admin: Admin,
    /// Print the status as JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub fn execute(self) -> Result<(), Failure> {
        let status: Value = self.admin.get("/status")?;
        match self.json {
            true => println!("{status}"),
            false => print!("{}", table(&status)),
        }
        Ok(())
    }
}

/// The status as lines: a graph, and below it its nodes.
fn table(status: &Value) -> String {
    let word = |of: &Value, key: &str| of[key].as_str().unwrap_or("?").to_owned();
    let mut text = format!("generation {}\n", status["generation"]);
    text.push_str(&last_reload(&status["last_reload"]));
    if let Ok(rollout) = Report::deserialize(&status["rollout"]) {
        text.push_str(&under_way(&rollout));
    }
    if let Ok(ended) = Ended::deserialize(&status["last_rollout"]) {
        text.push_str(&ended_as(&ended));
    }
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

/// A rollout that is under way: what gets what, how both do, and what it waits for.
fn under_way(rollout: &Report) -> String {
    let Report {
        strategy,
        generation,
        seconds,
        share,
        stable,
        next,
        ..
    } = rollout;
    let share = Share(*share);
    let mut text = format!("rollout of generation {generation}: {strategy}");
    if let Some((step, steps)) = rollout.step {
        text.push_str(&format!(
            ", step {step} of {steps} with {share} of requests"
        ));
    }
    if let Some(copies) = &rollout.copies {
        text.push_str(&format!(
            ", copies of {share} of requests{}",
            compared(copies)
        ));
    }
    text.push_str(&format!(", for {seconds:.0} s\n"));
    text.push_str(&side("stable", stable));
    text.push_str(&side("next", next));
    if !rollout.waits_for.is_empty() {
        text.push_str(&format!(
            "  waits for {}\n",
            rollout.waits_for.join(" and ")
        ));
    }
    text
}

fn side(name: &str, side: &SideReport) -> String {
    let SideReport {
        requests,
        failed,
        p50_ms,
        p99_ms,
    } = side;
    format!(
        "  {name:<7} requests {requests:<7} failed {failed:<5} p50 {p50_ms:.1} ms  p99 {p99_ms:.1} ms\n"
    )
}

fn compared(copies: &Differences) -> String {
    let Differences {
        same,
        different,
        failed,
        left_out,
    } = copies;
    format!(": {same} same, {different} different, {failed} failed, {left_out} left out")
}

/// What came of the last rollout.
fn ended_as(ended: &Ended) -> String {
    let Ended {
        strategy,
        generation,
        result,
        reasons,
        seconds,
        copies,
    } = ended;
    let copies = copies.as_ref().map(compared).unwrap_or_default();
    format!(
        "last rollout: {strategy} of generation {generation} was {} after {seconds:.0} s{copies}: {}\n",
        result.name(),
        reasons.join("; ")
    )
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
    fn rollouts_are_told() {
        let side = |requests, failed| {
            json!({
                "requests": requests, "failed": failed, "p50_ms": 12.34, "p99_ms": 40.0,
            })
        };
        let canary = json!({
            "strategy": "canary", "generation": 4, "seconds": 61.2, "share": 0.25, "step": [2, 3],
            "stable": side(750, 1), "next": side(250, 0),
            "waits_for": ["another 12 s", "50 more requests"],
        });
        let shadow = json!({
            "strategy": "shadow", "generation": 5, "seconds": 3.0, "share": 0.1,
            "stable": side(10, 0), "next": side(0, 0),
            "copies": { "same": 7, "different": 2, "failed": 1, "left_out": 0 },
            "waits_for": ["`engine promote` or `engine abort`"],
        });
        let ended = json!({
            "strategy": "canary", "generation": 3, "result": "aborted", "seconds": 4.6,
            "reasons": ["graph rag: 12% of 40 requests failed, where it was 0% of 700"],
        });
        let told = [canary, shadow].map(|rollout| {
            table(&json!({ "generation": 2, "rollout": rollout, "last_rollout": ended }))
        });
        expect![[r#"
            generation 2
            rollout of generation 4: canary, step 2 of 3 with 25% of requests, for 61 s
              stable  requests 750     failed 1     p50 12.3 ms  p99 40.0 ms
              next    requests 250     failed 0     p50 12.3 ms  p99 40.0 ms
              waits for another 12 s and 50 more requests
            last rollout: canary of generation 3 was aborted after 5 s: graph rag: 12% of 40 requests failed, where it was 0% of 700
            generation 2
            rollout of generation 5: shadow, copies of 10% of requests: 7 same, 2 different, 1 failed, 0 left out, for 3 s
              stable  requests 10      failed 0     p50 12.3 ms  p99 40.0 ms
              next    requests 0       failed 0     p50 12.3 ms  p99 40.0 ms
              waits for `engine promote` or `engine abort`
            last rollout: canary of generation 3 was aborted after 5 s: graph rag: 12% of 40 requests failed, where it was 0% of 700
        "#]].assert_eq(&told.concat());
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
