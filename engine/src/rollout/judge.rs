//! What becomes of a canary: it holds, gets more requests, is promoted or aborted. Pure: what was
//! counted and how long it has been go in, a verdict with its reasons comes out.
//!
//! Each graph is compared with itself. Once the next generation has answered enough requests, what
//! was counted is taken as it is. Before that only a failure rate counts that cannot be chance, so
//! that a generation that fails always is not asked a hundred times.

use super::tally::Seen;
use schema::{Canary, Share};
use std::{fmt::Write as _, time::Duration};

/// Failures without which nothing is said early.
const EARLY: u64 = 5;

/// How sure an early verdict is, in standard deviations.
const SURE: f64 = 3.0;

/// Requests of the stable generation without which durations are not compared.
const KNOWN: u64 = 20;

/// A difference of durations that nobody notices, and that noise makes.
const NOISE: Duration = Duration::from_millis(2);

/// What both generations answered of one graph in the current step.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// The graph.
    pub graph: String,
    /// The generation that is served.
    pub stable: Seen,
    /// The next one.
    pub next: Seen,
}

impl Compared {
    /// What has come since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            graph: self.graph.clone(),
            stable: self.stable.since(&earlier.stable),
            next: self.next.since(&earlier.next),
        }
    }
}

/// What becomes of a canary.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It goes on as it is, for these reasons.
    Hold(Vec<String>),
    /// It goes on with the next step.
    Advance,
    /// It did well in the last step.
    Promote,
    /// It did worse, for these reasons.
    Abort(Vec<String>),
}

/// Judges the step with this number, which has gone on for so long.
pub fn judge(canary: &Canary, step: usize, lasted: Duration, graphs: &[Compared]) -> Verdict {
    let Some(current) = canary.steps.get(step) else {
        return Verdict::Promote;
    };
    let enough = u64::from(current.min_requests);
    let faults: Vec<_> = graphs
        .iter()
        .flat_map(|graph| faults(canary, graph, enough))
        .collect();
    if !faults.is_empty() {
        return Verdict::Abort(faults);
    }
    let mut waits = Vec::new();
    if let Some(left) = current
        .interval
        .checked_sub(lasted)
        .filter(|left| !left.is_zero())
    {
        waits.push(format!("another {}", rounded(left)));
    }
    let answered: u64 = graphs.iter().map(|graph| graph.next.answered).sum();
    if answered < enough {
        waits.push(match enough - answered {
            1 => "one more request".to_owned(),
            missing => format!("{missing} more requests"),
        });
    }
    match waits.is_empty() {
        false => Verdict::Hold(waits),
        true if step + 1 < canary.steps.len() => Verdict::Advance,
        true => Verdict::Promote,
    }
}

/// In which ways the next generation is worse in one graph.
fn faults(canary: &Canary, graph: &Compared, enough: u64) -> Vec<String> {
    let Compared {
        graph: name,
        stable,
        next,
    } = graph;
    let (before, now) = (stable.errors(), next.errors());
    let tolerated = before + canary.max_errors.0;
    let sure = next.failed >= EARLY && at_least(next.failed, next.answered) > tolerated;
    let known = next.answered >= enough;
    let mut faults = Vec::new();
    if sure || (known && now > tolerated) {
        faults.push(format!(
            "graph {name}: {} of {} requests failed, where it was {} of {}",
            percent(now),
            next.answered,
            percent(before),
            stable.answered
        ));
    }
    let compared = known && stable.well() >= KNOWN;
    let durations = stable
        .quantile(canary.percentile)
        .zip(next.quantile(canary.percentile));
    if let (true, Some((before, now))) = (compared, durations)
        && now > before.mul_f64(1.0 + canary.max_slowdown.0)
        && now > before + NOISE
    {
        let mut fault = format!(
            "graph {name}: p{}",
            percent(canary.percentile).to_string().trim_end_matches('%')
        );
        // Writing to a string does not fail.
        let _ = write!(
            fault,
            " is {}, where it was {}",
            millis(now),
            millis(before)
        );
        faults.push(fault);
    }
    faults
}

/// The share that at least fails, as sure as [`SURE`] says: the lower end of the interval of Wilson,
/// *Probable inference, the law of succession, and statistical inference* (1927).
fn at_least(failed: u64, answered: u64) -> f64 {
    let (n, z2) = (answered.max(1) as f64, SURE * SURE);
    let p = failed as f64 / n;
    let middle = p + z2 / (2.0 * n);
    let half = SURE * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    (middle - half) / (1.0 + z2 / n)
}

