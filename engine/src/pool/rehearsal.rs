//! A pool's decisions without its replicas: the queue, the limits, the ledger and the scaling of a
//! real pool, moved by hand in virtual time. `engine simulate` is built on it.
//!
//! What a batch takes and how long a replica needs to start is the caller's to say. There are no
//! failures here, so nothing of what a pool does about them either.

use super::{
    ledger::{Lease, Ledger},
    limits::{self, Limits},
    owner::TICK,
    queue::{Next, Occasion, Queue, Terms},
    scaler::Scaler,
    ticket::ReplicaId,
};
use nodes::Running;
use schema::{PoolSpec, Resources};
use std::time::Duration;

/// A pool that is rehearsed. `T` stands for an item; nothing is known of it.
pub(crate) struct Rehearsal<T> {
    limits: Limits,
    resources: Resources,
    scaler: Option<Scaler>,
    queue: Queue<(), T>,
    replicas: Vec<Replica>,
    starting: usize,
    /// One for each replica that is wanted.
    leases: Vec<Lease>,
    ledger: Ledger,
    next: ReplicaId,
}

struct Replica {
    id: ReplicaId,
    ongoing: usize,
    leaving: bool,
}

/// A batch that a replica has begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begun<T> {
    /// The replica.
    pub(crate) replica: ReplicaId,
    /// What it runs.
    pub(crate) items: Vec<T>,
    /// Items that the replica holds now, these among them.
    pub(crate) ongoing: usize,
}

/// What a pool has at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Items that wait.
    pub(crate) waiting: usize,
    /// Replicas that take items.
    pub(crate) working: usize,
    /// Replicas that are being built, and those that finish what they hold.
    pub(crate) changing: usize,
    /// Replicas that there should be.
    pub(crate) wanted: usize,
}

impl<T> Rehearsal<T> {
    /// How often the number of replicas is decided.
    pub(crate) const TICK: Duration = TICK;

    /// A pool whose first replicas are ready.
    ///
    /// # Errors
    /// Why the machine has no room for them.
    pub(crate) fn new(spec: &PoolSpec, running: Running, ledger: &Ledger) -> Result<Self, String> {
        let mut pool = Self {
            limits: Limits::new(spec, running),
            resources: spec.resources.clone(),
            scaler: Scaler::new(&spec.replicas),
            queue: Queue::new(),
            replicas: Vec::new(),
            starting: 0,
            leases: Vec::new(),
            ledger: ledger.clone(),
            next: 0,
        };
        for _ in 0..limits::replicas(spec) {
            let lease = ledger.take(&pool.resources);
            pool.leases.push(lease.map_err(|error| error.to_string())?);
            pool.join();
        }
        Ok(pool)
    }

    /// How long one item may take, waiting included.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.limits.timeout
    }

    /// Whether its number of replicas may change, so that [`Rehearsal::tick`] is called for.
    pub(crate) fn scales(&self) -> bool {
        self.scaler.is_some()
    }

    /// Lets an item wait if there is room, or if a replica could take it at once. Whether it does.
    pub(crate) fn admit(
        &mut self,
        now: Duration,
        (deadline, cost): (Duration, u64),
        item: T,
        wanted: impl Fn(&T) -> bool,
    ) -> bool {
        if self.is_full() {
            self.queue.remove(|item| !wanted(item));
        }
        if self.is_full() {
            return false;
        }
        let terms = Terms {
            key: (),
            cost,
            deadline: Some(deadline),
        };
        self.queue.push(now, terms, item);
        true
    }

    fn is_full(&mut self) -> bool {
        self.queue.len() >= self.limits.queued && self.free().is_none()
    }

    /// A replica is ready.
    pub(crate) fn join(&mut self) {
        self.starting = self.starting.saturating_sub(1);
        self.replicas.push(Replica {
            id: self.next,
            ongoing: 0,
            leaving: false,
        });
        self.next += 1;
    }

    /// A replica is through with some of its items.
    pub(crate) fn freed(&mut self, replica: ReplicaId, items: usize) {
        let mut replicas = self.replicas.iter_mut();
        if let Some(replica) = replicas.find(|other| other.id == replica) {
            replica.ongoing -= items;
        }
    }

    /// Decides how many replicas there should be.
    pub(crate) fn tick(&mut self, now: Duration) {
        let items = self.queue.len() + self.replicas.iter().map(|it| it.ongoing).sum::<usize>();
        let (wanted, working) = (self.leases.len(), self.working());
        let Some(scaler) = &mut self.scaler else {
            return;
        };
        let desired = scaler.tick(now, wanted, working, items);
        self.leases.truncate(desired);
        while self.leases.len() < desired {
            match self.ledger.take(&self.resources) {
                Ok(lease) => self.leases.push(lease),
                Err(_) => break,
            }
        }
    }

    /// Brings the replicas towards what is wanted; to be called after every change. How many
    /// replicas are to be built: each joins when it is ready.
    pub(crate) fn settle(&mut self) -> usize {
        while self.working() > self.leases.len() {
            let working = self.replicas.iter_mut().filter(|replica| !replica.leaving);
            // The one that has least to finish.
            if let Some(idlest) = working.min_by_key(|replica| replica.ongoing) {
                idlest.leaving = true;
            }
        }
        self.replicas
            .retain(|replica| !replica.leaving || replica.ongoing > 0);
        let missing = self
            .leases
            .len()
            .saturating_sub(self.working() + self.starting);
        self.starting += missing;
        missing
    }

    /// The next batch that a free replica takes. Where one is gathered and may wait for more, the
    /// time at which to ask again is put into `wake`.
    pub(crate) fn begin(
        &mut self,
        now: Duration,
        wanted: impl Fn(&T) -> bool,
        wake: &mut Option<Duration>,
    ) -> Option<Begun<T>> {
        // Those that are late have been told so by whoever asked.
        drop(self.queue.take_late(now));
        self.free()?;
        let occasion = Occasion {
            now,
            limits: self.limits.batch,
            idle: self.replicas.iter().all(|replica| replica.ongoing == 0),
            is_resident: &|()| true,
            is_elsewhere: &|()| false,
            is_abandoned: &|item| !wanted(item),
        };
        match self.queue.next(&occasion) {
            Next::Batch { items, .. } => {
                let replica = self.free()?;
                replica.ongoing += items.len();
                Some(Begun {
                    replica: replica.id,
                    ongoing: replica.ongoing,
                    items,
                })
            }
            Next::Wait { until } => {
                *wake = Some(until);
                None
            }
            Next::Empty => None,
        }
    }

    /// What it has now.
    pub(crate) fn levels(&self) -> Levels {
        let working = self.working();
        Levels {
            waiting: self.queue.len(),
            working,
            changing: self.starting + self.replicas.len() - working,
            wanted: self.leases.len(),
        }
    }

    fn working(&self) -> usize {
        let working = self.replicas.iter().filter(|replica| !replica.leaving);
        working.count()
    }

    fn free(&mut self) -> Option<&mut Replica> {
        let limits = self.limits;
        let room = |replica: &&mut Replica| match limits.one_at_a_time {
            true => replica.ongoing == 0,
            false => replica.ongoing < limits.ongoing,
        };
        let working = self.replicas.iter_mut().filter(|replica| !replica.leaving);
        working.filter(room).min_by_key(|replica| replica.ongoing)
    }
}
