//! LoRA adapters in sub-folders of one folder, as a residency of [`Adapter`]s.

use super::{Loaded, Loader, Residency, check_name};
use crate::{
    NodeError,
    adapter::{Adapter, Adapters, Base},
    source::{Problem, content_digest, file_state, inspect},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The files of an adapter in PEFT's format.
const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// A folder with one sub-folder for each adapter of a model.
#[derive(Debug, Clone)]
pub struct AdapterFolder {
    root: PathBuf,
    base: Arc<Base>,
}

impl AdapterFolder {
    /// The adapters in `root`, which must fit `base`. A `root` that is not there holds none.
    pub fn new(root: impl Into<PathBuf>, base: Arc<Base>) -> Self {
        Self {
            root: root.into(),
            base,
        }
    }

    fn folder(&self, name: &str) -> Result<PathBuf, NodeError> {
        check_name(name)?;
        Ok(self.root.join(name))
    }
}

impl Loader<Adapter> for AdapterFolder {
    fn names(&self) -> Result<Vec<String>, NodeError> {
        let failed = |error| {
            let folder = self.root.display();
            NodeError::because(format!("failed to list the adapters in {folder}"), error)
        };
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let is_adapter = entry.path().join(FILES[0]).is_file();
            if let (true, Ok(name)) = (is_adapter, entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn stamp(&self, name: &str) -> Result<String, NodeError> {
        let folder = self.folder(name)?;
        let states = FILES.map(|file| file_state(&folder.join(file)));
        let mut stamp = String::new();
        for state in states {
            stamp.push_str(&state.map_err(|error| missing(name, error))?);
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
}

impl Adapters for Residency<Adapter> {
    fn get(&self, name: &str) -> Result<Arc<Adapter>, NodeError> {
        self.get_blocking(name)
    }

    fn is_loaded(&self, name: &str) -> bool {
        self.is_held(name)
    }
}

fn missing(name: &str, error: io::Error) -> NodeError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NodeError::NotFound {
            what: "adapter",
            name: name.to_owned(),
        },
        _ => NodeError::because(format!("failed to read adapter {name:?}"), error),
    }
}

fn generation(folder: &Path) -> Result<String, Problem> {
    let digests = FILES.map(|file| content_digest(&folder.join(file)));
    let [config, weights] = digests;
    Ok(format!("{}-{}", config?, weights?))
}
