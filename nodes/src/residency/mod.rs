//! Which adapters are in memory: loaded when a request names them, within bounds of number and
//! bytes, the one that was unused for the longest time goes first.
//!
//! - A name is loaded once, however many ask for it at the same time, and several names at once.
//! - A lease is an `Arc`. What is in use is never torn out, and its bytes count until the last lease
//!   is gone.
//! - What is new is loaded before anything goes.
//! - A name that is unknown or broken is refused for a short time without looking again.
//! - Files that change are loaded anew; requests under way keep what they have.
//!
//! What stays and what goes is decided in `decide`, which is pure; `keeper` does it. The map, the
//! single flight and the memory of refusals are moka's. How an adapter is read is the [`Loader`]'s
//! affair, which replica gets a request is not known here.

mod adapters;
mod decide;
mod entry;
mod id;
mod keeper;
mod loader;
mod remote;
mod report;
mod shared;
mod store;

pub use adapters::AdapterFolder;
pub(crate) use adapters::names_in;
pub use decide::Bounds;
pub use id::check_name;
pub use loader::{Loaded, Loader};
pub(crate) use remote::RemoteFolder;
pub use report::{LOAD_TIMES, Listed, Snapshot, State};
pub use store::{AdapterStore, Ahead};

use crate::NodeError;
use entry::Entry;
use futures::FutureExt as _;
use keeper::Order;
use shared::{Coming, Shared};
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// How a [`Residency`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How much is held.
    pub bounds: Bounds,
    /// For how long a name that could not be loaded is refused without trying again.
    pub refusal_ttl: Duration,
    /// How often at most the files of what is in use are looked at for changes.
    pub check_interval: Duration,
}

impl Policy {
    /// The bounds that a file gives, and the usual times: 1 s of residency at least, 5 s of refusal,
    /// 1 s between looks at files.
    pub fn new(max_loaded: u32, max_bytes: schema::ByteSize) -> Self {
        Self {
            bounds: Bounds {
                max_loaded: max_loaded as usize,
                max_bytes: max_bytes.0,
                min_residency: Duration::from_secs(1),
            },
            refusal_ttl: Duration::from_secs(5),
            check_interval: Duration::from_secs(1),
        }
    }
}

/// Holds what its loader reads. Clones share what they hold.
pub struct Residency<T> {
    shared: Arc<Shared<T>>,
    orders: mpsc::Sender<Order<T>>,
    runtime: Handle,
}

impl<T> Clone for Residency<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            orders: self.orders.clone(),
            runtime: self.runtime.clone(),
        }
    }
}

/// A load ahead of its use. As long as it is kept, what was loaded stays.
#[must_use = "what is loaded ahead may go again once this is dropped"]
pub struct Prefetch<T>(LeaseAhead<T>);

enum LeaseAhead<T> {
    /// It was there already.
    Held(#[expect(dead_code, reason = "it is kept for what it holds")] Arc<T>),
    /// It is on its way, and the task keeps it once it came.
    Coming(
        #[expect(dead_code, reason = "it is kept for what it holds")]
        JoinHandle<Result<Arc<T>, NodeError>>,
    ),
    /// There is no room for it before its use.
    NoRoom,
    /// It is no name, or was refused a moment ago.
    Refused,
}

impl<T> Prefetch<T> {
    /// Whether who asks for it now has to wait for it.
    pub fn is_awaited(&self) -> bool {
        matches!(self.0, LeaseAhead::Coming(_) | LeaseAhead::NoRoom)
    }
}

impl<T: Send + Sync + 'static> Residency<T> {
    /// Holds nothing yet. Its tasks run on the runtime from within which this is called, until the
    /// last clone is dropped.
    pub fn new(loader: impl Loader<T>, policy: Policy) -> Self {
        let shared = Arc::new(Shared::new(Box::new(loader), policy));
        let (orders, received) = mpsc::channel(64);
        let runtime = Handle::current();
        runtime.spawn(keeper::keep(Arc::clone(&shared), received));
        Self {
            shared,
            orders,
            runtime,
        }
    }

