//! When a failing node is left alone for a while: the circuit breaker of Nygard, *Release It!*.
//! Pure: time is an argument.

use schema::Breaker as Spec;
use std::{collections::VecDeque, time::Duration};

/// Parts that the window is divided into: how finely old results are forgotten.
const BUCKETS: u32 = 10;

/// The state of one node's breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    spec: Spec,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// Items pass; their results are counted.
    Closed(Window),
    /// Items are refused until then.
    Open { until: Duration },
    /// One item is under way to try the node; others are refused.
    HalfOpen,
}

/// What an item may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Go ahead, and report the result.
    Pass,
    /// Refused; there may be another try after this time.
    Refused {
        /// Time until then.
        retry_after: Duration,
    },
}

impl Breaker {
    /// A closed breaker.
    pub fn new(spec: Spec) -> Self {
        Self {
            spec,
            state: State::Closed(Window::default()),
        }
    }

    /// Whether an item may go ahead now.
    pub fn admit(&mut self, now: Duration) -> Admission {
        match self.state {
            State::Closed(_) => Admission::Pass,
            State::Open { until } if now >= until => {
                self.state = State::HalfOpen;
                Admission::Pass
            }
            State::Open { until } => Admission::Refused {
                retry_after: until - now,
            },
            State::HalfOpen => Admission::Refused {
                retry_after: self.spec.open,
            },
        }
    }

    /// Notes how an item that was let through ended.
    pub fn record(&mut self, now: Duration, ended: Ended) {
        match (&mut self.state, ended) {
            (State::Closed(window), Ended::Well | Ended::Badly) => {
                window.count(now, self.spec.window, ended == Ended::Badly);
                if window.is_bad(&self.spec) {
                    self.open(now);
                }
            }
            (State::HalfOpen, Ended::Well) => self.state = State::Closed(Window::default()),
            (State::HalfOpen, Ended::Badly) => self.open(now),
            // Given up before it was answered: the next item is the trial.
            (State::HalfOpen, Ended::Unknown) => self.state = State::Open { until: now },
            // A straggler from before it opened, or an item that tells nothing of the node.
            (State::Open { .. }, _) | (State::Closed(_), Ended::Unknown) => {}
        }
    }

    /// Whether items are refused.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed(_))
    }

    fn open(&mut self, now: Duration) {
        self.state = State::Open {
            until: now + self.spec.open,
        };
    }
}

/// How an item ended, as far as it tells of the node's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The node did its work, also if it found the item at fault.
    Well,
    /// The node failed, was out of reach, or took too long.
    Badly,
    /// The caller gave up first.
    Unknown,
}

/// Results of the last stretch of time, counted in buckets.
#[derive(Debug, Clone, Default)]
struct Window {
    buckets: VecDeque<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    begin: Duration,
    total: u32,
    bad: u32,
}

impl Window {
    fn count(&mut self, now: Duration, length: Duration, bad: bool) {
        while self
            .buckets
            .front()
            .is_some_and(|bucket| now >= bucket.begin + length)
        {
            self.buckets.pop_front();
        }
        let width = length / BUCKETS;
        if self
            .buckets
            .back()
            .is_none_or(|bucket| now >= bucket.begin + width)
        {
            self.buckets.push_back(Bucket {
                begin: now,
                total: 0,
                bad: 0,
            });
        }
        if let Some(bucket) = self.buckets.back_mut() {
            bucket.total += 1;
            bucket.bad += u32::from(bad);
        }
    }

    fn is_bad(&self, spec: &Spec) -> bool {
        let total: u32 = self.buckets.iter().map(|bucket| bucket.total).sum();
        let bad: u32 = self.buckets.iter().map(|bucket| bucket.bad).sum();
        total >= spec.min_requests.max(1) && f64::from(bad) >= spec.errors * f64::from(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Spec {
            window: Duration::from_secs(10),
            errors: 0.5,
            min_requests: 4,
            open: Duration::from_secs(5),
        })
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn opens_at_the_share_and_not_before_enough_were_seen() {
        let mut breaker = breaker();
        for ended in [Ended::Badly, Ended::Badly, Ended::Well] {
            breaker.record(at(0), ended);
            assert_eq!(breaker.admit(at(0)), Admission::Pass);
        }
        breaker.record(at(1), Ended::Well);
        assert_eq!(
            breaker.admit(at(2)),
            Admission::Refused { retry_after: at(4) }
        );
    }

    #[test]
    fn one_item_tries_and_its_result_decides() {
        let mut breaker = breaker();
        (0..4).for_each(|_| breaker.record(at(0), Ended::Badly));
        assert_eq!(breaker.admit(at(5)), Admission::Pass);
        assert!(matches!(breaker.admit(at(5)), Admission::Refused { .. }));
        breaker.record(at(6), Ended::Badly);
        assert_eq!(
            breaker.admit(at(7)),
            Admission::Refused { retry_after: at(4) }
        );
        assert_eq!(breaker.admit(at(11)), Admission::Pass);
        breaker.record(at(11), Ended::Well);
        assert_eq!(breaker.admit(at(11)), Admission::Pass);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_trial_that_was_given_up_is_followed_by_another() {
        let mut breaker = breaker();
        (0..4).for_each(|_| breaker.record(at(0), Ended::Badly));
        assert_eq!(breaker.admit(at(5)), Admission::Pass);
        breaker.record(at(6), Ended::Unknown);
        assert_eq!(breaker.admit(at(6)), Admission::Pass);
    }

    #[test]
    fn old_results_are_forgotten() {
        let mut breaker = breaker();
        (0..3).for_each(|_| breaker.record(at(0), Ended::Badly));
        breaker.record(at(11), Ended::Badly);
        assert!(!breaker.is_open());
    }

    #[test]
    fn stragglers_do_not_prolong_it() {
        let mut breaker = breaker();
        (0..4).for_each(|_| breaker.record(at(0), Ended::Badly));
        breaker.record(at(4), Ended::Badly);
        assert_eq!(breaker.admit(at(5)), Admission::Pass);
    }
}
