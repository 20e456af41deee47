//! A generation that is started beside the one that is served, until it takes its place or goes.
//!
//! What is to happen is decided in [`rollout`](crate::rollout); here it is done.

use super::{Done, Problems, Supervisor, capacity, change::Candidate};
use crate::{
    ingress::Next,
    rollout::{
        choose::Split,
        judge::{Compared, Verdict, judge},
        report::{End, Ended, Report, SideReport},
        shadow::{Copies, Differences},
        tally::Seen,
    },
    topology::Topology,
};
use graphs::Program;
use nodes::StandardCatalog;
use schema::Share;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{info, warn};

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

/// The generation before, which stays started for a while.
pub(super) struct Standby {
    topology: Arc<Topology>,
    catalog: Arc<StandardCatalog>,
    until: Instant,
}

impl Standby {
    pub(super) fn new(
        topology: Arc<Topology>,
        catalog: Arc<StandardCatalog>,
        until: Instant,
    ) -> Self {
        Self {
            topology,
            catalog,
            until,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.topology.generation()
    }

    pub(super) fn into_parts(self) -> (Arc<Topology>, Arc<StandardCatalog>) {
        (self.topology, self.catalog)
    }
}

impl Supervisor {
    /// Begins to give requests to a generation that is started.
    pub(super) fn begin(&mut self, candidate: Candidate) -> Done {
        let Some(strategy) = candidate.plan.rollout.clone() else {
            return Done::default();
        };
        let now = Instant::now();
        let stable = self.front.topology();
        let base = readings(&candidate, &stable);
        let copies = match &strategy {
            schema::Rollout::Shadow(shadow) => Copies::new(shadow.max_ongoing_requests),
            _ => Copies::new(0),
        };
        let rollout = Rollout {
            candidate,
            strategy,
            begun: now,
            step: (0, now),
            written: (base.clone(), Differences::default()),
            base,
            copies: Arc::new(copies),
            waits_for: Vec::new(),
        };
        let done = Done {
            plan: Some(rollout.candidate.plan.clone()),
            rollout: rollout.in_words(),
        };
        self.divide(&rollout);
        self.rollout = Some(rollout);
        self.tick(now);
        done
    }

    /// Looks at what is under way.
    pub(super) fn tick(&mut self, now: Instant) {
        if self
            .standby
            .as_ref()
            .is_some_and(|standby| standby.until <= now)
        {
            drop(self.let_standby_go());
        }
        let stable = self.front.topology();
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let readings = readings(&rollout.candidate, &stable);
        rollout.write(&readings, self.front.metrics().rollout());
        match rollout.judged(&readings, now) {
            Verdict::Hold(waits_for) => rollout.waits_for = waits_for,
            Verdict::Advance => {
                rollout.advance(readings, now);
                info!(rollout = rollout.in_words(), "the canary did well");
            }
            Verdict::Promote => {
                self.promote(vec!["it did well in every step".to_owned()]);
                return;
            }
            Verdict::Abort(reasons) => {
                self.abort(reasons);
                return;
            }
        }
        if let Some(rollout) = &self.rollout {
            self.divide(rollout);
            self.control.report(rollout.report(&stable, now));
        }
    }

    /// An operator wants all requests to get the next generation.
    pub(super) fn promote_now(&mut self) -> Result<Done, Problems> {
        let by_hand = vec!["`engine promote` was asked for".to_owned()];
        self.promote(by_hand).ok_or_else(none_under_way)
    }

    /// An operator wants the next generation to go.
    pub(super) fn abort_now(&mut self) -> Result<Done, Problems> {
        let by_hand = vec!["`engine abort` was asked for".to_owned()];
        self.abort(by_hand).ok_or_else(none_under_way)
    }

