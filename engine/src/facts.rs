//! What is known on this machine about what a file declares, for the check.

use crate::content;
use graphs::{Facts, IndexFacts, ModelFacts, PythonFacts};
use nodes::index::Index;
use schema::{Document, IndexBackend, Work};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// Looks at models in their cache and at indexes on disk, without fetching or loading anything.
/// Paths are relative to the folder of `file`.
pub fn gather(file: &Path) -> impl FnOnce(&Document) -> Facts {
    let base_dir = base_dir(file);
    let lock = crate::locked::peek(file);
    move |document| {
        let models = document.models.iter().filter_map(|model| {
            let facts = ModelFacts {
                dimensions: nodes::local_dimensions(model, &base_dir, lock.as_ref()),
                adapters: nodes::local_adapters(model, &base_dir),
            };
            let known = facts.dimensions.is_some() || facts.adapters.is_some();
            known.then(|| (model.id.value.clone(), facts))
        });
        let indexes = document.indexes.iter().filter_map(|index| {
            let IndexBackend::Embedded { path } = &index.backend else {
                return None;
            };
            let dimensions = Index::dimensions_at(&base_dir.join(path.expose()))?;
            Some((index.id.value.clone(), IndexFacts { dimensions }))
        });
        Facts {
            models: models.collect(),
            indexes: indexes.collect(),
            python: python(document, &base_dir),
            machine: Some(crate::load::machine()),
            content: content::gather(&content::of_document(document), &base_dir),
        }
    }
}

/// What the files of Python nodes define. They are read and not run.
fn python(document: &Document, base_dir: &Path) -> HashMap<String, PythonFacts> {
    let nodes = document.graphs.iter().flat_map(|graph| &graph.nodes);
    let files = nodes.filter_map(|node| match &node.work {
        Work::Python(python) => Some(python.file.value.expose()),
        _ => None,
    });
    let facts = files.filter_map(|file| {
        let facts = match nodes::python::names(&base_dir.join(file)) {
            Ok(Some(names)) => PythonFacts::Defines(names),
            Ok(None) => return None,
            Err(error) => PythonFacts::Unreadable(error.to_string()),
        };
        Some((file.to_owned(), facts))
    });
    facts.collect()
}

/// The folder that the paths of a file are relative to.
pub fn base_dir(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
