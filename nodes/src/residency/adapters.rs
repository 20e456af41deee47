//! LoRA adapters in folders, as a residency of [`Adapter`]s.

use super::{Loaded, Loader, Residency, check_name, remote::RemoteFolder};
use crate::{
    NodeError,
    adapter::{Adapter, Adapters, Base},
    source::{Fetcher, Problem, content_digest, file_state, inspect},
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

/// The files of an adapter in PEFT's format.
const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// Where the adapters of a model lie: in the sub-folders of one folder, in folders that were fetched
/// for a declaration, and in those that an operator named.
pub struct AdapterFolder {
    root: Option<Root>,
    /// What paths of operators are relative to.
    home: PathBuf,
    declared: BTreeMap<String, PathBuf>,
    added: RwLock<BTreeMap<String, Home>>,
    base: Arc<Base>,
    lock: Option<Lock>,
}

/// The folder for all.
enum Root {
    Here(PathBuf),
    Remote(RemoteFolder),
}

/// Where one adapter lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Home {
    Here(PathBuf),
    /// In a folder of the remote one.
    Remote(String),
}

/// What the adapters of the folder for all are held against.
struct Lock {
    fetcher: Arc<Fetcher>,
    /// What their sources begin with.
    root: String,
}

impl AdapterFolder {
    /// The adapters in the sub-folders of `root`, which must fit `base`. A `root` that is not there
    /// holds none.
    pub fn new(root: impl Into<PathBuf>, base: Arc<Base>) -> Self {
        Self::of(Some(root.into()), base)
    }

    /// The same where there may be no such folder.
    pub fn of(root: Option<PathBuf>, base: Arc<Base>) -> Self {
        Self {
            root: root.map(Root::Here),
            home: PathBuf::from("."),
            declared: BTreeMap::new(),
            added: RwLock::default(),
            base,
            lock: None,
        }
    }

    /// The same with a folder in an object store in the place of one on this disk.
    #[must_use]
    pub(crate) fn with_remote(mut self, root: RemoteFolder) -> Self {
        self.root = Some(Root::Remote(root));
        self
    }

    /// The same with adapters of the folder for all held against the lock that `fetcher` goes by,
    /// where their sources begin with `root`.
    #[must_use]
    pub(crate) fn with_lock(mut self, fetcher: Arc<Fetcher>, root: String) -> Self {
        self.lock = Some(Lock { fetcher, root });
        self
    }

    /// The same with paths of operators relative to this folder, that of the graph file.
    #[must_use]
    pub fn with_home(mut self, home: &Path) -> Self {
        home.clone_into(&mut self.home);
        self
    }

    /// The same with adapters that lie in folders of their own, by name; they come before those of
    /// the folder for all.
    #[must_use]
    pub fn with_declared(mut self, declared: BTreeMap<String, PathBuf>) -> Self {
        self.declared = declared;
        self
    }

    fn home(&self, name: &str) -> Result<Home, NodeError> {
        check_name(name)?;
        if let Some(folder) = self.declared.get(name) {
            return Ok(Home::Here(folder.clone()));
        }
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        match (added.get(name), &self.root) {
            (Some(home), _) => Ok(home.clone()),
            (None, Some(Root::Here(root))) => Ok(Home::Here(root.join(name))),
            (None, Some(Root::Remote(_))) => Ok(Home::Remote(name.to_owned())),
            (None, None) => Err(missing(name)),
        }
    }

    /// The files of an adapter on this disk, fetched if need be.
    fn folder(&self, name: &str) -> Result<PathBuf, NodeError> {
        match self.home(name)? {
            Home::Here(folder) => Ok(folder),
            Home::Remote(inside) => {
                let brought = self.remote()?.bring(&inside);
                brought.map_err(|problem| cannot_fetch(name, problem))
            }
        }
    }

    fn remote(&self) -> Result<&RemoteFolder, NodeError> {
        match &self.root {
            Some(Root::Remote(remote)) => Ok(remote),
            _ => Err(NodeError::failed("the model's adapters are on this disk")),
        }
    }

    /// Holds an adapter of the folder for all against the lock. Declared ones were when they were
    /// fetched.
    fn hold_against_lock(&self, name: &str, folder: &Path) -> Result<(), Problem> {
        let (Some(lock), false) = (&self.lock, self.declared.contains_key(name)) else {
            return Ok(());
        };
        let inside = match (self.home(name), &self.root) {
            (Ok(Home::Here(home)), Some(Root::Here(root))) => inside(root, &home),
            (Ok(Home::Remote(inside)), _) => Some(format!("{inside}/")),
            _ => None,
        };
        let inside = inside.unwrap_or_else(|| name.to_owned());
        let uri = format!("{}{inside}", lock.root);
        lock.fetcher.hold_against_lock(&uri, folder)
    }

    /// The folder that an operator names in the remote one, or on this disk.
    fn named(&self, path: &Path) -> Option<Home> {
        if let Some(Root::Remote(remote)) = &self.root
            && let Some(inside) = remote.inside(path.to_str()?)
        {
            return Some(Home::Remote(inside));
        }
        let folder = self.home.join(path).canonicalize().ok()?;
        (folder.is_dir() && self.is_ours(&folder)).then_some(Home::Here(folder))
    }

    /// Whether an operator may name this folder, which is given without links: it is below the
    /// folder for all, or was declared.
    fn is_ours(&self, folder: &Path) -> bool {
        let same = |one: &PathBuf| one.canonicalize().is_ok_and(|one| one == folder);
        let below = |root: &PathBuf| {
            let root = root.canonicalize();
            root.is_ok_and(|root| folder != root && folder.starts_with(root))
        };
        let root = match &self.root {
            Some(Root::Here(root)) => Some(root),
            _ => None,
        };
        root.is_some_and(below) || self.declared.values().any(same)
    }
}

