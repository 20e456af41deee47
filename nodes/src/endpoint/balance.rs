//! Which endpoint is asked next, and which are left alone for a while. Pure: time and chance are
//! arguments.
//!
//! Two endpoints are drawn and the one with less load is taken ("the power of two choices",
//! Mitzenmacher 2001); load is the time that an answer takes at its worst of late (the peak-sensitive
//! moving average of Finagle and tower), times the calls under way. tower's own `Balance` is not used,
//! because a call that failed must go to an endpoint that it has not tried yet. A call that names an
//! adapter goes where [placement](crate::placement) says that it is warm.

use crate::placement::{Spot, place};
use std::time::Duration;

/// What an endpoint is taken to need before it has answered once.
const UNKNOWN: f64 = 0.03;
/// How fast the memory of a slow answer fades, in seconds.
const DECAY: f64 = 10.0;
/// Failures in a row after which an endpoint is left alone.
const FAILURES: u32 = 3;
/// How long at first; it doubles while the endpoint goes on failing.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Calls that an endpoint takes without being passed over for its load by those that name an adapter.
/// A server runs as many in one step for little more than one.
const LEAST: usize = 4;

/// The endpoints of a node, as far as choosing one goes.
#[derive(Debug)]
pub(super) struct Balance {
    ends: Vec<End>,
}

#[derive(Debug, Clone)]
struct End {
    /// What placement knows it by.
    identity: u64,
    /// Seconds that an answer takes, and when that was last brought up to date.
    usual: f64,
    seen: Duration,
    ongoing: u32,
    /// Failures since the last answer.
    failures: u32,
    /// How often it was left alone since the last answer.
    pauses: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    In,
    /// Left alone until then.
    Out {
        until: Duration,
    },
    /// Somebody is finding out whether it is there again.
    Probed,
}

/// How a call ended, as far as it tells of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It did its work, also if it found the item at fault.
    Well,
    /// It failed, was out of reach, or took too long.
    Badly,
    /// It has no room, and said for how long.
    Full(Duration),
}

/// What a call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing of note.
    None,
    /// The endpoint is left alone for so long.
    Out(Duration),
}

impl Balance {
    /// Endpoints with these identities, all taken to be well.
    pub(super) fn new(identities: impl Iterator<Item = u64>) -> Self {
        let end = |identity| End {
            identity,
            usual: UNKNOWN,
            seen: Duration::ZERO,
            ongoing: 0,
            failures: 0,
            pauses: 0,
            state: State::In,
        };
        Self {
            ends: identities.map(end).collect(),
        }
    }

    /// The endpoint for a call that has `tried` some already and may name an `adapter`; none if it has
    /// tried all. It counts as under way until [`Balance::left`].
    ///
    /// Where all that are left are left alone, the one whose pause ends first is asked anyway: it may
    /// be well again, and nothing is lost.
    pub(super) fn choose(
        &mut self,
        now: Duration,
        tried: &[usize],
        adapter: Option<&str>,
        chance: u64,
    ) -> Option<usize> {
        let open = |index: &usize| !tried.contains(index);
        let well: Vec<usize> = (0..self.ends.len())
            .filter(open)
            .filter(|index| self.ends[*index].state == State::In)
            .collect();
        let chosen = match (well.len(), adapter) {
            (0, _) => (0..self.ends.len()).filter(open).min_by_key(|index| {
                match self.ends[*index].state {
                    State::In | State::Probed => Duration::ZERO,
                    State::Out { until } => until,
                }
            })?,
            (1, _) => well[0],
            (_, Some(adapter)) => well[place(adapter, &self.spots(&well), LEAST)?],
            (many, None) => {
                let first = (chance % many as u64) as usize;
                let step = 1 + (chance / many as u64 % (many as u64 - 1)) as usize;
                let (first, second) = (well[first], well[(first + step) % many]);
                match self.ends[second].load(now) < self.ends[first].load(now) {
                    true => second,
                    false => first,
                }
            }
        };
        self.ends[chosen].ongoing += 1;
        Some(chosen)
    }

