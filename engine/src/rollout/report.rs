//! What is told of a rollout: in `/status`, by `engine status`, and in outcomes.

use super::{shadow::Differences, tally::Seen};
use serde::{Deserialize, Serialize};

/// A rollout that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `canary`, `blue-green` or `shadow`.
    pub strategy: String,
    /// The generation that is to be served.
    pub generation: u64,
    /// How long it has been under way.
    pub seconds: f64,
    /// The share of requests that it gets, or whose copies it gets.
    pub share: f64,
    /// Which step of how many it is at, from 1; for a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<(usize, usize)>,
    /// What was answered by the generation that is served, since the step or the rollout began.
    pub stable: SideReport,
    /// What was answered by the next one.
    pub next: SideReport,
    /// How copies compared; for a shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Differences>,
    /// What it waits for.
    pub waits_for: Vec<String>,
}

/// What one generation answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SideReport {
    /// Requests.
    pub requests: u64,
    /// Those of them that failed by the engine's fault.
    pub failed: u64,
    /// Median duration of the others in milliseconds, 0 if there was none.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
}

/// A rollout that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// `canary`, `blue-green` or `shadow`.
    pub strategy: String,
    /// The generation that it was about.
    pub generation: u64,
    /// What came of it.
    pub result: End,
    /// Why.
    pub reasons: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// How copies compared; for a shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Differences>,
}

/// What comes of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// All requests get the next generation.
    Promoted,
    /// The next generation is given up.
    Aborted,
    /// The file changed again, and another generation took its place.
    Replaced,
}

impl End {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            End::Promoted => "promoted",
            End::Aborted => "aborted",
            End::Replaced => "replaced",
        }
    }
}

impl From<&Seen> for SideReport {
    fn from(seen: &Seen) -> Self {
        let millis = |share| {
            let quantile = seen.quantile(share).unwrap_or_default();
            quantile.as_secs_f64() * 1e3
        };
        Self {
            requests: seen.answered,
            failed: seen.failed,
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
        }
    }
}
