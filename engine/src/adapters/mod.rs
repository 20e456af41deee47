//! The adapters of a topology's models, for those who are not nodes: requests that look ahead, the
//! metrics, operators and the list of models.
//!
//! What is loaded and what goes is decided in `nodes::residency`; here it is reported and ordered.

mod admin;
mod series;
mod wire;

pub use admin::routes;
pub use series::Series;
pub use wire::{AdapterLine, Done, ModelAdapters, Report};

use graphs::Program;
use nodes::{Catalog, residency::AdapterStore};
use schema::Name;
use std::{fmt, sync::Arc};

/// The models of a program that take adapters, and where their adapters are.
pub struct Shelves {
    catalog: Arc<dyn Catalog>,
    models: Vec<Name>,
}

impl Shelves {
    /// Those of a program, whose models `catalog` has.
    pub fn new(program: &Program, catalog: Arc<dyn Catalog>) -> Self {
        let models = program.models().iter();
        let models = models.filter(|model| model.takes_adapters());
        Self {
            models: models.map(|model| model.id.value.clone()).collect(),
            catalog,
        }
    }

    /// The adapters over a model; none if it takes none, or is not loaded.
    pub fn get(&self, model: &str) -> Option<Arc<dyn AdapterStore>> {
        self.catalog.adapters(model)
    }

    /// The models that take adapters, in the order of the file.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(Name::as_str)
    }

    /// The models that are loaded, with their adapters.
    pub fn loaded(&self) -> impl Iterator<Item = (&str, Arc<dyn AdapterStore>)> {
        self.models()
            .filter_map(|model| Some((model, self.get(model)?)))
    }
}

impl fmt::Debug for Shelves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.models()).finish()
    }
}
