//! A record cut into steps of time, for tables and plots.

use super::record::{How, Record, Sample};
use std::time::Duration;

/// How many samples make a row of the table.
pub(super) const FINE: u32 = 10;

/// Rows of a table at most, for a trace of any length that is usual.
const ROWS: u128 = 24;

/// Steps that people count in, in milliseconds.
const STEPS: [u64; 20] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000,
    600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 86_400_000,
];

/// What happened in a step of time. Requests count where they came, whenever they ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    /// When it begins.
    pub(super) start: Duration,
    pub(super) offered: u64,
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) late: u64,
    /// Of the answers.
    pub(super) latency: Latency,
    /// Of each node.
    pub(super) nodes: Vec<Sample>,
}

/// Percentiles of times; none of no times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) p50: Option<Duration>,
    pub(super) p95: Option<Duration>,
    pub(super) p99: Option<Duration>,
    pub(super) max: Option<Duration>,
}

/// How long a row of the table is for a trace that ends then.
pub(super) fn step(end: Duration) -> Duration {
    let fits = |step: &Duration| end.as_nanos() <= step.as_nanos() * ROWS;
    let mut steps = STEPS.into_iter().map(Duration::from_millis);
    let days = || Duration::from_secs(86_400) * (end.as_secs() / 86_400 / 24 + 1) as u32;
    steps.find(fits).unwrap_or_else(days)
}

/// The record in steps of `samples` samples each.
pub(super) fn rows(record: &Record, samples: u32) -> Vec<Row> {
    let step = record.step * samples;
    let last = (record.end.as_nanos().saturating_sub(1) / step.as_nanos().max(1)) as usize;
    let mut rows: Vec<Row> = (0..=last)
        .map(|index| Row {
            start: step * index as u32,
            nodes: of_nodes(record, index, samples as usize),
            ..Row::default()
        })
        .collect();
    let mut times = vec![Vec::new(); rows.len()];
    for request in &record.requests {
        let index = (request.arrived.as_nanos() / step.as_nanos().max(1)) as usize;
        let index = index.min(last);
        let row = &mut rows[index];
        row.offered += 1;
        match request.how {
            How::Answered => {
                row.answered += 1;
                times[index].push(request.took);
            }
            How::Refused => row.refused += 1,
            How::Late => row.late += 1,
        }
    }
    for (row, times) in rows.iter_mut().zip(times) {
        row.latency = Latency::of(times);
    }
    rows
}

fn of_nodes(record: &Record, index: usize, width: usize) -> Vec<Sample> {
    let nodes = record.nodes.iter().map(|node| {
        let from = (index * width).min(node.samples.len());
        let until = (from + width).min(node.samples.len());
        let part = &node.samples[from..until];
        let waiting = part.iter().map(|sample| sample.waiting).max();
        let most = part.iter().map(|sample| sample.most).max();
        let last = part.last().copied().unwrap_or_default();
        Sample {
            waiting: waiting.unwrap_or(0),
            most: most.unwrap_or(0),
            ..last
        }
    });
    nodes.collect()
}

impl Latency {
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        // The nearest rank: a time that was measured, and not one between two.
        let at = |share: f64| {
            let rank = (share * times.len() as f64).ceil() as usize;
            times.get(rank.max(1) - 1).copied()
        };
        Self {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: times.last().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let latency = Latency::of((1..=200).rev().map(Duration::from_millis).collect());
        let milliseconds = |time: Option<Duration>| time.map(|time| time.as_millis());
        assert_eq!(milliseconds(latency.p50), Some(100));
        assert_eq!(milliseconds(latency.p95), Some(190));
        assert_eq!(milliseconds(latency.p99), Some(198));
        assert_eq!(milliseconds(latency.max), Some(200));
        assert_eq!(Latency::of(Vec::new()), Latency::default());
    }

    #[test]
    fn a_table_has_few_rows_of_round_length() {
        for (end, wanted) in [(1, 100), (60, 5_000), (180, 10_000), (3_600, 300_000)] {
            let step = step(Duration::from_secs(end));
            assert_eq!(step, Duration::from_millis(wanted), "{end} s");
        }
        assert_eq!(step(Duration::from_secs(86_400 * 48)).as_secs(), 86_400 * 3);
    }
}
