//! A record as text for a person: what came of the requests, what each node did, and a line for
//! each step of time.

use super::{
    record::{How, Record},
    timeline::{self, Latency},
};
use std::{fmt::Write, time::Duration};

/// The whole report.
pub fn text(record: &Record) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = summary(&mut text, record);
    let _ = nodes(&mut text, record);
    let _ = table(&mut text, record);
    text
}

/// How many requests ended in a way.
pub(super) fn count(record: &Record, how: How) -> u64 {
    let ended = record.requests.iter().filter(|request| request.how == how);
    ended.count() as u64
}

/// The latency of all answers.
pub(super) fn latency(record: &Record) -> Latency {
    let answered = record.requests.iter();
    let answered = answered.filter(|request| request.how == How::Answered);
    Latency::of(answered.map(|request| request.took).collect())
}

fn summary(text: &mut String, record: &Record) -> std::fmt::Result {
    let all = record.requests.len() as u64;
    let trace = seconds(record.trace_end);
    writeln!(text, "{}: {all} requests in {trace}", record.graph)?;
    writeln!(text)?;
    for (name, how) in [
        ("answered", How::Answered),
        ("refused", How::Refused),
        ("too late", How::Late),
    ] {
        let count = count(record, how);
        let share = 100.0 * count as f64 / all.max(1) as f64;
        writeln!(text, "  {name:<10} {count:>8}  {share:>5.1} %")?;
    }
    let latency = latency(record);
    write!(text, "  {:<10}", "latency")?;
    for (name, time) in [
        ("p50", latency.p50),
        ("p95", latency.p95),
        ("p99", latency.p99),
        ("max", latency.max),
    ] {
        write!(text, "  {name} {}", cell(time))?;
    }
    writeln!(text, "\n")
}

fn nodes(text: &mut String, record: &Record) -> std::fmt::Result {
    for node in &record.nodes {
        let (fewest, most) = node.replicas();
        let replica_seconds = node.replica_time.as_secs_f64();
        let waits = Latency::of(node.waits.clone());
        writeln!(text, "{} {}: {}", node.kind, node.node, node.assumption())?;
        writeln!(
            text,
            "  {fewest} to {most} replicas, {replica_seconds:.1} replica-seconds; {} batches of {:.1}",
            node.batches,
            node.mean_batch()
        )?;
        writeln!(
            text,
            "  waited p50 {} p99 {}; at most {} waiting; {} refused, {} too late",
            cell(waits.p50),
            cell(waits.p99),
            node.most_waiting(),
            node.refused,
            node.late
        )?;
    }
    for note in &record.notes {
        writeln!(text, "note: {note}")?;
    }
    writeln!(text)
}

fn table(text: &mut String, record: &Record) -> std::fmt::Result {
    let step = (record.step * timeline::FINE).as_secs_f64();
    let columns = record
        .nodes
        .iter()
        .map(|node| node.node.chars().count().max(16));
    let columns: Vec<usize> = columns.collect();
    write!(
        text,
        "{:>9} {:>9} {:>9} {:>8}",
        "time", "offered", "answered", "refused"
    )?;
    write!(text, " {:>8} {:>8} {:>8}", "too late", "p50", "p99")?;
    for (node, width) in record.nodes.iter().zip(&columns) {
        write!(text, "  {:>width$}", node.node)?;
    }
    writeln!(text)?;
    write!(
        text,
        "{:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "", "/s", "/s", "", "", "", ""
    )?;
    for width in &columns {
        write!(text, "  {:>width$}", "replicas waiting")?;
    }
    writeln!(text)?;
    for row in timeline::rows(record, timeline::FINE) {
        write!(
            text,
            "{:>9} {:>9.1} {:>9.1} {:>8} {:>8} {:>8} {:>8}",
            seconds(row.start),
            row.offered as f64 / step,
            row.answered as f64 / step,
            row.refused,
            row.late,
            cell(row.latency.p50),
            cell(row.latency.p99)
        )?;
        for (sample, width) in row.nodes.iter().zip(&columns) {
            let replicas = width - 8;
            write!(text, "  {:>replicas$}{:>8}", sample.working, sample.waiting)?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn cell(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), short)
}

/// A time in few letters.
pub(super) fn short(time: Duration) -> String {
    match time.as_secs_f64() {
        0.0 => "0".to_owned(),
        seconds if seconds < 0.001 => format!("{:.0} us", seconds * 1e6),
        seconds if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 99.95 => format!("{seconds:.1} s"),
        seconds => format!("{seconds:.0} s"),
    }
}

/// A place on the time axis.
pub(super) fn seconds(time: Duration) -> String {
    let seconds = (time.as_secs_f64() * 10.0).round() / 10.0;
    format!("{seconds} s")
}