    fn spots(&self, ends: &[usize]) -> Vec<Spot> {
        let ends = ends.iter().map(|index| &self.ends[*index]);
        let spot = |end: &End| Spot {
            identity: end.identity,
            load: end.ongoing as usize,
        };
        ends.map(spot).collect()
    }

    /// An endpoint whose pause is over, to be asked whether it is there; each once.
    pub(super) fn due(&mut self, now: Duration) -> Option<usize> {
        let due = |end: &End| matches!(end.state, State::Out { until } if until <= now);
        let index = self.ends.iter().position(due)?;
        self.ends[index].state = State::Probed;
        Some(index)
    }

    /// Whether a probed endpoint is there again. It is trusted only as far as its next failure.
    pub(super) fn probed(&mut self, now: Duration, index: usize, there: bool) {
        let end = &mut self.ends[index];
        if end.state == State::Probed {
            match there {
                true => (end.state, end.failures) = (State::In, FAILURES - 1),
                false => drop(end.leave_alone(now)),
            }
        }
    }

    /// Notes how a call ended that took `took` to be answered.
    pub(super) fn ended(
        &mut self,
        now: Duration,
        index: usize,
        took: Duration,
        how: Ended,
    ) -> Change {
        let alone = self.ends.len() == 1;
        let end = &mut self.ends[index];
        match how {
            Ended::Well => {
                end.observe(now, took);
                (end.failures, end.pauses, end.state) = (0, 0, State::In);
                Change::None
            }
            // The only endpoint is never left alone: that is the node's breaker to decide.
            _ if alone => Change::None,
            Ended::Full(pause) => {
                let pause = pause.min(LONGEST_PAUSE);
                end.state = State::Out { until: now + pause };
                Change::Out(pause)
            }
            Ended::Badly => {
                end.failures = end.failures.saturating_add(1);
                match end.failures >= FAILURES && end.state == State::In {
                    true => end.leave_alone(now),
                    false => Change::None,
                }
            }
        }
    }

    /// A call is not under way any more.
    pub(super) fn left(&mut self, index: usize) {
        self.ends[index].ongoing -= 1;
    }
}

impl End {
    fn load(&self, now: Duration) -> f64 {
        let faded = (-now.saturating_sub(self.seen).as_secs_f64() / DECAY).exp();
        // An endpoint that nobody asks is forgiven in time.
        self.usual * faded.max(0.05) * f64::from(self.ongoing + 1)
    }

    fn observe(&mut self, now: Duration, took: Duration) {
        let (took, passed) = (took.as_secs_f64(), now.saturating_sub(self.seen));
        let old = (-passed.as_secs_f64() / DECAY).exp();
        self.usual = match took > self.usual {
            true => took,
            false => self.usual * old + took * (1.0 - old),
        };
        self.seen = now;
    }

