//! What operators and metrics see of a residency.

use super::{Residency, check_name};
use crate::NodeError;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// Bounds of [`Snapshot::load_times`]: a file in the disk's cache, a disk, a network.
pub const LOAD_TIMES: [Duration; 11] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// What a residency did and holds, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Requests that found what they named.
    pub hits: u64,
    /// Requests that did not: they waited for a load, or were refused.
    pub misses: u64,
    /// Loads that were begun.
    pub loads: u64,
    /// Loads that failed.
    pub failures: u64,
    /// What all loads took together.
    pub load_time: Duration,
    /// How many loads took at most as long as each of [`LOAD_TIMES`], and longer than the one before;
    /// the last counts those that took longer than all.
    pub load_times: [u64; LOAD_TIMES.len() + 1],
    /// Those that went to make room.
    pub evictions: u64,
    /// Those that were replaced because their files changed.
    pub replacements: u64,
    /// Loads under way.
    pub loading: u64,
    /// Those that are held.
    pub loaded: u64,
    /// Those that are no longer held and still in use.
    pub lingering: u64,
    /// What both take.
    pub bytes: u64,
    /// How many uses there are of both at the moment.
    pub leases: u64,
}

/// One line of [`Residency::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: Arc<str>,
    /// Whether it is in memory.
    pub state: State,
    /// The memory that it takes.
    pub bytes: u64,
    /// How many use it at the moment.
    pub leases: usize,
    /// Requests that found it.
    pub hits: u64,
    /// Whether it stays.
    pub pinned: bool,
}

/// Whether one is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is held. `generation` is the digest of its files.
    Loaded {
        /// The digest of its files.
        generation: String,
    },
    /// It is in use and goes afterwards.
    Lingering,
    /// It could not be loaded a moment ago.
    Refused {
        /// Why.
        reason: String,
    },
    /// There are files of this name.
    Available,
}

impl Listed {
    /// Whether a request that names it can be answered, as far as is known.
    pub fn is_there(&self) -> bool {
        !matches!(self.state, State::Refused { .. })
    }
}

impl<T: Send + Sync + 'static> Residency<T> {
    /// What it did and holds.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// What is in memory, what was refused a moment ago and what there is else, by name. Reads the
    /// loader's names, so it may block for the time that a folder takes to list.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn list(&self) -> Result<Vec<Listed>, NodeError> {
        let names = self.shared.loader.names()?;
        let mut lines = self.in_memory();
        let now = self.shared.now();
        let refused = self.shared.refused.iter();
        let refused = refused.filter(|(_, refusal)| refusal.until > now);
        let absent = |name: Arc<str>, state| Listed {
            name,
            state,
            bytes: 0,
            leases: 0,
            hits: 0,
            pinned: false,
        };
        lines.extend(refused.map(|(name, refusal)| {
            let reason = refusal.error.to_string();
            absent(Arc::clone(&name), State::Refused { reason })
        }));
        for name in names {
            if !lines.iter().any(|line| *line.name == *name) && check_name(&name).is_ok() {
                lines.push(absent(name.into(), State::Available));
            }
        }
        lines.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(lines)
    }

    fn in_memory(&self) -> Vec<Listed> {
        let held = self.shared.entries();
        let held = held.iter().map(|entry| Listed {
            name: Arc::clone(&entry.name),
            state: State::Loaded {
                generation: entry.generation.clone(),
            },
            bytes: entry.bytes,
            leases: entry.leases(),
            hits: entry.hits.load(Relaxed),
            pinned: entry.pinned.load(Relaxed),
        });
        let mut lines: Vec<Listed> = held.collect();
        lines.extend(self.shared.lingering().iter().map(|one| Listed {
            name: Arc::clone(&one.name),
            state: State::Lingering,
            bytes: one.bytes,
            leases: one.leases(),
            hits: 0,
            pinned: false,
        }));
        lines
    }
}
