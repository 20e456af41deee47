//! How often and how fast requests of one generation were answered.
//!
//! Counted with atomic numbers by those who answer, and read as differences: what is compared is
//! what has happened since a moment. Durations lie in buckets of at most a sixteenth of their length,
//! so that a percentile is known to about six percent.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Buckets in which the number doubles.
const PARTS: u64 = 16;

/// Buckets in all: the last ends after more than an hour.
const BUCKETS: usize = 29 * PARTS as usize;

/// What is counted of one graph of one generation.
#[derive(Debug)]
pub struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    durations: Box<[AtomicU64]>,
}

/// A reading of a [`Tally`], or the difference of two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests that were answered, well or not.
    pub answered: u64,
    /// Those of them that failed by the engine's fault.
    pub failed: u64,
    /// Requests that did not fail, by [`bucket`] of their duration.
    durations: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            durations: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Tally {
    /// Counts an answer by its status. A client that left (499) has none, and says nothing.
    pub fn count(&self, status: u16, took: Duration) {
        match status {
            499 => return,
            429 | 500.. => self.failed.fetch_add(1, Relaxed),
            _ => self.durations[bucket(took)].fetch_add(1, Relaxed),
        };
        self.answered.fetch_add(1, Relaxed);
    }

    /// What was counted so far.
    pub fn seen(&self) -> Seen {
        let durations = self.durations.iter();
        Seen {
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            durations: durations.map(|bucket| bucket.load(Relaxed)).collect(),
        }
    }
}

impl Seen {
    /// What has come since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Seen) -> Seen {
        let before = earlier
            .durations
            .iter()
            .copied()
            .chain(std::iter::repeat(0));
        let durations = self.durations.iter().zip(before);
        Seen {
            answered: self.answered.saturating_sub(earlier.answered),
            failed: self.failed.saturating_sub(earlier.failed),
            durations: durations
                .map(|(now, before)| now.saturating_sub(before))
                .collect(),
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Seen) -> Self {
        self.answered += other.answered;
        self.failed += other.failed;
        let longer = self.durations.len().max(other.durations.len());
        self.durations.resize(longer, 0);
        for (sum, more) in self.durations.iter_mut().zip(&other.durations) {
            *sum += more;
        }
        self
    }

    /// The share of requests that failed; 0 if there was none.
    pub fn errors(&self) -> f64 {
        match self.answered {
            0 => 0.0,
            answered => self.failed as f64 / answered as f64,
        }
    }

    /// Requests that did not fail.
    pub fn well(&self) -> u64 {
        self.durations.iter().sum()
    }

    /// The duration within which this share of the requests that did not fail was answered (nearest
    /// rank); none if there was none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share * self.well() as f64).ceil().max(1.0) as u64;
        let mut passed = 0;
        let found = self.durations.iter().position(|count| {
            passed += count;
            passed >= rank
        });
        found.map(|bucket| Duration::from_micros(end(bucket)))
    }
}

/// Which bucket a duration falls in: sixteen from one power of two of microseconds to the next.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let power = u64::from(micros.max(1).ilog2()).max(4);
    let part = micros >> (power - 4);
    (((power - 4) * PARTS + part) as usize).min(BUCKETS - 1)
}

/// The last microsecond of a bucket.
fn end(bucket: usize) -> u64 {
    let (power, part) = ((bucket as u64) / PARTS, (bucket as u64) % PARTS);
    match power {
        0 => part,
        power => ((PARTS + part + 1) << (power - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut before = None;
        for micros in (0..5000).chain((13..31).map(|power| (1 << power) + 77)) {
            let found = bucket(Duration::from_micros(micros));
            assert!(before <= Some(found), "{micros}");
            before = Some(found);
            let end = end(found);
            assert!(
                end >= micros && end - micros <= micros / 16,
                "{micros}: {end}"
            );
        }
        assert_eq!(bucket(Duration::from_secs(1 << 40)), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_of_what_went_well() {
        let tally = Tally::default();
        for millis in 1..=100 {
            tally.count(200, Duration::from_millis(millis));
        }
        tally.count(503, Duration::ZERO);
        tally.count(429, Duration::ZERO);
        tally.count(404, Duration::from_millis(50));
        tally.count(499, Duration::from_secs(9));
        let seen = tally.seen();
        assert_eq!((seen.answered, seen.failed, seen.well()), (103, 2, 101));
        let millis = |share| seen.quantile(share).unwrap().as_secs_f64() * 1e3;
        assert!((49.0..=53.5).contains(&millis(0.5)), "{}", millis(0.5));
        assert!((95.0..=101.0).contains(&millis(0.95)), "{}", millis(0.95));
        assert_eq!(Seen::default().quantile(0.5), None);
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let tally = Tally::default();
        tally.count(200, Duration::from_millis(900));
        let earlier = tally.seen();
        tally.count(200, Duration::from_millis(1));
        tally.count(500, Duration::from_millis(1));
        let since = tally.seen().since(&earlier);
        assert_eq!((since.answered, since.failed), (2, 1));
        assert!(since.quantile(0.99).unwrap() < Duration::from_millis(2));
        assert_eq!(earlier.and(&since), tally.seen());
    }
}
