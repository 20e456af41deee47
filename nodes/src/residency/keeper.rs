//! The one task that makes room, lets go and replaces. Others send it orders.

use super::{
    decide::{Admission, Held, admit, trim},
    entry::Entry,
    shared::Shared,
};
use crate::NodeError;
use std::{
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// How soon what was kept over the bounds for its users goes after they are done.
const TRIM: Duration = Duration::from_millis(50);

/// What the keeper is told.
pub(super) enum Order<T> {
    /// It is held now; make room for it.
    Settle(Arc<Entry<T>>),
    /// Its files changed; this is what they hold now.
    Replace {
        old: Arc<Entry<T>>,
        new: Arc<Entry<T>>,
    },
    /// Its files are gone, or somebody wants it gone.
    Unload {
        name: Arc<str>,
        done: Option<oneshot::Sender<bool>>,
    },
    /// It is to stay.
    Pin {
        name: Arc<str>,
        done: oneshot::Sender<Result<(), NodeError>>,
    },
}

/// Runs until nobody can send orders any more.
pub(super) async fn keep<T: Send + Sync + 'static>(
    shared: Arc<Shared<T>>,
    mut orders: mpsc::Receiver<Order<T>>,
) {
    loop {
        let over = Keeper { shared: &shared }.is_over();
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => Keeper { shared: &shared }.apply(order).await,
                None => return,
            },
            () = tokio::time::sleep(TRIM), if over => {}
        }
        Keeper { shared: &shared }.trim().await;
    }
}

struct Keeper<'a, T> {
    shared: &'a Shared<T>,
}

impl<T: Send + Sync + 'static> Keeper<'_, T> {
    async fn apply(&self, order: Order<T>) {
        match order {
            Order::Settle(entry) => self.settle(entry).await,
            Order::Replace { old, new } => self.replace(old, new).await,
            Order::Unload { name, done } => {
                let was_there = self.unload(&name).await;
                // Who asked may be gone.
                let _ = done.map(|done| done.send(was_there));
            }
            Order::Pin { name, done } => {
                let _ = done.send(self.pin(&name).await);
            }
        }
    }

    async fn settle(&self, newcomer: Arc<Entry<T>>) {
        if newcomer.settled.swap(true, SeqCst) {
            return;
        }
        if !self.is_held(&newcomer).await {
            return;
        }
        let others = self.others(&newcomer);
        let lingering = self.shared.lingering_load();
        let held = self.look(&others);
        match admit(&self.shared.policy.bounds, &held, lingering, newcomer.bytes) {
            Admission::Hold { evict } => self.evict(&others, &evict).await,
            Admission::Pass => self.let_go(&newcomer, true).await,
        }
    }

    /// Puts the new one in the old one's place, unless that is gone in the meantime.
    async fn replace(&self, old: Arc<Entry<T>>, new: Arc<Entry<T>>) {
        if !self.is_held(&old).await {
            return;
        }
        new.pinned.store(old.pinned.load(Relaxed), Relaxed);
        new.hits.store(old.hits.load(Relaxed), Relaxed);
        new.last_use.store(old.last_use.load(Relaxed), Relaxed);
        self.shared
            .held
            .insert(Arc::clone(&new.name), Arc::clone(&new))
            .await;
        self.shared.linger(&old, false);
        self.shared.counts.replacements.fetch_add(1, Relaxed);
        tracing::info!(adapter = %new.name, "an adapter's files changed; new requests use them");
        self.settle(new).await;
    }

    async fn unload(&self, name: &str) -> bool {
        match self.shared.held.get(name).await {
            Some(entry) => {
                self.let_go(&entry, false).await;
                true
            }
            None => false,
        }
    }

    /// Who asks has a lease, so that it is held or can be taken back.
    async fn pin(&self, name: &str) -> Result<(), NodeError> {
        let entry = match self.shared.held.get(name).await {
            Some(entry) => entry,
            None => {
                let entry = self.shared.revive(name).map(Arc::new);
                let gone = || NodeError::NotFound {
                    what: "adapter",
                    name: name.to_owned(),
                };
                let entry = entry.ok_or_else(gone)?;
                let place = self.shared.held.entry(Arc::clone(&entry.name));
                place.or_insert(entry).await.into_value()
            }
        };
        let others = self.others(&entry);
        let pinned = others.iter().filter(|one| one.pinned.load(Relaxed));
        let (count, bytes) = pinned.fold((1, entry.bytes), |(count, bytes), one| {
            (count + 1, bytes + one.bytes)
        });
        let bounds = &self.shared.policy.bounds;
        if count > bounds.max_loaded || bytes > bounds.max_bytes {
            self.settle(entry).await;
            return Err(NodeError::invalid(format!(
                "adapter {name:?} cannot be pinned: {count} pinned adapters would take {}, and \
                 max-loaded is {}, max-bytes {}",
                schema::ByteSize(bytes),
                bounds.max_loaded,
                schema::ByteSize(bounds.max_bytes)
            )));
        }
        entry.pinned.store(true, Relaxed);
        entry.settled.store(true, SeqCst);
        Ok(())
    }

    async fn trim(&self) {
        let entries = self.settled();
        let held = self.look(&entries);
        let lingering = self.shared.lingering_load();
        let gone = trim(&self.shared.policy.bounds, &held, lingering);
        self.evict(&entries, &gone).await;
    }

    fn is_over(&self) -> bool {
        let snapshot = self.shared.snapshot();
        let bounds = &self.shared.policy.bounds;
        (snapshot.loaded + snapshot.lingering) as usize > bounds.max_loaded
            || snapshot.bytes > bounds.max_bytes
    }

    async fn evict(&self, entries: &[Arc<Entry<T>>], places: &[usize]) {
        for place in places {
            self.let_go(&entries[*place], true).await;
            self.shared.counts.evictions.fetch_add(1, Relaxed);
        }
    }

    async fn let_go(&self, entry: &Entry<T>, current: bool) {
        self.shared.held.invalidate(&entry.name).await;
        self.shared.linger(entry, current);
        tracing::debug!(adapter = %entry.name, bytes = entry.bytes, "let go of an adapter");
    }

    async fn is_held(&self, entry: &Arc<Entry<T>>) -> bool {
        let held = self.shared.held.get(&entry.name).await;
        held.is_some_and(|held| Arc::ptr_eq(&held, entry))
    }

    /// Those for which room was made; the rest have their turn still to come.
    fn settled(&self) -> Vec<Arc<Entry<T>>> {
        let mut entries = self.shared.entries();
        entries.retain(|entry| entry.settled.load(SeqCst));
        entries
    }

    fn others(&self, entry: &Arc<Entry<T>>) -> Vec<Arc<Entry<T>>> {
        let mut entries = self.settled();
        entries.retain(|other| !Arc::ptr_eq(other, entry));
        entries
    }

    fn look(&self, entries: &[Arc<Entry<T>>]) -> Vec<Held> {
        let now = self.shared.now();
        entries.iter().map(|entry| entry.held(now)).collect()
    }
}