    /// A lease on what has this name, loaded if need be. A load goes on if who waits for it is gone.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] if it is no name, [`NodeError::NotFound`] if there is none, and what
    /// the loader said.
    pub async fn get(&self, name: &str) -> Result<Arc<T>, NodeError> {
        let found = self.find(name, true).await;
        let counts = &self.shared.counts;
        match found {
            Ok(Some(_)) => counts.hits.fetch_add(1, Relaxed),
            Ok(None) | Err(_) => counts.misses.fetch_add(1, Relaxed),
        };
        match found? {
            Some(value) => Ok(value),
            None => self.bring(name).await,
        }
    }

    /// [`Residency::get`] for threads that are not the runtime's workers; this blocks.
    ///
    /// # Errors
    /// As [`Residency::get`].
    pub fn get_blocking(&self, name: &str) -> Result<Arc<T>, NodeError> {
        self.runtime.block_on(self.get(name))
    }

    /// What is held under a name; this counts as no use of it.
    pub async fn peek(&self, name: &str) -> Option<Arc<T>> {
        let entry = self.shared.held.get(name).await?;
        entry.lease()
    }

    /// Begins to load what a request will need. An error shows when it is asked for.
    ///
    /// Nothing is loaded ahead where all room is taken by what is in use, pinned or on its way:
    /// requests that wait in a queue must not make more of memory than those that run.
    pub fn prefetch(&self, name: &str) -> Prefetch<T> {
        // What is held is there at the first look; a task would cost more than the look.
        match self.find(name, false).now_or_never() {
            Some(Ok(Some(value))) => return Prefetch(LeaseAhead::Held(value)),
            Some(Err(_)) => return Prefetch(LeaseAhead::Refused),
            Some(Ok(None)) | None => {}
        }
        let Some(coming) = Coming::admit(&self.shared) else {
            return Prefetch(LeaseAhead::NoRoom);
        };
        let (this, name) = (self.clone(), Arc::<str>::from(name));
        let task = self.runtime.spawn(async move {
            let _coming = coming;
            match this.find(&name, false).await? {
                Some(value) => Ok(value),
                None => this.bring(&name).await,
            }
        });
        Prefetch(LeaseAhead::Coming(task))
    }

    /// Loads by order of an operator: also what was refused a moment ago.
    ///
    /// # Errors
    /// As [`Residency::get`].
    pub async fn load(&self, name: &str) -> Result<Arc<T>, NodeError> {
        check_name(name)?;
        self.shared.refused.invalidate(name).await;
        match self.find(name, false).await? {
            Some(value) => Ok(value),
            None => self.bring(name).await,
        }
    }

    /// Lets go of what has this name; who uses it keeps it. Says whether it was held. What has a name
    /// only by [`Residency::add`] loses it.
    pub async fn unload(&self, name: &str) -> bool {
        self.shared.loader.forget(name);
        self.shared.refused.invalidate(name).await;
        let (done, answer) = oneshot::channel();
        let name = Arc::from(name);
        self.order(Order::Unload {
            name,
            done: Some(done),
        })
        .await;
        answer.await.unwrap_or(false)
    }

    /// Gives what lies at `path` a name, by order of an operator, and loads it.
    ///
    /// # Errors
    /// The loader does not take what lies there, and as [`Residency::get`].
    pub async fn add(&self, name: &str, path: &Path) -> Result<Arc<T>, NodeError> {
        check_name(name)?;
        let (shared, of, from) = (Arc::clone(&self.shared), name.to_owned(), path.to_owned());
        let added = tokio::task::spawn_blocking(move || shared.loader.add(&of, &from)).await;
        let failed = |error| NodeError::because(format!("failed to add {name:?}"), error);
        added.map_err(failed)??;
        let loaded = self.load(name).await;
        if loaded.is_err() {
            self.shared.loader.forget(name);
        }
        loaded
    }