    fn leave_alone(&mut self, now: Duration) -> Change {
        let pause = PAUSE.saturating_mul(1 << self.pauses.min(6));
        let pause = pause.min(LONGEST_PAUSE);
        self.pauses += 1;
        self.state = State::Out { until: now + pause };
        Change::Out(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(balance: &mut Balance, now: Duration, index: usize, times: u32) -> Change {
        let calls = (0..times).map(|_| balance.ended(now, index, SECOND, Ended::Badly));
        calls.last().unwrap()
    }

    #[test]
    fn the_less_loaded_of_two_is_taken() {
        let mut balance = Balance::new(0..2);
        balance.ended(Duration::ZERO, 0, SECOND * 2, Ended::Well);
        balance.ended(Duration::ZERO, 1, SECOND, Ended::Well);
        let chosen: Vec<_> = (0..3)
            .map(|chance| balance.choose(Duration::ZERO, &[], None, chance).unwrap())
            .collect();
        // Twice as fast: it gets a second call before the other gets its first, and then they are even.
        assert_eq!(chosen[..1], [1]);
        assert_eq!(chosen.iter().filter(|index| **index == 1).count(), 2);
    }

    #[test]
    fn every_endpoint_is_drawn() {
        let mut counts = [0; 4];
        for chance in 0..12 {
            let mut balance = Balance::new(0..4);
            counts[balance.choose(Duration::ZERO, &[], None, chance).unwrap()] += 1;
        }
        assert_eq!(counts, [3; 4]);
    }

    #[test]
    fn a_call_tries_each_endpoint_once() {
        let mut balance = Balance::new(0..3);
        let mut tried = Vec::new();
        while let Some(index) = balance.choose(Duration::ZERO, &tried, None, 7) {
            tried.push(index);
        }
        tried.sort_unstable();
        assert_eq!(tried, [0, 1, 2]);
    }

    #[test]
    fn an_endpoint_that_fails_is_left_alone_and_comes_back() {
        let mut balance = Balance::new(0..2);
        assert_eq!(fail(&mut balance, SECOND, 0, 2), Change::None);
        assert_eq!(fail(&mut balance, SECOND, 0, 1), Change::Out(SECOND));
        for chance in 0..8 {
            assert_eq!(balance.choose(SECOND, &[], None, chance), Some(1));
        }
        assert_eq!(balance.due(SECOND), None);
        assert_eq!(balance.due(SECOND * 2), Some(0));
        assert_eq!(balance.due(SECOND * 2), None, "it is asked once");
        balance.probed(SECOND * 2, 0, false);
        assert_eq!(balance.due(SECOND * 3), None, "the pause has doubled");
        assert_eq!(balance.due(SECOND * 4), Some(0));
        balance.probed(SECOND * 4, 0, true);
        assert_eq!(
            fail(&mut balance, SECOND * 4, 0, 1),
            Change::Out(SECOND * 4),
            "one failure is enough after a probe"
        );
        assert_eq!(balance.due(SECOND * 8), Some(0));
        balance.probed(SECOND * 8, 0, true);
        balance.ended(SECOND * 8, 0, SECOND, Ended::Well);
        assert_eq!(fail(&mut balance, SECOND * 9, 0, 2), Change::None);
    }

    #[test]
    fn a_full_endpoint_is_believed() {
        let mut balance = Balance::new(0..2);
        let full = balance.ended(SECOND, 0, SECOND, Ended::Full(SECOND * 5));
        assert_eq!(full, Change::Out(SECOND * 5));
        assert_eq!(balance.choose(SECOND * 5, &[], None, 0), Some(1));
        assert_eq!(balance.due(SECOND * 6), Some(0));
    }

    #[test]
    fn where_all_are_left_alone_one_is_asked_nevertheless() {
        let mut balance = Balance::new(0..2);
        fail(&mut balance, SECOND, 0, 3);
        fail(&mut balance, SECOND * 2, 1, 3);
        assert_eq!(balance.choose(SECOND * 2, &[], None, 0), Some(0));
        assert_eq!(balance.choose(SECOND * 2, &[0], None, 0), Some(1));
        assert_eq!(balance.choose(SECOND * 2, &[0, 1], None, 0), None);
        let mut only = Balance::new(0..1);
        assert_eq!(fail(&mut only, SECOND, 0, 9), Change::None);
    }

    #[test]
    fn an_answer_during_a_pause_ends_it() {
        let mut balance = Balance::new(0..2);
        fail(&mut balance, SECOND, 0, 3);
        balance.ended(SECOND, 0, Duration::ZERO, Ended::Well);
        let chosen: Vec<_> = (0..4)
            .map(|chance| balance.choose(SECOND, &[], None, chance).unwrap())
            .collect();
        assert!(chosen.contains(&0), "{chosen:?}");
    }

    #[test]
    fn an_adapter_stays_until_its_endpoint_is_left_alone() {
        let mut balance = Balance::new(0..4);
        let ask = |balance: &mut Balance, tried: &[usize]| {
            let chosen = balance.choose(SECOND, tried, Some("qa"), 7).unwrap();
            balance.left(chosen);
            chosen
        };
        let home = ask(&mut balance, &[]);
        for slow in 0..4 {
            balance.ended(SECOND, slow, SECOND * 9, Ended::Well);
            assert_eq!(ask(&mut balance, &[]), home);
        }
        let second = ask(&mut balance, &[home]);
        assert_ne!(second, home);
        fail(&mut balance, SECOND, home, 3);
        assert_eq!(ask(&mut balance, &[]), second);
        balance.ended(SECOND, home, SECOND, Ended::Well);
        assert_eq!(ask(&mut balance, &[]), home);
    }
}
