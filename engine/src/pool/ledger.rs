//! What the replicas of a topology take of the machine together.
//!
//! Counted for nodes whose file states `resources`; a node that says nothing mostly waits. A replica
//! that stands in for another for a moment, as when one is recycled, is not counted twice. Two
//! topologies that overlap during a reload are not summed.

use graphs::Machine;
use schema::{ByteSize, Resources};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What cores may exceed the machine by: sums of fractions are not exact.
const ROUNDING: f64 = 1e-6;

/// The account of a machine. Clones share it.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Mutex<Machine>>);

/// A replica's part of the machine; dropping it gives the part back.
#[derive(Debug)]
pub(super) struct Lease {
    ledger: Ledger,
    takes: Takes,
}

#[derive(Debug, Clone, Copy)]
struct Takes {
    cpus: f64,
    memory: u64,
}

/// Why a replica does not fit.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[error("a replica takes {wanted}, and the machine has {free} left")]
pub(super) struct TooLarge {
    wanted: String,
    free: String,
}

impl Ledger {
    /// Of a machine of which nothing is taken.
    pub fn new(machine: Machine) -> Self {
        Self(Arc::new(Mutex::new(machine)))
    }

    /// Takes what a replica needs.
    pub(super) fn take(&self, resources: &Resources) -> Result<Lease, TooLarge> {
        let takes = Takes::of(resources);
        let mut free = self.free();
        if takes.cpus > free.cpus + ROUNDING {
            return Err(TooLarge {
                wanted: cores(takes.cpus),
                free: cores(free.cpus.max(0.0)),
            });
        }
        if takes.memory > free.memory {
            return Err(TooLarge {
                wanted: format!("{} of memory", ByteSize(takes.memory)),
                free: ByteSize(free.memory).to_string(),
            });
        }
        free.cpus -= takes.cpus;
        free.memory -= takes.memory;
        drop(free);
        let ledger = self.clone();
        Ok(Lease { ledger, takes })
    }

    fn free(&self) -> MutexGuard<'_, Machine> {
        // A panic cannot come between the two halves of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Takes {
    fn of(resources: &Resources) -> Self {
        let stated = *resources != Resources::default();
        Self {
            cpus: if stated { resources.cpu } else { 0.0 },
            memory: resources.memory.map_or(0, |size| size.0),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut free = self.ledger.free();
        free.cpus += self.takes.cpus;
        free.memory += self.takes.memory;
    }
}

fn cores(number: f64) -> String {
    let s = if number == 1.0 { "" } else { "s" };
    // Rounded for people; sums of fractions are not exact.
    format!("{} core{s}", (number * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_until_it_is_given_back() {
        let ledger = Ledger::new(Machine {
            cpus: 2.0,
            gpus: 0.0,
            memory: 4 << 30,
        });
        let takes = |cpu, gib: u64| Resources {
            cpu,
            memory: (gib > 0).then_some(ByteSize(gib << 30)),
            ..Resources::default()
        };
        let first = ledger.take(&takes(0.7, 1)).unwrap();
        let second = ledger.take(&takes(1.3, 0)).unwrap();
        let error = ledger.take(&takes(0.5, 0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a replica takes 0.5 cores, and the machine has 0 cores left"
        );
        let error = ledger.take(&takes(0.0, 4)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a replica takes 4GiB of memory, and the machine has 3GiB left"
        );
        // Nothing stated, nothing counted.
        assert!(ledger.take(&Resources::default()).is_ok());
        drop((first, second));
        assert!(ledger.take(&takes(2.0, 4)).is_ok());
    }
}