    /// Loads it if need be, and keeps it until it is unpinned or unloaded.
    ///
    /// # Errors
    /// As [`Residency::get`], and [`NodeError::Invalid`] if what is pinned would not fit the bounds.
    pub async fn pin(&self, name: &str) -> Result<(), NodeError> {
        let _lease = self.load(name).await?;
        let (done, answer) = oneshot::channel();
        let name = Arc::from(name);
        self.order(Order::Pin { name, done }).await;
        let ended = || NodeError::failed("the keeper of the adapters has ended");
        answer.await.map_err(|_| ended())?
    }

    /// Lets it go again when room is needed. Says whether it was pinned.
    pub async fn unpin(&self, name: &str) -> bool {
        let entry = self.shared.held.get(name).await;
        entry.is_some_and(|entry| entry.pinned.swap(false, Relaxed))
    }

    /// What is held, and an error for what was refused a moment ago. `counts` says whether this is
    /// the use of a request.
    async fn find(&self, name: &str, counts: bool) -> Result<Option<Arc<T>>, NodeError> {
        check_name(name)?;
        if let Some(entry) = self.shared.held.get(name).await {
            self.shared.touch(&entry);
            entry.hits.fetch_add(u64::from(counts), Relaxed);
            self.check_files(&entry);
            if let Some(value) = entry.lease() {
                return Ok(Some(value));
            }
        }
        match self.shared.refused.get(name).await {
            Some(refusal) if refusal.until > self.shared.now() => Err(refusal.error),
            _ => Ok(None),
        }
    }

    /// Loads on a task of its own, which goes on if this one is given up.
    async fn bring(&self, name: &str) -> Result<Arc<T>, NodeError> {
        let (this, name) = (self.clone(), Arc::<str>::from(name));
        let task = self.runtime.spawn(async move {
            let shared = &this.shared;
            loop {
                let bring = Arc::clone(shared).bring(Arc::clone(&name));
                let entry = match shared.held.try_get_with(Arc::clone(&name), bring).await {
                    Ok(entry) => entry,
                    Err(error) => return Err(NodeError::clone(&error)),
                };
                shared.touch(&entry);
                // None if it went again before this one of many who waited for it came to its turn.
                if let Some(value) = entry.lease() {
                    this.order(Order::Settle(entry)).await;
                    return Ok(value);
                }
            }
        });
        match task.await {
            Ok(result) => result,
            Err(_) => Err(NodeError::failed("the load of an adapter was cut off")),
        }
    }

    /// Looks now and then whether the files of what is used have changed.
    fn check_files(&self, entry: &Arc<Entry<T>>) {
        let interval = self.shared.policy.check_interval;
        if entry.start_check(self.shared.now(), interval) {
            let (this, entry) = (self.clone(), Arc::clone(entry));
            self.runtime.spawn(async move {
                this.follow_files(&entry).await;
                entry.checking.store(false, Relaxed);
            });
        }
    }

    async fn follow_files(&self, entry: &Arc<Entry<T>>) {
        let (shared, name) = (Arc::clone(&self.shared), Arc::clone(&entry.name));
        let stamp = tokio::task::spawn_blocking(move || shared.loader.stamp(&name)).await;
        let name = &entry.name;
        let result = match stamp {
            Ok(Ok(stamp)) if stamp == entry.stamp() => return,
            Ok(Ok(_)) => self.shared.load(name).await,
            Ok(Err(error)) => Err(error),
            Err(_) => return,
        };
        match result {
            Ok(loaded) if loaded.generation == entry.generation => entry.set_stamp(loaded.stamp),
            Ok(loaded) => {
                let (name, old) = (Arc::clone(name), Arc::clone(entry));
                let new = Arc::new(Entry::new(name, loaded, self.shared.now()));
                self.order(Order::Replace { old, new }).await;
            }
            Err(NodeError::NotFound { .. }) => {
                tracing::info!(adapter = %name, "an adapter's files are gone");
                let name = Arc::clone(name);
                self.order(Order::Unload { name, done: None }).await;
            }
            // Perhaps it is being written: what was good stays, and the next look tries again.
            Err(error) => {
                tracing::warn!(adapter = %name, %error, "keeping the adapter that was loaded before");
            }
        }
    }

    async fn order(&self, order: Order<T>) {
        // Fails only while the runtime goes down.
        let _ = self.orders.send(order).await;
    }
}
