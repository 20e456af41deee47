//! When a replica is to be replaced by a fresh one. Pure: time is an argument.

use schema::Recycle;
use std::time::Duration;

/// What a replica has behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wear {
    /// When it joined.
    pub(super) born: Duration,
    /// Items that it has been given.
    pub(super) items: u64,
    /// Bytes of memory of its own when it joined, where that can be told.
    pub(super) memory: Option<u64>,
}

impl Wear {
    /// Whether one of the file's bounds is reached. `memory` is what it has now.
    pub(super) fn is_out(&self, bounds: &Recycle, now: Duration, memory: Option<u64>) -> bool {
        let age = now.saturating_sub(self.born);
        let grown = memory.zip(self.memory);
        let grown = grown.map(|(now, before)| now.saturating_sub(before));
        bounds.requests.is_some_and(|most| self.items >= most)
            || bounds.age.is_some_and(|most| age >= most)
            || grown.is_some_and(|grown| bounds.memory_growth.is_some_and(|most| grown >= most.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::ByteSize;

    #[test]
    fn each_bound_alone_is_enough() {
        let none = Recycle {
            requests: None,
            age: None,
            memory_growth: None,
        };
        let requests = Recycle {
            requests: Some(100),
            ..none.clone()
        };
        let age = Recycle {
            age: Some(Duration::from_secs(60)),
            ..none.clone()
        };
        let memory = Recycle {
            memory_growth: Some(ByteSize(10)),
            ..none.clone()
        };
        let is_out = |bounds: &Recycle, items, seconds, memory| {
            let wear = Wear {
                born: Duration::from_secs(5),
                items,
                memory: Some(90),
            };
            wear.is_out(bounds, Duration::from_secs(seconds), memory)
        };
        for (bounds, items, seconds, memory, expected) in [
            (&none, 1_000_000, 1_000_000, Some(1 << 40), false),
            (&requests, 99, 1_000_000, Some(1 << 40), false),
            (&requests, 100, 5, None, true),
            (&age, 1_000_000, 64, Some(1 << 40), false),
            (&age, 0, 65, None, true),
            (&memory, 1_000_000, 1_000_000, Some(99), false),
            (&memory, 0, 5, Some(100), true),
            (&memory, 0, 5, None, false),
        ] {
            let out = is_out(bounds, items, seconds, memory);
            assert_eq!(out, expected, "{bounds:?} {items} {seconds} {memory:?}");
        }
    }
}
