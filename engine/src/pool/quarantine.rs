//! Items that are known to break what runs them. Pure: time is an argument.
//!
//! An item is known by the digest of its arguments, so that the same request coming again, as
//! clients do that try again, is answered at once and breaks nothing.

use crate::resilience::Fingerprint;
use nodes::NodeError;
use std::{collections::HashMap, time::Duration};

/// How long an item stays.
const TERM: Duration = Duration::from_secs(60);

/// Most items; beyond it the oldest is let go.
const ROOM: usize = 1024;

/// The items and what they are answered.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    items: HashMap<Fingerprint, (Duration, NodeError)>,
}

impl Quarantine {
    /// Puts an item in.
    pub(super) fn put(&mut self, now: Duration, item: Fingerprint, error: NodeError) {
        self.items.retain(|_, (until, _)| *until > now);
        if self.items.len() >= ROOM {
            let oldest = self.items.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(oldest) = oldest.map(|(item, _)| *item) {
                self.items.remove(&oldest);
            }
        }
        self.items.insert(item, (now + TERM, error));
    }

    /// Whether nothing is in, so that no item needs to be looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What an item is answered, if it is in.
    pub(super) fn answer(&mut self, now: Duration, item: &Fingerprint) -> Option<NodeError> {
        let (until, error) = self.items.get(item)?;
        if *until > now {
            return Some(error.clone());
        }
        self.items.remove(item);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_stays_for_its_term_and_the_oldest_makes_room() {
        let mut quarantine = Quarantine::default();
        let item = |n: usize| Fingerprint::of_bytes(&n.to_le_bytes());
        let second = Duration::from_secs(1);
        quarantine.put(Duration::ZERO, item(0), NodeError::failed("0"));
        assert!(quarantine.answer(TERM - second, &item(0)).is_some());
        assert!(quarantine.answer(TERM, &item(0)).is_none());
        assert!(quarantine.is_empty());
        for n in 0..=ROOM {
            quarantine.put(
                Duration::from_millis(n as u64),
                item(n),
                NodeError::failed("x"),
            );
        }
        assert!(quarantine.answer(second * 2, &item(0)).is_none());
        assert!(quarantine.answer(second * 2, &item(1)).is_some());
    }
}