impl Loader<Adapter> for AdapterFolder {
    fn names(&self) -> Result<Vec<String>, NodeError> {
        let mut names = match &self.root {
            Some(Root::Here(root)) => names_in(root).map_err(|error| {
                let folder = root.display();
                NodeError::because(format!("failed to list the adapters in {folder}"), error)
            })?,
            Some(Root::Remote(root)) => root.names().map_err(|problem| {
                NodeError::because(format!("failed to list the adapters in {root:?}"), problem)
            })?,
            None => Vec::new(),
        };
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        names.extend(self.declared.keys().chain(added.keys()).cloned());
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn stamp(&self, name: &str) -> Result<String, NodeError> {
        let folder = match self.home(name)? {
            Home::Here(folder) => folder,
            Home::Remote(inside) => {
                let stamp = self.remote()?.stamp(&inside);
                return stamp.map_err(|problem| cannot_fetch(name, problem));
            }
        };
        let states = FILES.map(|file| file_state(&folder.join(file)));
        let mut stamp = String::new();
        for state in states {
            stamp.push_str(&state.map_err(|error| unreadable(name, error))?);
            stamp.push(';');
        }
        Ok(stamp)
    }

    fn load(&self, name: &str) -> Result<Loaded<Adapter>, NodeError> {
        // First the stamp: what changes while it is read will be seen at the next look.
        let stamp = self.stamp(name)?;
        let folder = self.folder(name)?;
        let failed = |problem: Problem| {
            NodeError::because(
                format!("failed to load adapter {name:?}: {problem}"),
                problem,
            )
        };
        inspect(&folder).map_err(failed)?;
        let held = self.hold_against_lock(name, &folder);
        held.map_err(|problem| match problem {
            Problem::NotLocked { .. } => not_locked(name),
            problem => failed(problem),
        })?;
        let generation = generation(&folder).map_err(failed)?;
        let value = Adapter::load(name, &folder, &self.base).map_err(|error| {
            NodeError::because(format!("failed to load adapter {name:?}: {error}"), error)
        })?;
        Ok(Loaded {
            bytes: value.bytes() as u64,
            value,
            stamp,
            generation,
        })
    }

    /// Takes folders below the folder for all and those that were declared: an operator's order
    /// comes over a socket, and must not have the engine read what its file does not name.
    fn add(&self, name: &str, path: &Path) -> Result<(), NodeError> {
        check_name(name)?;
        let home = self.named(path).ok_or_else(|| {
            NodeError::invalid(
                "the path is no folder below the model's `adapters` folder, and none of its \
                 declared adapters",
            )
        })?;
        match self.stamp(name) {
            // It has this name already, or another has.
            Ok(_) => {
                let taken = match self.home(name)? {
                    Home::Here(folder) => folder.canonicalize().ok().map(Home::Here),
                    remote => Some(remote),
                };
                match taken.is_some_and(|taken| taken == home) {
                    true => Ok(()),
                    false => Err(NodeError::invalid(format!(
                        "another adapter is named {name:?}; unload it first, or take another name"
                    ))),
                }
            }
            Err(NodeError::NotFound { .. }) => {
                let mut added = self.added.write().unwrap_or_else(PoisonError::into_inner);
                added.insert(name.to_owned(), home);
                Ok(())
            }
            // Whether it has this name cannot be known now.
            Err(error) => Err(error),
        }
    }

    fn forget(&self, name: &str) {
        let mut added = self.added.write().unwrap_or_else(PoisonError::into_inner);
        added.remove(name);
    }
}

impl Adapters for Residency<Adapter> {
    fn get(&self, name: &str) -> Result<Arc<Adapter>, NodeError> {
        self.get_blocking(name)
    }

    fn is_loaded(&self, name: &str) -> bool {
        // The load goes on when this is dropped, and what is young is not displaced.
        !self.prefetch(name).is_awaited()
    }
}

/// The names of the adapters in a folder, in any order; none if it is not there.
///
/// # Errors
/// It cannot be read.
pub(crate) fn names_in(root: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_adapter = entry.path().join(FILES[0]).is_file();
        if let (true, Ok(name)) = (is_adapter, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The path of a folder within another, links not followed.
fn inside(root: &Path, folder: &Path) -> Option<String> {
    let canonical = || folder.strip_prefix(root.canonicalize().ok()?).ok();
    let inside = folder.strip_prefix(root).ok().or_else(canonical)?;
    inside.to_str().map(str::to_owned)
}

fn cannot_fetch(name: &str, problem: Problem) -> NodeError {
    let reason = format!("failed to fetch adapter {name:?}: {problem}");
    match problem {
        // A folder that holds something else is no adapter either, but worth a reason.
        Problem::NotFound { .. } => missing(name),
        Problem::NotLocked { .. } => not_locked(name),
        Problem::Unreachable { .. } | Problem::Offline { .. } => NodeError::unavailable(reason),
        problem => NodeError::because(reason, problem),
    }
}

/// For requests there is none; whoever put it there learns why.
fn not_locked(name: &str) -> NodeError {
    tracing::warn!(
        adapter = name,
        "an adapter that is not in the lock is not taken"
    );
    missing(name)
}

fn missing(name: &str) -> NodeError {
    NodeError::NotFound {
        what: "adapter",
        name: name.to_owned(),
    }
}

fn unreadable(name: &str, error: io::Error) -> NodeError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(name),
        _ => NodeError::because(format!("failed to read adapter {name:?}"), error),
    }
}

fn generation(folder: &Path) -> Result<String, Problem> {
    let digests = FILES.map(|file| content_digest(&folder.join(file)));
    let [config, weights] = digests;
    Ok(format!("{}-{}", config?, weights?))
}
