//! One adapter that is held, and one that is no longer held and still in use.

use super::{decide::Held, loader::Loaded};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// One that is held.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) name: Arc<str>,
    pub(super) bytes: u64,
    pub(super) generation: String,
    pub(super) loaded_at: Duration,
    pub(super) hits: AtomicU64,
    pub(super) last_use: AtomicU64,
    pub(super) pinned: AtomicBool,
    /// Room was made for it.
    pub(super) settled: AtomicBool,
    /// Its files are being looked at.
    pub(super) checking: AtomicBool,
    /// Every reference but this one is a lease. Taken out when it goes, because the map may keep the
    /// entry itself for as long as it likes.
    value: Mutex<Option<Arc<T>>>,
    weak: Weak<T>,
    stamp: Mutex<String>,
    /// When its files were last looked at, in microseconds since the start.
    checked_at: AtomicU64,
}

impl<T> Entry<T> {
    pub(super) fn new(name: Arc<str>, loaded: Loaded<T>, now: Duration) -> Self {
        let value = Arc::new(loaded.value);
        Self::of(
            name,
            value,
            loaded.bytes,
            loaded.generation,
            loaded.stamp,
            now,
        )
    }

    fn of(
        name: Arc<str>,
        value: Arc<T>,
        bytes: u64,
        generation: String,
        stamp: String,
        now: Duration,
    ) -> Self {
        Self {
            name,
            bytes,
            generation,
            loaded_at: now,
            hits: AtomicU64::new(0),
            last_use: AtomicU64::new(0),
            pinned: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            checking: AtomicBool::new(false),
            weak: Arc::downgrade(&value),
            value: Mutex::new(Some(value)),
            stamp: Mutex::new(stamp),
            checked_at: AtomicU64::new(micros(now)),
        }
    }

    /// A lease; none once it went.
    pub(super) fn lease(&self) -> Option<Arc<T>> {
        self.value().clone()
    }

    /// Drops what is held here, so that leases alone keep it.
    pub(super) fn let_go(&self) {
        *self.value() = None;
    }

    /// How many have a lease.
    pub(super) fn leases(&self) -> usize {
        let own = usize::from(self.value().is_some());
        self.weak.strong_count().saturating_sub(own)
    }

    fn value(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn held(&self, now: Duration) -> Held {
        Held {
            bytes: self.bytes,
            leased: self.leases() > 0,
            pinned: self.pinned.load(Ordering::Relaxed),
            last_use: self.last_use.load(Ordering::Relaxed),
            age: now.saturating_sub(self.loaded_at),
        }
    }

    pub(super) fn stamp(&self) -> String {
        let stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        stamp.clone()
    }

    pub(super) fn set_stamp(&self, stamp: String) {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }

    /// Whether it is time to look at its files, and nobody else does; then they count as looked at.
    pub(super) fn start_check(&self, now: Duration, interval: Duration) -> bool {
        let last = Duration::from_micros(self.checked_at.load(Ordering::Relaxed));
        if now.saturating_sub(last) < interval || self.checking.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.checked_at.store(micros(now), Ordering::Relaxed);
        true
    }
}

/// One that is no longer held: its bytes count until the last lease is gone.
#[derive(Debug)]
pub(super) struct Lingering<T> {
    pub(super) name: Arc<str>,
    pub(super) bytes: u64,
    value: Weak<T>,
    generation: String,
    stamp: String,
    /// It is still what its files hold, so that it may be held again.
    current: bool,
}

impl<T> Lingering<T> {
    pub(super) fn new(entry: &Entry<T>, current: bool) -> Self {
        Self {
            name: Arc::clone(&entry.name),
            bytes: entry.bytes,
            value: Weak::clone(&entry.weak),
            generation: entry.generation.clone(),
            stamp: entry.stamp(),
            current,
        }
    }

    /// How many hold it.
    pub(super) fn leases(&self) -> usize {
        self.value.strong_count()
    }

    /// Holds it again, if it may be and somebody still has it.
    pub(super) fn revive(&self, now: Duration) -> Option<Entry<T>> {
        let value = self.current.then(|| self.value.upgrade())??;
        let mut entry = Entry::of(
            Arc::clone(&self.name),
            value,
            self.bytes,
            self.generation.clone(),
            self.stamp.clone(),
            now,
        );
        // Nobody looked at its files for a while: the next use does.
        entry.checked_at = AtomicU64::new(0);
        Some(entry)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
