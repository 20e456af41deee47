//! What the replicas of a topology take of the machine together.
//!
//! Counted for nodes whose file states `resources`; a node that says nothing mostly waits. A replica
//! that stands in for another for a moment, as when one is recycled, is not counted twice. All
//! generations share one account; what the next one starts may count on what goes with the last
//! ([`Allowance`]).

use graphs::Machine;
use schema::{ByteSize, Resources};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What cores may exceed the machine by: sums of fractions are not exact.
const ROUNDING: f64 = 1e-6;

/// The account of a machine. Clones share it.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Mutex<Free>>);

/// What nobody has taken; less than nothing while two generations overlap.
#[derive(Debug, Clone, Copy)]
struct Free {
    cpus: f64,
    memory: i128,
}

/// What of a machine a new pool may count on: what is free, and what is going to be.
#[derive(Debug, Clone)]
pub struct Allowance {
    pub(super) ledger: Ledger,
    going: Takes,
}

/// A replica's part of the machine; dropping it gives the part back.
#[derive(Debug)]
pub(super) struct Lease {
    ledger: Ledger,
    takes: Takes,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Takes {
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
        Self(Arc::new(Mutex::new(Free {
            cpus: machine.cpus,
            memory: machine.memory.into(),
        })))
    }

    /// What is free.
    pub fn room(&self) -> Allowance {
        self.room_after(&[])
    }

    /// What is free once these have gone: replicas of pools that end when the next generation is
    /// published, each with what one of them takes.
    pub fn room_after(&self, going: &[(usize, Resources)]) -> Allowance {
        let mut sum = Takes::default();
        for (replicas, resources) in going {
            let takes = Takes::of(resources);
            sum.cpus += takes.cpus * *replicas as f64;
            sum.memory += takes.memory * *replicas as u64;
        }
        Allowance {
            ledger: self.clone(),
            going: sum,
        }
    }

    /// Takes what a replica needs.
    pub(super) fn take(&self, resources: &Resources) -> Result<Lease, TooLarge> {
        self.room().take(resources)
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        // A panic cannot come between the two halves of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allowance {
    /// Takes what a replica needs.
    pub(super) fn take(&self, resources: &Resources) -> Result<Lease, TooLarge> {
        let takes = Takes::of(resources);
        let mut free = self.ledger.free();
        let cpus = free.cpus + self.going.cpus;
        let memory = free.memory + i128::from(self.going.memory);
        if takes.cpus > cpus + ROUNDING {
            return Err(TooLarge {
                wanted: cores(takes.cpus),
                free: cores(cpus.max(0.0)),
            });
        }
        if i128::from(takes.memory) > memory {
            return Err(TooLarge {
                wanted: format!("{} of memory", ByteSize(takes.memory)),
                free: ByteSize(u64::try_from(memory).unwrap_or(0)).to_string(),
            });
        }
        free.cpus -= takes.cpus;
        free.memory -= i128::from(takes.memory);
        drop(free);
        let ledger = self.ledger.clone();
        Ok(Lease { ledger, takes })
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
        free.memory += i128::from(self.takes.memory);
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
        drop(first);
        drop(second);
        assert!(ledger.take(&takes(2.0, 4)).is_ok());
    }

    #[test]
    fn what_comes_counts_on_what_goes_and_nobody_else_does() {
        let ledger = Ledger::new(Machine {
            cpus: 4.0,
            gpus: 0.0,
            memory: 4 << 30,
        });
        let three = Resources {
            cpu: 3.0,
            memory: Some(ByteSize(3 << 30)),
            ..Resources::default()
        };
        let old = ledger.take(&three).unwrap();
        assert!(ledger.take(&three).is_err());
        let room = ledger.room_after(&[(1, three.clone())]);
        let new = room.take(&three).unwrap();
        // What goes makes room once.
        assert!(room.take(&three).is_err());
        let one = Resources {
            cpu: 1.0,
            memory: Some(ByteSize(1 << 30)),
            ..Resources::default()
        };
        assert!(ledger.take(&one).is_err());
        drop(old);
        let rest = ledger.take(&one).unwrap();
        assert!(ledger.take(&one).is_err());
        drop(rest);
        drop(new);
    }
}