fn percent(share: f64) -> Share {
    Share((share * 1000.0).round() / 1000.0)
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// Whole seconds, rounded up, unless there is less than one.
fn rounded(left: Duration) -> String {
    match left.as_secs() {
        0 => format!("{} ms", left.as_millis().max(1)),
        _ => format!("{} s", left.as_secs_f64().ceil()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::tally::Tally;
    use expect_test::expect;
    use schema::{CanaryStep, Spanned};

    /// What a graph answered: so many, of which so many failed, each in so many milliseconds.
    fn seen((answered, failed, millis): (u64, u64, u64)) -> Seen {
        let tally = Tally::default();
        for number in 0..answered {
            let status = if number < failed { 500 } else { 200 };
            tally.count(status, Duration::from_millis(millis));
        }
        tally.seen()
    }

    fn verdict(
        step: usize,
        seconds: f64,
        stable: (u64, u64, u64),
        next: (u64, u64, u64),
    ) -> String {
        let steps = [0.05, 0.5].map(|share| CanaryStep {
            share: Spanned::new(Share(share), schema::Span::default()),
            interval: Duration::from_secs(60),
            min_requests: 100,
        });
        let canary = Canary {
            steps: steps.into(),
            ..Canary::default()
        };
        let graph = Compared {
            graph: "rag".to_owned(),
            stable: seen(stable),
            next: seen(next),
        };
        match judge(&canary, step, Duration::from_secs_f64(seconds), &[graph]) {
            Verdict::Hold(reasons) => format!("hold: {}", reasons.join(", ")),
            Verdict::Abort(reasons) => format!("abort: {}", reasons.join("; ")),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    #[test]
    fn verdicts() {
        let good = (2000, 0, 10);
        let rows = [
            ("nothing yet", verdict(0, 0.0, (0, 0, 0), (0, 0, 0))),
            ("time is missing", verdict(0, 45.2, good, (150, 0, 10))),
            ("requests are missing", verdict(0, 90.0, good, (60, 0, 10))),
            ("both are there", verdict(0, 60.0, good, (100, 0, 10))),
            ("in the last step", verdict(1, 60.0, good, (100, 0, 10))),
            ("after the last step", verdict(2, 0.0, good, (0, 0, 10))),
            ("less than a second", verdict(0, 59.9, good, (100, 0, 10))),
            (
                "an error within the tolerance",
                verdict(0, 60.0, good, (100, 1, 10)),
            ),
            ("errors beyond it", verdict(0, 1.0, good, (100, 2, 10))),
            (
                "as many as before",
                verdict(0, 60.0, (2000, 40, 10), (100, 3, 10)),
            ),
            ("four failures of four", verdict(0, 1.0, good, (4, 4, 10))),
            ("five failures of five", verdict(0, 1.0, good, (5, 5, 10))),
            (
                "five failures of ninety",
                verdict(0, 1.0, good, (90, 5, 10)),
            ),
            (
                "five of ninety, as before",
                verdict(0, 1.0, (2000, 120, 10), (90, 5, 10)),
            ),
            ("a fifth slower", verdict(0, 60.0, good, (100, 0, 12))),
            ("twice as slow", verdict(0, 1.0, good, (100, 0, 20))),
            (
                "twice as slow, too few to tell",
                verdict(0, 1.0, good, (99, 0, 20)),
            ),
            (
                "twice as slow, nothing to compare with",
                verdict(0, 60.0, (19, 0, 10), (100, 0, 20)),
            ),
            (
                "twice as slow, and not to be noticed",
                verdict(0, 60.0, (2000, 0, 1), (100, 0, 2)),
            ),
            ("errors and slow", verdict(0, 1.0, good, (200, 100, 50))),
        ];
        let table: String = rows.map(|(what, is)| format!("{what}: {is}\n")).concat();
        expect![[r#"
            nothing yet: hold: another 60 s, 100 more requests
            time is missing: hold: another 15 s
            requests are missing: hold: 40 more requests
            both are there: advance
            in the last step: promote
            after the last step: promote
            less than a second: hold: another 100 ms
            an error within the tolerance: advance
            errors beyond it: abort: graph rag: 2% of 100 requests failed, where it was 0% of 2000
            as many as before: advance
            four failures of four: hold: another 59 s, 96 more requests
            five failures of five: abort: graph rag: 100% of 5 requests failed, where it was 0% of 2000
            five failures of ninety: abort: graph rag: 5.6% of 90 requests failed, where it was 0% of 2000
            five of ninety, as before: hold: another 59 s, 10 more requests
            a fifth slower: advance
            twice as slow: abort: graph rag: p95 is 20.5 ms, where it was 10.2 ms
            twice as slow, too few to tell: hold: another 59 s, one more request
            twice as slow, nothing to compare with: advance
            twice as slow, and not to be noticed: advance
            errors and slow: abort: graph rag: 50% of 200 requests failed, where it was 0% of 2000; graph rag: p95 is 51.2 ms, where it was 10.2 ms
        "#]].assert_eq(&table);
    }

    #[test]
    fn a_graph_that_fails_is_not_hidden_by_others() {
        let graph = |graph: &str, next| Compared {
            graph: graph.to_owned(),
            stable: seen((5000, 0, 10)),
            next: seen(next),
        };
        let graphs = [graph("busy", (5000, 0, 10)), graph("rare", (20, 10, 10))];
        let verdict = judge(&Canary::default(), 0, Duration::ZERO, &graphs);
        let Verdict::Abort(reasons) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(
            reasons,
            ["graph rare: 50% of 20 requests failed, where it was 0% of 5000"]
        );
    }
}
