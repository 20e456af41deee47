//! What is known on this machine about what a file declares, for the check.

use graphs::{Facts, IndexFacts, ModelFacts};
use nodes::index::Index;
use schema::{Document, IndexBackend};
use std::path::{Path, PathBuf};

/// Looks at models in their cache and at indexes on disk, without fetching or loading anything.
/// Paths are relative to the folder of `file`.
pub fn gather(file: &Path) -> impl FnOnce(&Document) -> Facts {
    let base_dir = base_dir(file);
    move |document| {
        let models = document.models.iter().filter_map(|model| {
            let facts = ModelFacts {
                dimensions: nodes::local_dimensions(model, &base_dir),
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
            machine: Some(crate::load::machine()),
        }
    }
}

/// The folder that the paths of a file are relative to.
pub fn base_dir(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
