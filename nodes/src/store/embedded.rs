//! The embedded index as a store.
//!
//! Searches compute on tokio's blocking threads, as many at once as they were given processors, and
//! see what other processes commit to the index shortly after.

use super::{Entry, Facts, Store, Wanted};
use crate::{
    Document, NodeError,
    index::{Index, IndexError, Writer},
};
use futures::future::BoxFuture;
use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// An open index, and its writer once something was put in.
pub struct Embedded {
    index: Index,
    facts: Facts,
    computing: Arc<Semaphore>,
    refreshing: Arc<AtomicBool>,
    writer: Arc<Mutex<Option<Writer>>>,
}

impl Embedded {
    /// A store over an index that is open, which searches with so many processors.
    pub fn new(index: Index, cpus: NonZeroUsize) -> Self {
        Self {
            facts: Facts {
                dimensions: index.manifest().dimensions,
                words: Ok(()),
            },
            index,
            computing: Arc::new(Semaphore::new(cpus.get())),
            refreshing: Arc::new(AtomicBool::new(false)),
            writer: Arc::default(),
        }
    }

    /// Looks once whether another process committed; if so, the new state is read beside the
    /// searches, which see the old one until it is there.
    fn look_for_changes(&self) {
        if !self.index.is_stale() || self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (index, refreshing) = (self.index.clone(), Arc::clone(&self.refreshing));
        spawn_blocking(move || {
            if let Err(error) = index.refresh() {
                let index = index.path().display();
                tracing::warn!(%index, %error, "failed to read the new state of an index");
            }
            refreshing.store(false, Ordering::Release);
        });
    }

    /// Has the writer do something; it is opened for the first thing.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, IndexError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, NodeError>> {
        let (index, writer) = (self.index.clone(), Arc::clone(&self.writer));
        blocking(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let writer = match &mut *writer {
                Some(writer) => writer,
                none => none.insert(index.writer()?),
            };
            work(writer)
        })
    }
}

impl Store for Embedded {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn find(&self, wanted: Wanted) -> BoxFuture<'_, Result<Vec<Document>, NodeError>> {
        Box::pin(async move {
            self.look_for_changes();
            let computing = Arc::clone(&self.computing).acquire_owned().await;
            let index = self.index.clone();
            blocking(move || {
                // Kept by the work, not by who waits for it: a caller that leaves must not let
                // more in.
                let _computing = computing;
                index.search(&wanted.query())
            })
            .await
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, NodeError>> {
        let index = self.index.clone();
        blocking(move || Ok(index.facts()?.documents))
    }

    fn known(
        &self,
        documents: Vec<(Arc<str>, u64)>,
    ) -> BoxFuture<'_, Result<Vec<bool>, NodeError>> {
        let index = self.index.clone();
        blocking(move || {
            let known = documents
                .iter()
                .map(|(id, digest)| index.contains(id, *digest));
            known.collect()
        })
    }

    fn upsert(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<(), NodeError>> {
        self.write(move |writer| {
            let mut entries = batch.iter();
            entries.try_for_each(|entry| writer.put(&entry.record, entry.digest))
        })
    }

    fn delete(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), NodeError>> {
        self.write(move |writer| {
            ids.iter().for_each(|id| writer.delete(id));
            Ok(())
        })
    }

    fn ids(&self) -> BoxFuture<'_, Result<Vec<String>, NodeError>> {
        let index = self.index.clone();
        blocking(move || index.ids())
    }

    fn commit(&self) -> BoxFuture<'_, Result<(), NodeError>> {
        self.write(|writer| writer.commit().map(|_| ()))
    }

    fn finish(&self) -> BoxFuture<'_, Result<(), NodeError>> {
        let writer = Arc::clone(&self.writer);
        blocking(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            match writer.take() {
                Some(writer) => writer.finish().map(|_| ()),
                None => Ok(()),
            }
        })
    }
}

/// Runs work that computes or waits for a disk on a thread that may be blocked. It begins at once,
/// and goes on if its caller leaves.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> BoxFuture<'static, Result<T, NodeError>> {
    let work = spawn_blocking(work);
    Box::pin(async move {
        let done = work.await;
        let done = done.map_err(|error| NodeError::because("work ended early", error))?;
        Ok(done?)
    })
}
