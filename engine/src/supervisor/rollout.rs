//! A generation that is started beside the one that is served, until it takes its place or goes.
//!
//! What is to happen is decided in [`rollout`](crate::rollout); here it is done.

use super::{Done, Problems, Supervisor, capacity, change::Candidate, under_way::Rollout};
use crate::{
    rollout::{
        judge::Verdict,
        report::{End, Ended},
    },
    topology::Topology,
};
use graphs::Program;
use nodes::StandardCatalog;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::{info, warn};

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
        let rollout = Rollout::new(candidate, strategy, &self.front.topology(), now);
        let done = Done {
            plan: Some(rollout.plan().clone()),
            rollout: rollout.in_words(),
        };
        self.divide(&rollout);
        self.rollout = Some(rollout);
        self.tick(now);
        done
    }

    /// Looks at what is under way.
    pub(super) fn tick(&mut self, now: Instant) {
        let standby = self.standby.as_ref();
        if standby.is_some_and(|standby| standby.until <= now) {
            drop(self.let_standby_go());
        }
        let stable = self.front.topology();
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        match rollout.look(&stable, now, self.front.metrics().rollout()) {
            Verdict::Hold(_) => {}
            Verdict::Advance => info!(rollout = rollout.in_words(), "the canary did well"),
            Verdict::Promote => {
                self.promote(vec!["it did well in every step".to_owned()]);
            }
            Verdict::Abort(reasons) => {
                self.abort(reasons);
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
            let next = rollout.topology().program();
            graphs::plan(next, program, capacity()).is_empty()
        })
    }

    /// Gives up what is between the generation that is served and whatever comes next: in words, and
    /// what is about to go.
    pub(super) fn make_way(&mut self) -> (String, Vec<Arc<Topology>>) {
        let mut going: Vec<_> = self.let_standby_go().into_iter().collect();
        let Some(rollout) = self.take_rollout() else {
            return (String::new(), going);
        };
        let generation = rollout.generation();
        going.push(Arc::clone(rollout.topology()));
        let reasons = vec!["the file changed again".to_owned()];
        self.give_up(rollout, End::Replaced, reasons);
        (
            format!("the rollout of generation {generation} is given up; "),
            going,
        )
    }

    /// The rollout that is under way, with all that was answered by now in the series.
    fn take_rollout(&mut self) -> Option<Rollout> {
        let mut rollout = self.rollout.take()?;
        rollout.count(&self.front.topology(), self.front.metrics().rollout());
        Some(rollout)
    }

    fn promote(&mut self, reasons: Vec<String>) -> Option<Done> {
        let rollout = self.take_rollout()?;
        let ended = rollout.ended(End::Promoted, reasons);
        let (candidate, keep) = rollout.into_candidate();
        let plan = self.publish(candidate, keep);
        let words = self.tell(ended);
        Some(Done {
            plan: Some(plan),
            rollout: words,
        })
    }

    fn abort(&mut self, reasons: Vec<String>) -> Option<Done> {
        let rollout = self.take_rollout()?;
        let rollout = self.give_up(rollout, End::Aborted, reasons);
        Some(Done {
            plan: None,
            rollout,
        })
    }

    /// Has all requests get the generation that is served, and lets the other one finish.
    fn give_up(&self, rollout: Rollout, end: End, reasons: Vec<String>) -> String {
        self.front.withdraw();
        rollout.topology().retire(&[&self.front.topology()]);
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

fn none_under_way() -> Problems {
    vec!["no rollout is under way".to_owned()]
}
