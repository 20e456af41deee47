//! The series of rollouts.

use crate::rollout::{report::End, shadow::Differences, tally::Seen};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    generation: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// The series of rollouts. While none is under way, the share and the generation are 0.
#[derive(Debug, Default)]
pub struct RolloutMetrics {
    generation: Gauge,
    share: Gauge<f64, AtomicU64>,
    requests: Family<RequestLabels, Counter>,
    copies: Family<ResultLabels, Counter>,
    ended: Family<ResultLabels, Counter>,
}

impl RolloutMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "rollout_generation",
            "The generation that is to be served",
            self.generation.clone(),
        );
        registry.register(
            "rollout_share",
            "Share of requests that it gets, or whose copies it gets",
            self.share.clone(),
        );
        registry.register(
            "rollout_requests",
            "Requests answered during rollouts, by generation",
            self.requests.clone(),
        );
        registry.register(
            "rollout_copies",
            "Copies of requests, by how their answers compare",
            self.copies.clone(),
        );
        registry.register("rollouts", "Rollouts that have ended", self.ended.clone());
    }

    /// A generation gets this share of requests now.
    pub fn divides(&self, generation: u64, share: f64) {
        self.generation.set(generation as i64);
        self.share.set(share);
    }

    /// Counts requests that one of the two generations has answered.
    pub fn answered(&self, generation: &'static str, seen: &Seen) {
        for (result, count) in [
            ("ok", seen.answered.saturating_sub(seen.failed)),
            ("failed", seen.failed),
        ] {
            let labels = RequestLabels { generation, result };
            self.requests.get_or_create_owned(&labels).inc_by(count);
        }
    }

    /// Counts copies that have ended since the last time.
    pub fn copied(&self, before: Differences, now: Differences) {
        for (result, count) in [
            ("same", now.same - before.same),
            ("different", now.different - before.different),
            ("failed", now.failed - before.failed),
            ("left-out", now.left_out - before.left_out),
        ] {
            let labels = ResultLabels { result };
            self.copies.get_or_create_owned(&labels).inc_by(count);
        }
    }

    /// A rollout has ended.
    pub fn ended(&self, end: End) {
        self.divides(0, 0.0);
        let labels = ResultLabels { result: end.name() };
        self.ended.get_or_create_owned(&labels).inc();
    }
}
