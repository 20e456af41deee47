//! A folder of adapters in an object store: each is fetched into the cache when it is first needed.
//!
//! The store is asked at most once in [`PERIOD`] about an adapter and about the names that there are,
//! so that a change is noticed within that time and a cold load of what the cache has costs no
//! question.

use crate::{
    NodeError,
    source::{Fetcher, Found, ObjectPlace, Place, Problem},
};
use std::{
    collections::HashMap,
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, time::Instant};

/// How old what is known of the store may be.
const PERIOD: Duration = Duration::from_secs(30);

/// A folder in an object store, whose folders are adapters.
pub(crate) struct RemoteFolder {
    root: ObjectPlace,
    fetcher: Arc<Fetcher>,
    runtime: Handle,
    found: Mutex<HashMap<String, Looked<Found>>>,
    names: Mutex<Option<Looked<Vec<String>>>>,
}

/// What was there at a time.
#[derive(Clone)]
struct Looked<T> {
    at: Instant,
    value: T,
}

impl<T> Looked<T> {
    fn now(value: T) -> Self {
        let at = Instant::now();
        Self { at, value }
    }

    fn is_fresh(&self) -> bool {
        self.at.elapsed() < PERIOD
    }
}

impl RemoteFolder {
    /// The folder at this URI. It is asked on the runtime from within which this is called.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] if it is none in an object store.
    pub(crate) fn new(uri: &str, fetcher: Arc<Fetcher>) -> Result<Self, NodeError> {
        let root = match Place::parse(uri) {
            // Whatever it ends in, it is a folder here.
            Ok(Place::Object(place)) => place.as_folder(),
            Ok(_) => return Err(NodeError::invalid("adapters are not listed there")),
            Err(problem) => return Err(NodeError::invalid(problem.to_string())),
        };
        Ok(Self {
            root,
            fetcher,
            runtime: Handle::current(),
            found: Mutex::default(),
            names: Mutex::default(),
        })
    }

    /// The names of its folders; the last ones that are known where the store does not answer.
    /// Blocks.
    pub(crate) fn names(&self) -> Result<Vec<String>, Problem> {
        let known = lock(&self.names).clone();
        if let Some(known) = known.as_ref().filter(|known| known.is_fresh()) {
            return Ok(known.value.clone());
        }
        match self.wait(self.fetcher.folders(&self.root)) {
            Ok(names) => {
                *lock(&self.names) = Some(Looked::now(names.clone()));
                Ok(names)
            }
            Err(Problem::Unreachable { .. } | Problem::Offline { .. }) => {
                Ok(known.map(|known| known.value).unwrap_or_default())
            }
            Err(problem) => Err(problem),
        }
    }

    /// What changes when the files of a folder do. Blocks.
    pub(crate) fn stamp(&self, folder: &str) -> Result<String, Problem> {
        Ok(self.look(folder)?.stamp())
    }

    /// The files of a folder on this disk, fetched if need be. Blocks.
    pub(crate) fn bring(&self, folder: &str) -> Result<PathBuf, Problem> {
        let place = self.root.inside(folder);
        let found = self.look(folder)?;
        match self.wait(self.fetcher.bring(&place, &found)) {
            Err(Problem::Changed { .. }) => {
                lock(&self.found).remove(folder);
                let found = self.look(folder)?;
                self.wait(self.fetcher.bring(&place, &found))
            }
            result => result,
        }
    }

    /// The folder within this one that a URI names.
    pub(crate) fn inside(&self, uri: &str) -> Option<String> {
        let root = self.root.to_string();
        let Ok(Place::Object(place)) = Place::parse(uri) else {
            return None;
        };
        let place = place.as_folder().to_string();
        let inside = place.strip_prefix(&root)?.trim_end_matches('/');
        (!inside.is_empty()).then(|| inside.to_owned())
    }

    fn look(&self, folder: &str) -> Result<Found, Problem> {
        let known = lock(&self.found).get(folder).cloned();
        if let Some(known) = known.filter(Looked::is_fresh) {
            return Ok(known.value);
        }
        let found = self.wait(self.fetcher.look(&self.root.inside(folder)));
        let mut all = lock(&self.found);
        match found {
            Ok(found) => {
                all.insert(folder.to_owned(), Looked::now(found.clone()));
                Ok(found)
            }
            Err(problem) => {
                // Requests name what they like: only what is there is remembered.
                all.remove(folder);
                Err(problem)
            }
        }
    }

    fn wait<T>(&self, asked: impl Future<Output = T>) -> T {
        self.runtime.block_on(asked)
    }
}

impl std::fmt::Debug for RemoteFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.root)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
