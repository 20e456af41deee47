//! LoRA adapters in folders, as a residency of [`Adapter`]s.

use super::{Loaded, Loader, Residency, check_name};
use crate::{
    NodeError,
    adapter::{Adapter, Adapters, Base},
    source::{Problem, content_digest, file_state, inspect},
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
#[derive(Debug)]
pub struct AdapterFolder {
    root: Option<PathBuf>,
    /// What paths of operators are relative to.
    home: PathBuf,
    declared: BTreeMap<String, PathBuf>,
    added: RwLock<BTreeMap<String, PathBuf>>,
    base: Arc<Base>,
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
            root,
            home: PathBuf::from("."),
            declared: BTreeMap::new(),
            added: RwLock::default(),
            base,
        }
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

    fn folder(&self, name: &str) -> Result<PathBuf, NodeError> {
        check_name(name)?;
        if let Some(folder) = self.declared.get(name) {
            return Ok(folder.clone());
        }
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        match (added.get(name), &self.root) {
            (Some(folder), _) => Ok(folder.clone()),
            (None, Some(root)) => Ok(root.join(name)),
            (None, None) => Err(missing(name)),
        }
    }

    /// Whether an operator may name this folder, which is given without links: it is below the
    /// folder for all, or was declared.
    fn is_ours(&self, folder: &Path) -> bool {
        let same = |one: &PathBuf| one.canonicalize().is_ok_and(|one| one == folder);
        let below = |root: &PathBuf| {
            let root = root.canonicalize();
            root.is_ok_and(|root| folder != root && folder.starts_with(root))
        };
        self.root.as_ref().is_some_and(below) || self.declared.values().any(same)
    }
}

impl Loader<Adapter> for AdapterFolder {
    fn names(&self) -> Result<Vec<String>, NodeError> {
        let mut names = match &self.root {
            Some(root) => names_in(root).map_err(|error| {
                let folder = root.display();
                NodeError::because(format!("failed to list the adapters in {folder}"), error)
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
        let folder = self.folder(name)?;
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
        let path = self.home.join(path);
        let folder = path.canonicalize().ok().filter(|path| path.is_dir());
        let folder = folder.filter(|folder| self.is_ours(folder));
        let folder = folder.ok_or_else(|| {
            NodeError::invalid(
                "the path is no folder below the model's `adapters` folder, and none of its \
                 declared adapters",
            )
        })?;
        match self.stamp(name) {
            // It has this name already, or another has.
            Ok(_) => {
                let taken = self.folder(name)?.canonicalize().ok();
                match taken.is_some_and(|taken| taken == folder) {
                    true => Ok(()),
                    false => Err(NodeError::invalid(format!(
                        "another adapter is named {name:?}; unload it first, or take another name"
                    ))),
                }
            }
            Err(_) => {
                let mut added = self.added.write().unwrap_or_else(PoisonError::into_inner);
                added.insert(name.to_owned(), folder);
                Ok(())
            }
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
