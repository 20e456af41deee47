//! The load of a pool, averaged over a stretch of time. Pure: time is an argument.

use std::{collections::VecDeque, time::Duration};

/// The mean of what was seen lately. Looks are meant to be evenly spaced: each counts the same.
#[derive(Debug)]
pub struct Average {
    look_back: Duration,
    seen: VecDeque<(Duration, f64)>,
}

impl Average {
    /// Of nothing yet.
    pub fn new(look_back: Duration) -> Self {
        Self {
            look_back,
            seen: VecDeque::new(),
        }
    }

    /// Takes note of a load, and says the mean of those that are not older than `look_back`.
    pub fn see(&mut self, now: Duration, load: f64) -> f64 {
        self.seen.push_back((now, load));
        while self
            .seen
            .front()
            .is_some_and(|(at, _)| now.saturating_sub(*at) > self.look_back)
        {
            self.seen.pop_front();
        }
        // Summed anew each time, so that nothing drifts and an idle pool has a load of exactly 0.
        self.seen.iter().map(|(_, load)| load).sum::<f64>() / self.seen.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_forgotten() {
        let mut average = Average::new(Duration::from_secs(2));
        let mut see = |second, load| average.see(Duration::from_secs(second), load);
        assert_eq!(see(0, 6.0), 6.0);
        assert_eq!(see(1, 0.0), 3.0);
        assert_eq!(see(2, 0.0), 2.0);
        assert_eq!(see(3, 0.0), 0.0);
        assert_eq!(see(9, 5.0), 5.0);
    }
}
