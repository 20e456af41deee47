//! A record as JSON for scripts. Times are in seconds.

use super::{
    record::{How, NodeRecord, Record, Sample},
    report::{count, latency},
    timeline::{self, Latency, Row},
};
use serde_json::{Value, json};
use std::time::Duration;

/// The summary, and a row for each step of time.
pub fn json(record: &Record) -> Value {
    let rows = timeline::rows(record, timeline::FINE);
    json!({
        "graph": record.graph,
        "trace_seconds": record.trace_end.as_secs_f64(),
        "seconds": record.end.as_secs_f64(),
        "requests": record.requests.len(),
        "answered": count(record, How::Answered),
        "refused": count(record, How::Refused),
        "late": count(record, How::Late),
        "latency": of_latency(latency(record)),
        "notes": record.notes,
        "nodes": record.nodes.iter().map(of_node).collect::<Vec<_>>(),
        "step_seconds": (record.step * timeline::FINE).as_secs_f64(),
        "steps": rows.iter().map(of_row).collect::<Vec<_>>(),
    })
}

fn of_latency(latency: Latency) -> Value {
    let time = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    json!({
        "p50": time(latency.p50),
        "p95": time(latency.p95),
        "p99": time(latency.p99),
        "max": time(latency.max),
    })
}

fn of_node(node: &NodeRecord) -> Value {
    let (fewest, most) = node.replicas();
    json!({
        "node": node.node,
        "kind": node.kind,
        "service": node.assumed.service.to_string(),
        "startup_seconds": node.assumed.startup.as_secs_f64(),
        "items": node.items,
        "refused": node.refused,
        "late": node.late,
        "batches": node.batches,
        "mean_batch": node.mean_batch(),
        "waited": of_latency(Latency::of(node.waits.clone())),
        "most_waiting": node.most_waiting(),
        "fewest_replicas": fewest,
        "most_replicas": most,
        "replica_seconds": node.replica_time.as_secs_f64(),
    })
}

fn of_row(row: &Row) -> Value {
    let of_sample = |sample: &Sample| {
        json!({
            "replicas": sample.working,
            "wanted": sample.wanted,
            "waiting": sample.waiting,
        })
    };
    json!({
        "start": row.start.as_secs_f64(),
        "offered": row.offered,
        "answered": row.answered,
        "refused": row.refused,
        "late": row.late,
        "latency": of_latency(row.latency),
        "nodes": row.nodes.iter().map(of_sample).collect::<Vec<_>>(),
    })
}
