//! How long a node usually takes. Pure.

use std::{collections::VecDeque, time::Duration};

/// How many of the latest durations are looked at.
const SEEN: usize = 512;

/// Fewest durations from which something is concluded.
const FEWEST: usize = 20;

/// After how many new durations the answer is worked out again.
const EVERY: usize = 32;

/// A percentile of the latest durations.
#[derive(Debug)]
pub struct Percentile {
    share: f64,
    seen: VecDeque<Duration>,
    news: usize,
    answer: Option<Duration>,
}

impl Percentile {
    /// Of nothing yet; `share` is 0.95 for the 95th.
    pub fn new(share: f64) -> Self {
        Self {
            share,
            seen: VecDeque::new(),
            news: 0,
            answer: None,
        }
    }

    /// Takes note of a duration.
    pub fn see(&mut self, duration: Duration) {
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(duration);
        self.news += 1;
        let due = self.answer.is_none() || self.news >= EVERY;
        if due && self.seen.len() >= FEWEST {
            self.news = 0;
            let mut sorted: Vec<_> = self.seen.iter().copied().collect();
            let rank = (self.share * sorted.len() as f64).ceil() as usize;
            let rank = rank.clamp(1, sorted.len()) - 1;
            let (_, answer, _) = sorted.select_nth_unstable(rank);
            self.answer = Some(*answer);
        }
    }

    /// The duration that the share stays within; none before enough was seen.
    pub fn get(&self) -> Option<Duration> {
        self.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_follows_what_is_seen() {
        let ms = Duration::from_millis;
        let mut percentile = Percentile::new(0.95);
        (1..20).for_each(|n| percentile.see(ms(n)));
        assert_eq!(percentile.get(), None);
        percentile.see(ms(20));
        assert_eq!(percentile.get(), Some(ms(19)));
        (0..SEEN).for_each(|_| percentile.see(ms(100)));
        assert_eq!(percentile.get(), Some(ms(100)));
    }
}
