//! When a replica that broke is built again, and when there is no point in it for the moment. Pure.

use std::time::Duration;

/// Failures in a row after which the node is unhealthy if it has no replica left.
const LIMIT: u32 = 5;

/// The pause before the third try; the first two are made at once, because one item alone may
/// break two replicas before it is refused.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause. Tries never end: what was out of reach may come back.
const LONGEST: Duration = Duration::from_secs(30);

/// How often in a row replicas broke or could not be built.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Replicas that broke since the last answer.
    broken: u32,
    /// Builds that failed since the last that went well.
    unbuilt: u32,
}

impl Recovery {
    /// A replica broke while it ran.
    pub(super) fn broke(&mut self) {
        self.broken = self.broken.saturating_add(1);
    }

    /// A replica answered.
    pub(super) fn answered(&mut self) {
        self.broken = 0;
    }

    /// A replica was built, or could not be.
    pub(super) fn built(&mut self, well: bool) {
        self.unbuilt = if well {
            0
        } else {
            self.unbuilt.saturating_add(1)
        };
    }

    /// How long to wait before the next build.
    pub(super) fn pause(&self) -> Duration {
        match self.failures() {
            0..=2 => Duration::ZERO,
            failures => FIRST
                .saturating_mul(1 << (failures - 3).min(16))
                .min(LONGEST),
        }
    }

    /// Whether items should be refused rather than wait for a replica.
    pub(super) fn is_hopeless(&self) -> bool {
        self.failures() >= LIMIT
    }

    fn failures(&self) -> u32 {
        self.broken.max(self.unbuilt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut recovery = Recovery::default();
        let mut pauses = Vec::new();
        for _ in 0..13 {
            pauses.push(recovery.pause().as_millis());
            recovery.built(false);
        }
        assert_eq!(
            pauses,
            [
                0, 0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000
            ]
        );
        recovery.built(true);
        assert_eq!(recovery.pause(), Duration::ZERO);
    }

    #[test]
    fn an_answer_ends_a_streak_of_crashes_and_a_build_does_not() {
        let mut recovery = Recovery::default();
        for _ in 0..LIMIT {
            assert!(!recovery.is_hopeless());
            recovery.broke();
            recovery.built(true);
        }
        assert!(recovery.is_hopeless());
        recovery.answered();
        assert!(!recovery.is_hopeless());
    }
}
