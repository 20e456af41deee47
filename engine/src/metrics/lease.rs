//! Series live as long as somebody writes them: those of a node that is gone leave with its last
//! handle, and those of a graph with its last topology.
//!
//! A series that is asked for again before that is the same one, so that a count goes on over reloads.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Series that belong to something with a name.
pub(super) trait Families {
    /// The name.
    type Labels: Clone + Eq + Hash;

    /// Takes all series of this name away.
    fn remove(&self, labels: &Self::Labels);
}

/// Series and who writes which of them.
#[derive(Debug)]
pub(super) struct Leased<F: Families> {
    pub(super) families: F,
    given: Mutex<HashMap<F::Labels, Weak<Lease<F>>>>,
}

/// Keeps the series of one name in the registry.
#[derive(Debug)]
pub(super) struct Lease<F: Families> {
    of: Arc<Leased<F>>,
    labels: F::Labels,
}

impl<F: Families> Leased<F> {
    pub(super) fn new(families: F) -> Arc<Self> {
        Arc::new(Self {
            families,
            given: Mutex::default(),
        })
    }

    /// To be taken before series of this name are looked up, and kept as long as they are written.
    pub(super) fn lease(self: &Arc<Self>, labels: &F::Labels) -> Arc<Lease<F>> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = given.get(labels).and_then(Weak::upgrade) {
            return lease;
        }
        let lease = Arc::new(Lease {
            of: Arc::clone(self),
            labels: labels.clone(),
        });
        given.insert(labels.clone(), Arc::downgrade(&lease));
        lease
    }
}

impl<F: Families> Drop for Lease<F> {
    fn drop(&mut self) {
        let given = self.of.given.lock();
        let mut given = given.unwrap_or_else(PoisonError::into_inner);
        // Another may have been given out since this was the last one.
        let gone = given
            .get(&self.labels)
            .is_some_and(|lease| lease.strong_count() == 0);
        if gone {
            given.remove(&self.labels);
            self.of.families.remove(&self.labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Removed(Mutex<Vec<&'static str>>);

    impl Families for Removed {
        type Labels = &'static str;

        fn remove(&self, labels: &&'static str) {
            self.0.lock().unwrap().push(labels);
        }
    }

    #[test]
    fn the_last_one_takes_its_series_away() {
        let leased = Leased::new(Removed::default());
        let removed = || leased.families.0.lock().unwrap().clone();
        let (first, other) = (leased.lease(&"top"), leased.lease(&"hits"));
        let second = leased.lease(&"top");
        drop(first);
        assert_eq!(removed(), [""; 0]);
        drop(second);
        assert_eq!(removed(), ["top"]);
        let again = leased.lease(&"top");
        drop(other);
        drop(again);
        assert_eq!(removed(), ["top", "hits", "top"]);
    }
}
