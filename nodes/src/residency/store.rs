//! The adapters of one model as the engine sees them: names and numbers, never what they are.

use super::{Listed, Residency, Snapshot};
use crate::NodeError;
use futures::future::BoxFuture;
use std::{any::Any, path::Path};

/// What can be done with the adapters of a model from outside of it. The engine loads ahead through
/// this, reports and carries out the orders of operators; a node asks its own way.
pub trait AdapterStore: Send + Sync {
    /// Begins to load what a request will need, and keeps what is there for it. Cheap where it is
    /// there, never waits, and says nothing: an error shows when the node asks.
    fn ahead(&self, name: &str) -> Ahead;

    /// What it did and holds.
    fn snapshot(&self) -> Snapshot;

    /// What is in memory, what was refused a moment ago and what there is else, by name.
    ///
    /// # Errors
    /// The names cannot be listed.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, NodeError>>;

    /// Loads one; also what was refused a moment ago.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] if it is no name, [`NodeError::NotFound`] if there is none, and what
    /// kept it from being loaded.
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Gives the adapter in a folder a name until it is unloaded or the process ends, and loads it.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] if adapters may not be taken from there, or the name is another's; and
    /// as [`AdapterStore::load`].
    fn add<'a>(&'a self, name: &'a str, path: &'a Path) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Lets go of one; who uses it keeps it. Says whether it was in memory.
    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, bool>;

    /// Loads one if need be, and keeps it until it is unpinned or unloaded.
    ///
    /// # Errors
    /// As [`AdapterStore::load`], and [`NodeError::Invalid`] if what is pinned would not fit.
    fn pin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Lets one go again when room is needed. Says whether it was pinned.
    fn unpin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, bool>;
}

/// An adapter on its way to a request. As long as it is kept, what was loaded stays.
#[must_use = "what is loaded ahead may go again once this is dropped"]
pub struct Ahead(
    #[expect(dead_code, reason = "it is kept for what it holds")] Box<dyn Any + Send + Sync>,
);

impl Ahead {
    /// Keeps this.
    pub fn new(lease: impl Send + Sync + 'static) -> Self {
        Self(Box::new(lease))
    }
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ahead")
    }
}

impl<T: Send + Sync + 'static> AdapterStore for Residency<T> {
    fn ahead(&self, name: &str) -> Ahead {
        Ahead::new(self.prefetch(name))
    }

    fn snapshot(&self) -> Snapshot {
        Residency::snapshot(self)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, NodeError>> {
        let this = self.clone();
        Box::pin(async move {
            let listed = tokio::task::spawn_blocking(move || Residency::list(&this)).await;
            listed.map_err(|error| NodeError::because("failed to list the adapters", error))?
        })
    }

    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        Box::pin(async move { Residency::load(self, name).await.map(drop) })
    }

    fn add<'a>(&'a self, name: &'a str, path: &'a Path) -> BoxFuture<'a, Result<(), NodeError>> {
        Box::pin(async move { Residency::add(self, name, path).await.map(drop) })
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(Residency::unload(self, name))
    }

    fn pin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        Box::pin(Residency::pin(self, name))
    }

    fn unpin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(Residency::unpin(self, name))
    }
}
