//! Copies of requests: how the answer of the next generation compares with the one that was given.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The fields of an answer, or the status in its place.
pub type Answered = Result<Value, u16>;

/// How two answers compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// The same fields with the same values, or the same status.
    Same,
    /// Other values.
    Different,
    /// The next generation failed, and the stable one did not.
    Failed,
}

/// Compares what a client got with what it would have got.
pub fn compare(stable: &Answered, next: &Answered) -> Difference {
    match (stable, next) {
        (stable, next) if stable == next => Difference::Same,
        (Ok(_), Err(_)) => Difference::Failed,
        _ => Difference::Different,
    }
}

/// The copies of one rollout.
#[derive(Debug)]
pub struct Copies {
    room: Arc<Semaphore>,
    same: AtomicU64,
    different: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
}

/// How many copies compared in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Copies with the same answer.
    pub same: u64,
    /// Copies with another one.
    pub different: u64,
    /// Copies that failed where the request did not.
    pub failed: u64,
    /// Requests that were not copied because too many copies were under way, and copies that were
    /// given up with their request.
    pub left_out: u64,
}

impl Copies {
    /// Of which so many may be under way at once.
    pub fn new(most: u32) -> Self {
        Self {
            room: Arc::new(Semaphore::new(most as usize)),
            same: AtomicU64::new(0),
            different: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Lets one begin, if there is room; to be kept until it has ended.
    pub fn begin(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.room).try_acquire_owned().ok();
        if permit.is_none() {
            self.leave_out();
        }
        permit
    }

    /// One was not made, or not ended.
    pub fn leave_out(&self) {
        self.left_out.fetch_add(1, Relaxed);
    }

    /// One has ended.
    pub fn note(&self, difference: Difference) {
        let count = match difference {
            Difference::Same => &self.same,
            Difference::Different => &self.different,
            Difference::Failed => &self.failed,
        };
        count.fetch_add(1, Relaxed);
    }

    /// What was counted so far.
    pub fn differences(&self) -> Differences {
        Differences {
            same: self.same.load(Relaxed),
            different: self.different.load(Relaxed),
            failed: self.failed.load(Relaxed),
            left_out: self.left_out.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Difference::{Different, Failed, Same};
    use serde_json::json;

    #[test]
    fn answers_compare_by_their_values() {
        let (a, b) = (json!({ "x": 1, "y": [1.5] }), json!({ "y": [1.5], "x": 1 }));
        let other = json!({ "x": 2, "y": [1.5] });
        let rows = [
            (Ok(a.clone()), Ok(b), Same),
            (Ok(a.clone()), Ok(other.clone()), Different),
            (Ok(a), Err(500), Failed),
            (Err(503), Ok(other), Different),
            (Err(400), Err(400), Same),
            (Err(400), Err(500), Different),
        ];
        for (stable, next, expected) in rows {
            assert_eq!(compare(&stable, &next), expected, "{stable:?} {next:?}");
        }
    }

    #[test]
    fn copies_are_bounded() {
        let copies = Copies::new(1);
        let first = copies.begin();
        assert!(first.is_some() && copies.begin().is_none());
        drop(first);
        assert!(copies.begin().is_some());
        assert_eq!(copies.differences().left_out, 1);
    }
}
