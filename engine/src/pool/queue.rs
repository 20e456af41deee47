//! Items that wait, and the batches that are formed of them. Pure: time is an argument.
//!
//! The earliest deadline goes first. A batch holds items of one key: what the node cannot mix has
//! different keys. Where the first item's key is not resident in the replica that is free (its
//! adapter is still to be loaded, say), items whose key is go first, but only for so long; and items
//! that another replica is better for wait for that one as long. Which replica is free, and what a
//! batch costs it in time, is not known here.

use std::{collections::BTreeMap, time::Duration};

/// How long an item may be passed over by others with earlier deadlines, and where an item without
/// a deadline stands among those with one.
const HORIZON: Duration = Duration::from_secs(60);

/// A queue of items in the order of their deadlines; equal ones in the order of arrival.
#[derive(Debug)]
pub(super) struct Queue<K, T> {
    items: BTreeMap<Place, Waiting<K, T>>,
    arrivals: u64,
}

/// What a queue is told of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms<K> {
    /// Items with different keys never share a batch.
    pub(super) key: K,
    /// What it costs of [`BatchLimits::cost`].
    pub(super) cost: u64,
    /// When its answer is of no use any more.
    pub(super) deadline: Option<Duration>,
}

/// How much of the queue a batch may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Most items.
    pub(super) size: usize,
    /// Most cost, summed; one item alone may exceed it.
    pub(super) cost: u64,
    /// How long a batch that is not full waits for more while nothing runs, from the arrival of its
    /// oldest item, and for no more than half of the time that one has.
    pub(super) wait: Duration,
    /// How long an item whose key is not resident lets others go first, and one that belongs
    /// elsewhere waits for its replica; no more than a quarter of the time that it has.
    pub(super) patience: Duration,
}

/// What a batch is formed for.
pub(super) struct Occasion<'a, K, T> {
    pub(super) now: Duration,
    pub(super) limits: BatchLimits,
    /// Whether nothing runs, so that a batch may wait for more.
    pub(super) idle: bool,
    /// Whether the replica that is free can take items of this key at once.
    pub(super) is_resident: &'a dyn Fn(&K) -> bool,
    /// Whether items of this key are better off with another replica.
    pub(super) is_elsewhere: &'a dyn Fn(&K) -> bool,
    /// Whether nobody waits for the item any more.
    pub(super) is_abandoned: &'a dyn Fn(&T) -> bool,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    due: Duration,
    arrival: u64,
}

#[derive(Debug)]
struct Waiting<K, T> {
    since: Duration,
    terms: Terms<K>,
    item: T,
}

/// The beginning of a batch.
struct Draft {
    places: Vec<Place>,
    /// Whether more would not fit.
    full: bool,
    oldest: Duration,
    /// When it goes off at the latest.
    until: Duration,
}

