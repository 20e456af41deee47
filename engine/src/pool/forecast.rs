//! When an item would be done, by what runs have taken and what goes before it. Pure.

use std::time::Duration;

/// What a run takes, smoothed, with its usual deviation (as RFC 6298 estimates round trips).
#[derive(Debug, Default)]
pub(super) struct Service {
    mean: Option<f64>,
    deviation: f64,
}

/// What a pool can do at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Items that begin together when every replica begins anew.
    pub(super) items: usize,
    /// Until a replica is free.
    pub(super) soonest: Duration,
}

/// What is left of an old observation when a new one comes.
const SMOOTHING: f64 = 7.0 / 8.0;

/// The same for deviations.
const DEVIATION_SMOOTHING: f64 = 3.0 / 4.0;

/// Deviations on top of the mean that are expected of a run.
const MARGIN: f64 = 4.0;

impl Service {
    /// Takes note of a run.
    pub(super) fn took(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        let mean = self.mean.unwrap_or(time);
        let off = (time - mean).abs();
        self.deviation = DEVIATION_SMOOTHING * self.deviation + (1.0 - DEVIATION_SMOOTHING) * off;
        self.mean = Some(SMOOTHING * mean + (1.0 - SMOOTHING) * time);
    }

    /// What the next run will hardly exceed; `None` before the first.
    pub(super) fn expected(&self) -> Option<Duration> {
        let seconds = self.mean? + MARGIN * self.deviation;
        Some(Duration::from_secs_f64(seconds))
    }
}

/// How long an item takes from now on with `ahead` items before it, where a run takes `service`.
/// `None` where nothing can take items at the moment.
pub(super) fn time_to_done(
    service: Duration,
    capacity: Capacity,
    ahead: usize,
) -> Option<Duration> {
    let rounds = ahead.checked_div(capacity.items)?;
    let rounds = u32::try_from(rounds).unwrap_or(u32::MAX).saturating_add(1);
    Some(
        capacity
            .soonest
            .saturating_add(service.saturating_mul(rounds)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_varies_is_expected_to_take_longer() {
        let mut service = Service::default();
        assert_eq!(service.expected(), None);
        for _ in 0..100 {
            service.took(MS * 100);
        }
        let steady = service.expected().unwrap();
        assert!((MS * 99..MS * 101).contains(&steady), "{steady:?}");
        for n in 0..100 {
            service.took(MS * if n % 2 == 0 { 50 } else { 150 });
        }
        let varied = service.expected().unwrap();
        assert!((MS * 270..MS * 320).contains(&varied), "{varied:?}");
        // What was slow once is forgotten.
        service.took(MS * 5000);
        for _ in 0..60 {
            service.took(MS * 100);
        }
        assert!(service.expected().unwrap() < MS * 110);
    }

    #[test]
    fn those_ahead_take_whole_rounds() {
        let capacity = |items| Capacity {
            items,
            soonest: MS * 40,
        };
        let cases = [(0, 140), (31, 140), (32, 240), (63, 240), (64, 340)];
        for (ahead, expected) in cases {
            let time = time_to_done(MS * 100, capacity(32), ahead);
            assert_eq!(time, Some(MS * expected), "{ahead} ahead");
        }
        assert_eq!(time_to_done(MS, capacity(0), 1), None);
    }
}
