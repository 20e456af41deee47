//! Items that wait, earliest deadline first. Pure: time is an argument.
//!
//! Deliberately plain: it knows no priorities, no grouping and no residency of adapters.

use std::{collections::BTreeMap, time::Duration};

/// A queue of items in the order of their deadlines, those without one last; equal ones in the
/// order of arrival.
#[derive(Debug)]
pub(super) struct Queue<T> {
    items: BTreeMap<Place, Waiting<T>>,
    arrivals: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    deadline: Duration,
    arrival: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    since: Duration,
    cost: u64,
    item: T,
}

/// How much of the queue a batch may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Most items.
    pub(super) size: usize,
    /// Most cost, summed; one item alone may exceed it.
    pub(super) cost: u64,
    /// How long a batch that is not full waits for more, from the arrival of its oldest item.
    pub(super) wait: Duration,
}

/// What is to be done with the queue now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// Run these. `waited` is how long the longest of them had to wait.
    Batch { items: Vec<T>, waited: Duration },
    /// Nothing before this time, unless more arrives.
    Wait { until: Duration },
    /// Nothing waits.
    Empty,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            items: BTreeMap::new(),
            arrivals: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn push(&mut self, now: Duration, deadline: Option<Duration>, cost: u64, item: T) {
        let place = Place {
            deadline: deadline.unwrap_or(Duration::MAX),
            arrival: self.arrivals,
        };
        self.arrivals += 1;
        let since = now;
        self.items.insert(place, Waiting { since, cost, item });
    }

    /// Takes the items out that are not wanted any more.
    pub(super) fn remove(&mut self, unwanted: impl Fn(&T) -> bool) {
        self.items.retain(|_, waiting| !unwanted(&waiting.item));
    }

    /// States anew what each item costs.
    pub(super) fn weigh(&mut self, cost: impl Fn(&T) -> u64) {
        for waiting in self.items.values_mut() {
            waiting.cost = cost(&waiting.item);
        }
    }

    /// All items, in their order.
    pub(super) fn into_items(self) -> impl Iterator<Item = T> {
        self.items.into_values().map(|waiting| waiting.item)
    }

    /// Takes the items out whose deadline has passed.
    pub(super) fn take_late(&mut self, now: Duration) -> Vec<T> {
        let mut late = Vec::new();
        while let Some(first) = self.items.first_entry()
            && first.key().deadline <= now
        {
            late.push(first.remove().item);
        }
        late
    }

    /// Forms a batch, for a replica that is free now.
    pub(super) fn next(&mut self, now: Duration, limits: BatchLimits) -> Next<T> {
        let (mut count, mut cost) = (0, 0_u64);
        let mut oldest = now;
        for waiting in self.items.values() {
            let sum = cost.saturating_add(waiting.cost);
            if count > 0 && (count >= limits.size || sum > limits.cost) {
                break;
            }
            (count, cost, oldest) = (count + 1, sum, oldest.min(waiting.since));
        }
        let full = count >= limits.size || cost >= limits.cost || count < self.items.len();
        if count == 0 {
            return Next::Empty;
        }
        let until = oldest.saturating_add(limits.wait);
        if !full && until > now {
            return Next::Wait { until };
        }
        let items = (0..count).filter_map(|_| self.items.pop_first());
        Next::Batch {
            items: items.map(|(_, waiting)| waiting.item).collect(),
            waited: now.saturating_sub(oldest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(size: usize, cost: u64) -> BatchLimits {
        BatchLimits {
            size,
            cost,
            wait: Duration::ZERO,
        }
    }

    fn batch(queue: &mut Queue<char>, limits: BatchLimits) -> String {
        match queue.next(SECOND, limits) {
            Next::Batch { items, .. } => items.into_iter().collect(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_earliest_deadline_comes_first_and_then_the_earliest_arrival() {
        let mut queue = Queue::new();
        for (item, deadline) in [('a', None), ('b', Some(9)), ('c', Some(5)), ('d', Some(5))] {
            let deadline = deadline.map(|seconds| SECOND * seconds);
            queue.push(Duration::ZERO, deadline, 1, item);
        }
        assert_eq!(batch(&mut queue, limits(3, 100)), "cdb");
        assert_eq!(batch(&mut queue, limits(3, 100)), "a");
        assert_eq!(queue.next(SECOND, limits(3, 100)), Next::Empty);
    }

    #[test]
    fn cost_bounds_a_batch_and_an_oversize_item_runs_alone() {
        let mut queue = Queue::new();
        for (item, cost) in [('a', 4), ('b', 4), ('c', 50), ('d', 1)] {
            queue.push(Duration::ZERO, None, cost, item);
        }
        assert_eq!(batch(&mut queue, limits(8, 10)), "ab");
        assert_eq!(batch(&mut queue, limits(8, 10)), "c");
        assert_eq!(batch(&mut queue, limits(8, 10)), "d");
    }

    #[test]
    fn a_batch_that_is_not_full_waits_no_longer_than_it_may() {
        let waiting = BatchLimits {
            wait: SECOND * 2,
            ..limits(2, 100)
        };
        let mut queue = Queue::new();
        queue.push(SECOND, None, 1, 'a');
        assert_eq!(
            queue.next(SECOND, waiting),
            Next::Wait { until: SECOND * 3 }
        );
        assert_eq!(
            queue.next(SECOND * 3, waiting),
            Next::Batch {
                items: vec!['a'],
                waited: SECOND * 2
            }
        );
        queue.push(SECOND * 3, None, 1, 'b');
        queue.push(SECOND * 3, None, 1, 'c');
        assert!(matches!(
            queue.next(SECOND * 3, waiting),
            Next::Batch { .. }
        ));
    }

    #[test]
    fn late_and_unwanted_items_leave() {
        let mut queue = Queue::new();
        queue.push(Duration::ZERO, Some(SECOND), 1, 'a');
        queue.push(Duration::ZERO, Some(SECOND * 2), 1, 'b');
        queue.push(Duration::ZERO, None, 1, 'c');
        assert_eq!(queue.take_late(SECOND), ['a']);
        queue.remove(|item| *item == 'c');
        assert_eq!(queue.len(), 1);
    }
}
