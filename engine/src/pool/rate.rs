//! How fast a pool gets through its items, to tell a refused caller when to come back. Pure.

use std::time::Duration;

/// Items per second, averaged with weights that fade over [`MEMORY`].
#[derive(Debug, Default)]
pub(super) struct Rate {
    first: Option<Duration>,
    last: Duration,
    faded: f64,
}

/// The age at which an observation counts for 1/e of a fresh one, in seconds.
const MEMORY: f64 = 10.0;

/// What a caller is told where nothing is known yet, and at least.
const SHORTEST: Duration = Duration::from_secs(1);

/// What a caller is told at most.
const LONGEST: Duration = Duration::from_secs(60);

impl Rate {
    /// Takes note of items that were done at `now`.
    pub(super) fn done(&mut self, now: Duration, items: usize) {
        self.faded = self.faded_at(now) + items as f64;
        self.last = now;
        self.first.get_or_insert(now);
    }

    /// When `waiting` items will be through, as far as can be told.
    pub(super) fn retry_after(&self, now: Duration, waiting: usize) -> Duration {
        match self.per_second(now) {
            Some(rate) if rate > 0.0 => told(waiting as f64 / rate),
            _ => SHORTEST,
        }
    }

    fn per_second(&self, now: Duration) -> Option<f64> {
        let seen = now.saturating_sub(self.first?).as_secs_f64();
        // Shortly after the start the weights do not add up to MEMORY yet.
        let weights = MEMORY * (1.0 - (-seen / MEMORY).exp());
        (weights > 0.0).then(|| self.faded_at(now) / weights)
    }

    fn faded_at(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.last).as_secs_f64();
        self.faded * (-age / MEMORY).exp()
    }
}

/// What a caller is told who should come back after so many seconds.
pub(super) fn told(seconds: f64) -> Duration {
    let seconds = seconds.clamp(SHORTEST.as_secs_f64(), LONGEST.as_secs_f64());
    Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_found() {
        let mut rate = Rate::default();
        assert_eq!(rate.retry_after(Duration::ZERO, 100), SHORTEST);
        for tenth in 0..300 {
            rate.done(Duration::from_millis(100 * tenth), 2);
        }
        let told = rate.retry_after(Duration::from_secs(30), 100).as_secs_f64();
        assert!(
            (4.5..5.5).contains(&told),
            "20 a second, 100 waiting: {told} s"
        );
        assert_eq!(rate.retry_after(Duration::from_secs(30), 1), SHORTEST);
        assert_eq!(rate.retry_after(Duration::from_secs(900), 100), LONGEST);
    }
}