    /// Whether what is under way is about this program already.
    pub(super) fn rolls_out(&self, program: &Program) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| {
            let next = rollout.candidate.topology.program();
            graphs::plan(next, program, capacity()).is_empty()
        })
    }

    /// Gives up what is between the generation that is served and whatever comes next: in words, and
    /// what is about to go.
    pub(super) fn make_way(&mut self) -> (String, Vec<Arc<Topology>>) {
        let mut going: Vec<_> = self.let_standby_go().into_iter().collect();
        let Some(rollout) = self.rollout.take() else {
            return (String::new(), going);
        };
        let words = format!(
            "the rollout of generation {} is given up; ",
            rollout.generation()
        );
        going.push(Arc::clone(&rollout.candidate.topology));
        self.give_up(
            rollout,
            End::Replaced,
            vec!["the file changed again".to_owned()],
        );
        (words, going)
    }

    fn promote(&mut self, reasons: Vec<String>) -> Option<Done> {
        let rollout = self.rollout.take()?;
        let keep = match &rollout.strategy {
            schema::Rollout::BlueGreen(blue_green) => blue_green.keep,
            _ => Duration::ZERO,
        };
        let ended = rollout.ended(End::Promoted, reasons);
        let plan = self.publish(rollout.candidate, keep);
        let words = self.tell(ended);
        Some(Done {
            plan: Some(plan),
            rollout: words,
        })
    }

    fn abort(&mut self, reasons: Vec<String>) -> Option<Done> {
        let rollout = self.rollout.take()?;
        let rollout = self.give_up(rollout, End::Aborted, reasons);
        Some(Done {
            plan: None,
            rollout,
        })
    }

    /// Has all requests get the generation that is served, and lets the other one finish.
    fn give_up(&self, rollout: Rollout, end: End, reasons: Vec<String>) -> String {
        self.front.withdraw();
        rollout.candidate.topology.retire(&[&self.front.topology()]);
        self.tell(rollout.ended(end, reasons))
    }

    /// Says how a rollout ended, and gives it back in words.
    fn tell(&self, ended: Ended) -> String {
        let (generation, reasons) = (ended.generation, ended.reasons.join("; "));
        let words = format!(
            "generation {generation} was {}: {reasons}",
            ended.result.name()
        );
        match ended.result {
            End::Aborted => warn!(generation, reasons, "the rollout was aborted"),
            End::Promoted => info!(
                generation,
                reasons, "the rollout has ended; all requests get it"
            ),
            End::Replaced => info!(generation, reasons, "the rollout was given up"),
        }
        self.front.metrics().rollout().ended(ended.result);
        self.control.end(ended);
        words
    }

    fn let_standby_go(&mut self) -> Option<Arc<Topology>> {
        let Standby { topology, .. } = self.standby.take()?;
        topology.retire(&[&self.front.topology()]);
        Some(topology)
    }

    /// Has requests divided as a rollout is at the moment.
    fn divide(&self, rollout: &Rollout) {
        let (generation, share) = (rollout.generation(), rollout.share());
        self.front.metrics().rollout().divides(generation, share.0);
        self.front.offer(rollout.next());
    }
}

impl Rollout {
    pub(super) fn generation(&self) -> u64 {
        self.candidate.topology.generation()
    }

    /// The share of requests that the next generation gets, or whose copies it gets.
    fn share(&self) -> Share {
        match &self.strategy {
            schema::Rollout::Canary(canary) => {
                let step = canary.steps.get(self.step.0);
                step.map_or(Share(1.0), |step| step.share.value)
            }
            schema::Rollout::BlueGreen(_) => Share(0.0),
            schema::Rollout::Shadow(shadow) => shadow.share,
        }
    }

    fn next(&self) -> Next {
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

    /// Writes what has come since the last time into the series.
    fn write(&mut self, readings: &[Compared], metrics: &crate::metrics::RolloutMetrics) {
        let (before, copied) = &self.written;
        for (now, before) in readings.iter().zip(before) {
            let since = now.since(before);
            metrics.answered("stable", &since.stable);
            metrics.answered("next", &since.next);
        }
        let differences = self.copies.differences();
        metrics.copied(*copied, differences);
        self.written = (readings.to_vec(), differences);
    }

    fn report(&self, stable: &Topology, now: Instant) -> Report {
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

    fn ended(&self, result: End, reasons: Vec<String>) -> Ended {
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

    fn in_words(&self) -> String {
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

fn none_under_way() -> Problems {
    vec!["no rollout is under way".to_owned()]
}