impl<K: PartialEq, T> Queue<K, T> {
    pub(super) fn new() -> Self {
        Self {
            items: BTreeMap::new(),
            arrivals: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The keys of all items, in their order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.items.values().map(|waiting| &waiting.terms.key)
    }

    pub(super) fn push(&mut self, now: Duration, terms: Terms<K>, item: T) {
        let place = Place {
            due: due(now, terms.deadline),
            arrival: self.arrivals,
        };
        self.arrivals += 1;
        let since = now;
        self.items.insert(place, Waiting { since, terms, item });
    }

    /// How many items go before one that arrives now.
    pub(super) fn ahead(&self, now: Duration, deadline: Option<Duration>) -> usize {
        let due = due(now, deadline);
        match self.items.last_key_value() {
            Some((last, _)) if last.due > due => {
                let arrival = self.arrivals;
                self.items.range(..Place { due, arrival }).count()
            }
            _ => self.items.len(),
        }
    }

    /// Takes the items out that are not wanted any more.
    pub(super) fn remove(&mut self, unwanted: impl Fn(&T) -> bool) {
        self.items.retain(|_, waiting| !unwanted(&waiting.item));
    }

    /// States anew what each item costs and which key it has.
    pub(super) fn weigh(&mut self, weigh: impl Fn(&T) -> (u64, K)) {
        for Waiting { terms, item, .. } in self.items.values_mut() {
            (terms.cost, terms.key) = weigh(item);
        }
    }

    /// All items, in their order.
    pub(super) fn into_items(self) -> impl Iterator<Item = T> {
        self.items.into_values().map(|waiting| waiting.item)
    }

    /// Takes the items out whose deadline has passed.
    pub(super) fn take_late(&mut self, now: Duration) -> Vec<T> {
        let late = |waiting: &Waiting<K, T>| waiting.is_over(now);
        let (late, _) = self.split_due(now, late);
        self.take(&late)
    }

    /// Takes the items out that would be late if they were done at `end`; none if all would be, as
    /// what is expected may be wrong, and the best way to learn is to run some.
    pub(super) fn take_hopeless(&mut self, end: Duration) -> Vec<T> {
        let hopeless = |waiting: &Waiting<K, T>| waiting.is_over(end);
        match self.split_due(end, hopeless) {
            (hopeless, true) => self.take(&hopeless),
            (_, false) => Vec::new(),
        }
    }

    /// Those of the items due until `end` of which `is` is true, and whether there are others.
    fn split_due(&self, end: Duration, is: impl Fn(&Waiting<K, T>) -> bool) -> (Vec<Place>, bool) {
        let last = Place {
            due: end,
            arrival: u64::MAX,
        };
        let due = self.items.range(..=last);
        let places: Vec<_> = due.filter(|(_, waiting)| is(waiting)).collect();
        let others = places.len() < self.items.len();
        let places = places.into_iter().map(|(place, _)| *place);
        (places.collect(), others)
    }

    fn take(&mut self, places: &[Place]) -> Vec<T> {
        let taken = places.iter().filter_map(|place| self.items.remove(place));
        taken.map(|waiting| waiting.item).collect()
    }

    /// Forms a batch, for a replica that is free now. Items that nobody waits for are dropped.
    pub(super) fn next(&mut self, occasion: &Occasion<'_, K, T>) -> Next<T> {
        let mut gone = Vec::new();
        let draft = self.draft(occasion, &mut gone);
        drop(self.take(&gone));
        let draft = match draft {
            Ok(draft) => draft,
            Err(Some(until)) => return Next::Wait { until },
            Err(None) => return Next::Empty,
        };
        let complete = draft.full || draft.places.len() < self.items.len();
        if occasion.idle && !complete && draft.until > occasion.now {
            return Next::Wait { until: draft.until };
        }
        Next::Batch {
            items: self.take(&draft.places),
            waited: occasion.now.saturating_sub(draft.oldest),
        }
    }

    /// The first items of the key whose turn it is, as many as fit; or until when none is any's.
    fn draft(
        &self,
        occasion: &Occasion<'_, K, T>,
        gone: &mut Vec<Place>,
    ) -> Result<Draft, Option<Duration>> {
        let limits = &occasion.limits;
        let key = self.turn(occasion, gone)?;
        let mut draft = Draft {
            places: Vec::new(),
            full: false,
            oldest: occasion.now,
            until: Duration::MAX,
        };
        let mut cost = 0_u64;
        for (place, waiting) in &self.items {
            if waiting.terms.key != *key {
                continue;
            }
            if (occasion.is_abandoned)(&waiting.item) {
                gone.push(*place);
                continue;
            }
            cost = cost.saturating_add(waiting.terms.cost);
            if !draft.places.is_empty() && cost > limits.cost {
                draft.full = true;
                break;
            }
            draft.places.push(*place);
            draft.oldest = draft.oldest.min(waiting.since);
            draft.until = draft.until.min(waiting.within(limits.wait, 2));
            if draft.places.len() >= limits.size || cost >= limits.cost {
                draft.full = true;
                break;
            }
        }
        Ok(draft)
    }

    /// The key of the first item that is resident or out of patience; else of the first that belongs
    /// nowhere else. Where all belong elsewhere, when the first of them is out of patience.
    fn turn(
        &self,
        occasion: &Occasion<'_, K, T>,
        gone: &mut Vec<Place>,
    ) -> Result<&K, Option<Duration>> {
        let (mut first, mut until) = (None, None);
        for (place, waiting) in &self.items {
            if (occasion.is_abandoned)(&waiting.item) {
                gone.push(*place);
                continue;
            }
            let key = &waiting.terms.key;
            let end = waiting.within(occasion.limits.patience, 4);
            let patient = occasion.now < end;
            if patient && (occasion.is_elsewhere)(key) {
                until = Some(until.map_or(end, |until: Duration| until.min(end)));
                continue;
            }
            if !patient || (occasion.is_resident)(key) {
                return Ok(key);
            }
            first.get_or_insert(key);
        }
        first.ok_or(until)
    }
}

impl<K, T> Waiting<K, T> {
    fn is_over(&self, now: Duration) -> bool {
        self.terms.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The end of a stretch of time from its arrival that takes no more than a share of what it has.
    fn within(&self, stretch: Duration, share: u32) -> Duration {
        let deadline = self.terms.deadline.unwrap_or(Duration::MAX);
        let has = deadline.saturating_sub(self.since);
        self.since.saturating_add(stretch.min(has / share))
    }
}

/// Where an item stands in the queue.
fn due(now: Duration, deadline: Option<Duration>) -> Duration {
    let latest = now.saturating_add(HORIZON);
    deadline.map_or(latest, |deadline| deadline.min(latest))
}

#[cfg(test)]
mod tests;
