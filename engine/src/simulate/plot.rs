//! A record as a picture: panels over one time axis, for traffic, latency, and each node's replicas
//! and queue. It stands for itself: no script, no font, no reference to anything. It follows the
//! reader's light or dark theme.

use super::{
    picture::{Axis, Line, Panel, draw},
    record::Record,
    report,
    timeline::{self, Row},
};
use std::time::Duration;

/// Draws a record as SVG.
pub fn svg(record: &Record) -> String {
    let rows = timeline::rows(record, 1);
    let mut panels = vec![traffic(record, &rows), latency(&rows)];
    for index in 0..record.nodes.len() {
        panels.push(replicas(record, &rows, index));
        panels.push(waiting(record, &rows, index));
    }
    let requests = record.requests.len();
    let title = format!("{}: {requests} requests", record.graph);
    draw(&title, record.end.as_secs_f64(), &panels)
}

/// One point a row, at its beginning, and one at the end of the last.
fn steps(record: &Record, rows: &[Row], value: impl Fn(&Row) -> f64) -> Vec<(f64, f64)> {
    let mut points: Vec<_> = rows
        .iter()
        .map(|row| (row.start.as_secs_f64(), value(row)))
        .collect();
    if let Some((_, last)) = points.last().copied() {
        points.push((record.end.as_secs_f64(), last));
    }
    points
}

fn traffic(record: &Record, rows: &[Row]) -> Panel {
    // Single samples of a thin load are noise, so that a few are put together.
    let width = rows.len().div_ceil(120).max(1);
    let seconds = (record.step * width as u32).as_secs_f64();
    let rate = |value: fn(&Row) -> u64| {
        let chunks = rows.chunks(width);
        let points = chunks.map(|chunk| {
            let sum: u64 = chunk.iter().map(value).sum();
            (chunk[0].start.as_secs_f64(), sum as f64 / seconds)
        });
        points.collect::<Vec<_>>()
    };
    Panel {
        title: "requests a second".to_owned(),
        axis: Axis::Linear,
        lines: vec![
            Line::area("offered", "quiet", rate(|row| row.offered)),
            Line::new("answered", "good", rate(|row| row.answered)),
            Line::new("refused or late", "bad", rate(|row| row.refused + row.late)),
        ],
    }
}

fn latency(rows: &[Row]) -> Panel {
    let of = |value: fn(&Row) -> Option<Duration>| {
        let known = rows.iter().filter_map(|row| {
            let time = value(row)?;
            Some((row.start.as_secs_f64(), time.as_secs_f64()))
        });
        known.collect::<Vec<_>>()
    };
    Panel {
        title: "latency of answers".to_owned(),
        axis: Axis::Times,
        lines: vec![
            Line::new("p50", "good", of(|row| row.latency.p50)),
            Line::new("p95", "warm dashed", of(|row| row.latency.p95)),
            Line::new("p99", "bad", of(|row| row.latency.p99)),
        ],
    }
}

fn replicas(record: &Record, rows: &[Row], index: usize) -> Panel {
    let node = &record.nodes[index];
    let seconds = node.replica_time.as_secs_f64();
    let of = |value: fn(&super::record::Sample) -> usize| {
        steps(record, rows, |row| {
            row.nodes
                .get(index)
                .map_or(0.0, |sample| value(sample) as f64)
        })
    };
    Panel {
        title: format!("{}: replicas ({seconds:.0} replica-seconds)", node.node),
        axis: Axis::Whole,
        lines: vec![
            Line::area("working", "good", of(|sample| sample.working)).stepped(),
            Line::new("wanted", "warm dashed", of(|sample| sample.wanted)).stepped(),
        ],
    }
}

fn waiting(record: &Record, rows: &[Row], index: usize) -> Panel {
    let node = &record.nodes[index];
    let points = steps(record, rows, |row| {
        row.nodes
            .get(index)
            .map_or(0.0, |sample| sample.waiting as f64)
    });
    let wait = super::timeline::Latency::of(node.waits.clone()).p99;
    let wait = wait.map_or_else(String::new, |wait| {
        format!(" (p99 wait {})", report::short(wait))
    });
    Panel {
        title: format!("{}: waiting{wait}", node.node),
        axis: Axis::Whole,
        lines: vec![Line::area("items", "warm", points).stepped()],
    }
}
