//! What requests and the keeper both see.

use super::{
    Loaded, Loader, Policy, Snapshot,
    decide::{Held, Load, has_room_ahead},
    entry::{Entry, Lingering},
    report::LOAD_TIMES,
};
use crate::NodeError;
use moka::future::Cache;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// How many names that cannot be loaded are remembered: requests choose them, and may be hostile.
const MAX_REFUSED: u64 = 1024;
/// How many adapters are loaded at once.
const LOADS_AT_ONCE: usize = 4;

/// A name that cannot be loaded.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) error: NodeError,
    pub(super) until: Duration,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) loads: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) load_micros: AtomicU64,
    pub(super) evictions: AtomicU64,
    pub(super) replacements: AtomicU64,
    pub(super) loading: AtomicU64,
    /// How many loads took so long, by [`LOAD_TIMES`] and one place for longer ones.
    load_times: [AtomicU64; LOAD_TIMES.len() + 1],
    coming: AtomicUsize,
    uses: AtomicU64,
}

/// A load ahead of its use, counted until it came.
pub(super) struct Coming<T>(Arc<Shared<T>>);

impl<T: Send + Sync + 'static> Coming<T> {
    /// Counts one more, if there is room for it.
    pub(super) fn admit(shared: &Arc<Shared<T>>) -> Option<Self> {
        // Counted first, so that two who look at the same time do not take the same room.
        let before = shared.counts.coming.fetch_add(1, Relaxed);
        let coming = Self(Arc::clone(shared));
        let held: Vec<Held> = {
            let now = shared.now();
            let entries = shared.entries();
            entries.iter().map(|entry| entry.held(now)).collect()
        };
        let lingering = shared.lingering_load();
        has_room_ahead(&shared.policy.bounds, &held, lingering, before).then_some(coming)
    }
}

impl<T> Drop for Coming<T> {
    fn drop(&mut self) {
        self.0.counts.coming.fetch_sub(1, Relaxed);
    }
}

pub(super) struct Shared<T> {
    pub(super) loader: Box<dyn Loader<T>>,
    pub(super) policy: Policy,
    /// Has no bounds of its own, because it knows one weight, no leases and no pins, and lets go
    /// when it finds time; the keeper takes out what goes. It brings the single flight.
    pub(super) held: Cache<Arc<str>, Arc<Entry<T>>>,
    pub(super) refused: Cache<Arc<str>, Refusal>,
    pub(super) counts: Counts,
    lingering: Mutex<Vec<Lingering<T>>>,
    loads: Semaphore,
    start: Instant,
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(super) fn new(loader: Box<dyn Loader<T>>, policy: Policy) -> Self {
        Self {
            loader,
            policy,
            held: Cache::builder().build(),
            refused: Cache::builder()
                .max_capacity(MAX_REFUSED)
                .time_to_live(policy.refusal_ttl.max(Duration::from_millis(1)))
                .build(),
            counts: Counts::default(),
            lingering: Mutex::default(),
            loads: Semaphore::new(LOADS_AT_ONCE),
            start: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn touch(&self, entry: &Entry<T>) {
        let use_number = self.counts.uses.fetch_add(1, Relaxed) + 1;
        entry.last_use.fetch_max(use_number, Relaxed);
    }

    /// What is in memory for a name after all, or what its files hold. Run once for all who ask at
    /// the same time.
    pub(super) async fn bring(self: Arc<Self>, name: Arc<str>) -> Result<Arc<Entry<T>>, NodeError> {
        if let Some(entry) = self.revive(&name) {
            return Ok(Arc::new(entry));
        }
        match self.load(&name).await {
            Ok(loaded) => Ok(Arc::new(Entry::new(name, loaded, self.now()))),
            Err(error) => {
                let until = self.now() + self.policy.refusal_ttl;
                let refusal = Refusal {
                    error: error.clone(),
                    until,
                };
                self.refused.insert(name, refusal).await;
                Err(error)
            }
        }
    }

    /// Loads, a few at once.
    pub(super) async fn load(self: &Arc<Self>, name: &Arc<str>) -> Result<Loaded<T>, NodeError> {
        let _permit = self.loads.acquire().await;
        let (shared, of) = (Arc::clone(self), Arc::clone(name));
        let started = self.now();
        self.counts.loads.fetch_add(1, Relaxed);
        self.counts.loading.fetch_add(1, Relaxed);
        let result = tokio::task::spawn_blocking(move || shared.loader.load(&of)).await;
        self.counts.loading.fetch_sub(1, Relaxed);
        let took = self.now().saturating_sub(started);
        let place = LOAD_TIMES.partition_point(|bound| *bound < took);
        self.counts.load_times[place].fetch_add(1, Relaxed);
        self.counts
            .load_micros
            .fetch_add(took.as_micros() as u64, Relaxed);
        let limit = self.policy.bounds.max_bytes;
        let result = match result {
            Ok(Ok(loaded)) if loaded.bytes > limit => Err(NodeError::failed(format!(
                "adapter {name:?} takes {} and max-bytes is {}",
                schema::ByteSize(loaded.bytes),
                schema::ByteSize(limit)
            ))),
            Ok(result) => result,
            Err(_) => Err(NodeError::failed(format!(
                "loading adapter {name:?} panicked"
            ))),
        };
        match &result {
            Ok(loaded) => {
                tracing::debug!(adapter = %name, bytes = loaded.bytes, ?took, "loaded an adapter");
            }
            Err(_) => {
                self.counts.failures.fetch_add(1, Relaxed);
            }
        }
        result
    }

    /// Takes back one that went while somebody still used it.
    pub(super) fn revive(&self, name: &str) -> Option<Entry<T>> {
        let now = self.now();
        let mut lingering = self.lingering();
        let (place, entry) = lingering
            .iter()
            .enumerate()
            .filter(|(_, one)| *one.name == *name)
            .find_map(|(place, one)| Some((place, one.revive(now)?)))?;
        lingering.remove(place);
        Some(entry)
    }

    /// Notes one that is out of the map: only leases keep it from now on.
    pub(super) fn linger(&self, entry: &Entry<T>, current: bool) {
        entry.let_go();
        self.lingering().push(Lingering::new(entry, current));
    }

    /// What is in use and no longer held.
    pub(super) fn lingering(&self) -> MutexGuard<'_, Vec<Lingering<T>>> {
        let mut lingering = self
            .lingering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        lingering.retain(|one| one.leases() > 0);
        lingering
    }

    pub(super) fn lingering_load(&self) -> Load {
        let lingering = self.lingering();
        Load {
            count: lingering.len(),
            bytes: lingering.iter().map(|one| one.bytes).sum(),
        }
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry<T>>> {
        self.held.iter().map(|(_, entry)| entry).collect()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let counts = &self.counts;
        let mut snapshot = Snapshot {
            hits: counts.hits.load(Relaxed),
            misses: counts.misses.load(Relaxed),
            loads: counts.loads.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            load_time: Duration::from_micros(counts.load_micros.load(Relaxed)),
            evictions: counts.evictions.load(Relaxed),
            replacements: counts.replacements.load(Relaxed),
            loading: counts.loading.load(Relaxed),
            load_times: counts
                .load_times
                .each_ref()
                .map(|count| count.load(Relaxed)),
            ..Snapshot::default()
        };
        for entry in self.entries() {
            snapshot.loaded += 1;
            snapshot.bytes += entry.bytes;
            snapshot.leases += entry.leases() as u64;
        }
        for one in self.lingering().iter() {
            snapshot.lingering += 1;
            snapshot.bytes += one.bytes;
            snapshot.leases += one.leases() as u64;
        }
        snapshot
    }
}
