//! What came of a load: counts, throughput, latency.

use hdrhistogram::Histogram;
use serde_json::json;
use std::{collections::BTreeMap, fmt::Write, time::Duration};

/// What came of a load.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Latency of successful requests in microseconds.
    latency: Histogram<u64>,
    /// Answers by status.
    statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    no_answer: u64,
    /// Requests that an open loop could not send because too many were under way.
    pub not_sent: u64,
    /// Length of the measured part, until the last answer.
    pub seconds: f64,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            // Three digits from one microsecond up; it grows as far as it must.
            latency: Histogram::new(3).expect("three significant digits are allowed"),
            statuses: BTreeMap::new(),
            no_answer: 0,
            not_sent: 0,
            seconds: 0.0,
        }
    }
}

const PERCENTILES: [f64; 5] = [50.0, 90.0, 95.0, 99.0, 99.9];

impl Outcome {
    /// Counts one request.
    pub fn record(&mut self, status: Option<u16>, took: Duration) {
        let Some(status) = status else {
            self.no_answer += 1;
            return;
        };
        *self.statuses.entry(status).or_default() += 1;
        if (200..300).contains(&status) {
            // The histogram grows by itself; what it cannot hold is centuries.
            self.latency += took.as_micros() as u64;
        }
    }

    /// Successful requests.
    pub fn succeeded(&self) -> u64 {
        self.latency.len()
    }

    /// Requests that failed, by status or without an answer.
    pub fn failed(&self) -> u64 {
        let answered: u64 = self.statuses.values().sum();
        answered - self.succeeded() + self.no_answer
    }

    /// Successful requests a second.
    pub fn throughput(&self) -> f64 {
        match self.seconds > 0.0 {
            true => self.succeeded() as f64 / self.seconds,
            false => 0.0,
        }
    }

    /// Latency at a percentile (0 to 100), in milliseconds.
    pub fn latency_ms(&self, percentile: f64) -> f64 {
        self.latency.value_at_percentile(percentile) as f64 / 1e3
    }

    /// For scripts.
    pub fn json(&self) -> serde_json::Value {
        let percentiles: serde_json::Map<_, _> = PERCENTILES
            .iter()
            .map(|percentile| {
                (
                    format!("p{percentile}"),
                    json!(self.latency_ms(*percentile)),
                )
            })
            .collect();
        json!({
            "seconds": self.seconds,
            "succeeded": self.succeeded(),
            "failed": self.failed(),
            "not_sent": self.not_sent,
            "no_answer": self.no_answer,
            "statuses": self.statuses,
            "requests_per_second": self.throughput(),
            "latency_ms": percentiles,
            "latency_mean_ms": self.latency.mean() / 1e3,
            "latency_max_ms": self.latency.max() as f64 / 1e3,
        })
    }

    /// For a person: counts, percentiles, and the histogram as bars.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{} answered, {} failed in {:.1} s: {:.1} requests/s",
            self.succeeded(),
            self.failed(),
            self.seconds,
            self.throughput()
        );
        for (status, count) in self.statuses.iter().filter(|(status, _)| **status >= 300) {
            let _ = writeln!(text, "  {count} with status {status}");
        }
        if self.no_answer > 0 {
            let _ = writeln!(text, "  {} without an answer", self.no_answer);
        }
        if self.not_sent > 0 {
            let _ = writeln!(
                text,
                "  {} not sent: too many were under way",
                self.not_sent
            );
        }
        if self.succeeded() == 0 {
            return text;
        }
        text.push_str("latency");
        for percentile in PERCENTILES {
            let _ = write!(
                text,
                "  p{percentile} {}",
                milliseconds(self.latency_ms(percentile))
            );
        }
        let _ = writeln!(
            text,
            "  max {}",
            milliseconds(self.latency.max() as f64 / 1e3)
        );
        self.bars(&mut text);
        text
    }

    /// One bar for each step of the latency, each step half as long again as the one before.
    fn bars(&self, text: &mut String) {
        let low = self.latency.min().max(1);
        let steps: Vec<_> = self
            .latency
            .iter_log(low, 1.5)
            .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
            .filter(|(_, count)| *count > 0)
            .collect();
        let most = steps.iter().map(|(_, count)| *count).max().unwrap_or(1);
        for (upper, count) in steps {
            let width = (count * 40).div_ceil(most) as usize;
            let upper = milliseconds(upper as f64 / 1e3);
            let _ = writeln!(text, "  ≤ {upper:>9}  {:<40} {count}", "█".repeat(width));
        }
    }
}

fn milliseconds(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2} ms"),
        value if value < 1000.0 => format!("{value:.0} ms"),
        value => format!("{:.1} s", value / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_successes_failures_and_latency() {
        let mut outcome = Outcome::default();
        for milliseconds in 1..=100 {
            outcome.record(Some(200), Duration::from_millis(milliseconds));
        }
        outcome.record(Some(503), Duration::from_millis(1));
        outcome.record(None, Duration::from_millis(1));
        outcome.seconds = 2.0;
        assert_eq!((outcome.succeeded(), outcome.failed()), (100, 2));
        assert_eq!(outcome.throughput(), 50.0);
        assert!((outcome.latency_ms(50.0) - 50.0).abs() < 0.1);
        assert_eq!(outcome.json()["statuses"]["503"], 1);
        assert!(outcome.text().contains("1 with status 503"));
        assert!(outcome.text().contains("1 without an answer"));
    }

    #[test]
    fn an_empty_outcome_has_no_latency() {
        let text = Outcome::default().text();
        assert_eq!(text, "0 answered, 0 failed in 0.0 s: 0.0 requests/s\n");
    }
}
