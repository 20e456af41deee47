//! What a rollout that is under way knows: what was counted since when, and what it waits for.

use super::change::Candidate;
use crate::{
    ingress::Next,
    metrics::RolloutMetrics,
    rollout::{
        choose::Split,
        judge::{Compared, Verdict, judge},
        report::{End, Ended, Report, SideReport},
        shadow::{Copies, Differences},
        tally::Seen,
    },
    topology::Topology,
};
use graphs::Plan;
use schema::Share;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// What a generation waits for that is promoted by hand.
const BY_HAND: &str = "`engine promote` or `engine abort`";

/// A rollout that is under way.
pub(super) struct Rollout {
    candidate: Candidate,
    strategy: schema::Rollout,
    begun: Instant,
    /// Which step of a canary it is at, and since when.
    step: (usize, Instant),
    /// What was counted when the step began.
    base: Vec<Compared>,
    /// What was counted when the series were written last.
    written: (Vec<Compared>, Differences),
    copies: Arc<Copies>,
    waits_for: Vec<String>,
}

impl Rollout {
    /// Begins with what is started. `stable` is what is served.
    pub(super) fn new(
        candidate: Candidate,
        strategy: schema::Rollout,
        stable: &Topology,
        now: Instant,
    ) -> Self {
        let copies = match &strategy {
            schema::Rollout::Shadow(shadow) => Copies::new(shadow.max_ongoing_requests),
            _ => Copies::new(0),
        };
        let base = readings(&candidate, stable);
        Self {
            candidate,
            strategy,
            begun: now,
            step: (0, now),
            written: (base.clone(), Differences::default()),
            base,
            copies: Arc::new(copies),
            waits_for: Vec::new(),
        }
    }

    /// The generation that it is about.
    pub(super) fn topology(&self) -> &Arc<Topology> {
        &self.candidate.topology
    }

    /// What becomes of the parts.
    pub(super) fn plan(&self) -> &Plan {
        &self.candidate.plan
    }

    /// The generation that it is about, and how long the one before is to stay after it is served.
    pub(super) fn into_candidate(self) -> (Candidate, Duration) {
        let keep = match &self.strategy {
            schema::Rollout::BlueGreen(blue_green) => blue_green.keep,
            _ => Duration::ZERO,
        };
        (self.candidate, keep)
    }

    /// Looks at what was answered, writes it into the series, and says what is to happen. Where that is
    /// to go on, it does.
    pub(super) fn look(
        &mut self,
        stable: &Topology,
        now: Instant,
        metrics: &RolloutMetrics,
    ) -> Verdict {
        let readings = self.count(stable, metrics);
        let verdict = self.judged(&readings, now);
        match &verdict {
            Verdict::Hold(waits_for) => self.waits_for.clone_from(waits_for),
            Verdict::Advance => self.advance(readings, now),
            Verdict::Promote | Verdict::Abort(_) => {}
        }
        verdict
    }

    /// Counts the topologies of this process.
    pub(super) fn generation(&self) -> u64 {
        self.candidate.topology.generation()
    }

    /// The share of requests that the next generation gets, or whose copies it gets.
    pub(super) fn share(&self) -> Share {
        match &self.strategy {
            schema::Rollout::Canary(canary) => {
                let step = canary.steps.get(self.step.0);
                step.map_or(Share(1.0), |step| step.share.value)
            }
            schema::Rollout::BlueGreen(_) => Share(0.0),
            schema::Rollout::Shadow(shadow) => shadow.share,
        }
    }

    /// How requests are divided at the moment.
    pub(super) fn next(&self) -> Next {
        let sticky = match &self.strategy {
            schema::Rollout::Canary(canary) => canary.sticky.as_ref(),
            _ => None,
        };
        Next {
            topology: Arc::clone(&self.candidate.topology),
            split: Split {
                share: self.share(),
                copies: matches!(self.strategy, schema::Rollout::Shadow(_)),
                sticky: sticky.map(|header| header.value.clone()),
                salt: self.generation(),
            },
            copies: Arc::clone(&self.copies),
        }
    }

