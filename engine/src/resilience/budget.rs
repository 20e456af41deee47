//! How much extra work may be caused: a tenth of what is asked. Pure: time is an argument.
//!
//! Tries beyond the first help while failures are few, and bury a node that is overloaded. So each
//! item that is asked pays a tenth into an account, and each extra try takes one out of it.

use std::time::Duration;

/// What each item pays in.
const SHARE: f64 = 0.1;

/// What is there at first, and flows in each second up to this, so that a node that is rarely asked
/// may try again too.
const RESERVE: f64 = 10.0;
const PER_SECOND: f64 = 1.0;

/// The most that can be saved up.
const MOST: f64 = 100.0;

/// The account.
#[derive(Debug, Clone)]
pub struct Budget {
    balance: f64,
    last: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            balance: RESERVE,
            last: Duration::ZERO,
        }
    }
}

impl Budget {
    /// An item was asked.
    pub fn pay_in(&mut self) {
        self.balance = (self.balance + SHARE).min(MOST);
    }

    /// Takes out one extra try, if there is enough for it. `now` counts from any fixed moment.
    pub fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        if self.balance < RESERVE {
            self.balance = (self.balance + passed * PER_SECOND).min(RESERVE);
        }
        let enough = self.balance >= 1.0;
        if enough {
            self.balance -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_may_be_tried_again_once_the_reserve_is_spent() {
        let mut budget = Budget::default();
        let taken = (0..1000).filter(|_| {
            budget.pay_in();
            budget.take(Duration::ZERO)
        });
        let taken = taken.count();
        assert!((109..=111).contains(&taken), "{taken}");
    }

    #[test]
    fn the_reserve_flows_back() {
        let mut budget = Budget::default();
        let take_all = |budget: &mut Budget, now| (0..500).filter(|_| budget.take(now)).count();
        assert_eq!(take_all(&mut budget, Duration::ZERO), 10);
        assert_eq!(take_all(&mut budget, Duration::from_secs(3)), 3);
        assert_eq!(take_all(&mut budget, Duration::from_secs(900)), 10);
    }
}