    fn judged(&self, readings: &[Compared], now: Instant) -> Verdict {
        match &self.strategy {
            schema::Rollout::Canary(canary) => {
                let (step, since) = self.step;
                judge(canary, step, now - since, &self.since_step(readings))
            }
            _ => Verdict::Hold(vec![BY_HAND.to_owned()]),
        }
    }

    fn advance(&mut self, readings: Vec<Compared>, now: Instant) {
        self.step = (self.step.0 + 1, now);
        self.base = readings;
        self.waits_for.clear();
    }

    fn since_step(&self, readings: &[Compared]) -> Vec<Compared> {
        let pairs = readings.iter().zip(&self.base);
        pairs.map(|(now, before)| now.since(before)).collect()
    }

    /// Reads what was answered, and writes what has come since the last time into the series.
    pub(super) fn count(&mut self, stable: &Topology, metrics: &RolloutMetrics) -> Vec<Compared> {
        let readings = readings(&self.candidate, stable);
        let (before, copied) = &self.written;
        for (now, before) in readings.iter().zip(before) {
            let since = now.since(before);
            metrics.answered("stable", &since.stable);
            metrics.answered("next", &since.next);
        }
        let differences = self.copies.differences();
        metrics.copied(*copied, differences);
        self.written = (readings.clone(), differences);
        readings
    }

    /// How it is doing.
    pub(super) fn report(&self, stable: &Topology, now: Instant) -> Report {
        let since = self.since_step(&readings(&self.candidate, stable));
        let sum = |side: fn(&Compared) -> &Seen| {
            let all = since.iter().map(side);
            SideReport::from(&all.fold(Seen::default(), Seen::and))
        };
        let steps = match &self.strategy {
            schema::Rollout::Canary(canary) => Some(canary.steps.len()),
            _ => None,
        };
        Report {
            strategy: self.name().to_owned(),
            generation: self.generation(),
            seconds: (now - self.begun).as_secs_f64(),
            share: self.share().0,
            step: steps.map(|steps| (self.step.0 + 1, steps)),
            stable: sum(|graph| &graph.stable),
            next: sum(|graph| &graph.next),
            copies: self.differences(),
            waits_for: self.waits_for.clone(),
        }
    }

    /// How it ended.
    pub(super) fn ended(&self, result: End, reasons: Vec<String>) -> Ended {
        Ended {
            strategy: self.name().to_owned(),
            generation: self.generation(),
            result,
            reasons,
            seconds: self.begun.elapsed().as_secs_f64(),
            copies: self.differences(),
        }
    }

    fn differences(&self) -> Option<Differences> {
        let is_shadow = matches!(self.strategy, schema::Rollout::Shadow(_));
        is_shadow.then(|| self.copies.differences())
    }

    fn name(&self) -> &'static str {
        match &self.strategy {
            schema::Rollout::Canary(_) => "canary",
            schema::Rollout::BlueGreen(_) => "blue-green",
            schema::Rollout::Shadow(_) => "shadow",
        }
    }

    /// What the next generation gets at the moment.
    pub(super) fn in_words(&self) -> String {
        let (generation, share) = (self.generation(), self.share());
        match &self.strategy {
            schema::Rollout::Canary(_) => {
                format!("generation {generation} gets {share} of requests")
            }
            schema::Rollout::BlueGreen(_) => {
                format!("generation {generation} is started and waits for {BY_HAND}")
            }
            schema::Rollout::Shadow(_) => format!(
                "generation {generation} gets copies of {share} of requests and waits for {BY_HAND}"
            ),
        }
    }
}

/// What both generations have answered so far, by graph of the next one.
fn readings(candidate: &Candidate, stable: &Topology) -> Vec<Compared> {
    let graphs = candidate
        .topology
        .graphs()
        .iter()
        .zip(&candidate.plan.graphs);
    let compared = graphs.map(|(served, plan)| {
        let before = plan.before.map(|index| &stable.graphs()[index]);
        Compared {
            graph: served.graph().id().to_string(),
            stable: before.map_or_else(Seen::default, |before| before.metrics().tally().seen()),
            next: served.metrics().tally().seen(),
        }
    });
    compared.collect()
}
