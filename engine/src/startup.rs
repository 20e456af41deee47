//! From a checked program to a running topology: models fetched, indexes built, pools started.

use crate::{
    metrics::Metrics,
    progress::Bars,
    topology::{StartError, Topology},
};
use graphs::Program;
use nodes::{
    NodeError, StandardCatalog,
    source::{Fetcher, Settings},
    store::Build,
};
use std::{path::Path, sync::Arc};

/// Why a program does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// It cannot be told whether an index is there.
    #[error("failed to look for index `{index}`")]
    Look {
        /// Its name.
        index: String,
        /// Why.
        #[source]
        source: NodeError,
    },
    /// An index could not be built.
    #[error("failed to build index `{index}`")]
    Index {
        /// Its name.
        index: String,
        /// Why.
        #[source]
        source: NodeError,
    },
    /// Nodes could not be started.
    #[error("{} could not be started", match .0.len() { 1 => "a node".to_owned(), n => format!("{n} nodes") })]
    Nodes(Vec<StartError>),
}

/// The fetcher of models for a file in `base_dir`.
pub fn fetcher(base_dir: &Path, offline: bool, bars: &Bars) -> Arc<Fetcher> {
    let mut settings = Settings::from_environment();
    base_dir.clone_into(&mut settings.base_dir);
    settings.offline |= offline;
    Arc::new(Fetcher::new(settings, Arc::new(bars.clone())))
}

/// Builds the indexes that are declared with their documents and are not there yet.
///
/// # Errors
/// The first index that cannot be built, or looked for.
pub async fn build_indexes(catalog: &StandardCatalog, bars: &Bars) -> Result<(), StartupError> {
    let missing = catalog.missing_indexes().await;
    let missing = missing.map_err(|(index, source)| StartupError::Look {
        index: index.to_string(),
        source,
    })?;
    for index in missing {
        let failed = |source| StartupError::Index {
            index: index.to_string(),
            source,
        };
        let bar = bars.count(index.as_str(), 0);
        let shown = bar.clone();
        let progress = move |done: usize, total: usize| {
            shown.set_length(total as u64);
            shown.set_position(done as u64);
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let built = catalog
            .fill(index.as_str(), &[], Build::default(), threads, progress)
            .await
            .map_err(failed)?;
        bar.finish_and_clear();
        tracing::info!(
            index = index.as_str(),
            documents = built.documents,
            "built index"
        );
    }
    Ok(())
}

/// Builds what is missing and starts every pool.
///
/// # Errors
/// What could not be built or started.
pub async fn start(
    generation: u64,
    program: Arc<Program>,
    catalog: Arc<StandardCatalog>,
    metrics: &Metrics,
    bars: &Bars,
) -> Result<Topology, StartupError> {
    build_indexes(&catalog, bars).await?;
    let started = Topology::start(generation, program, catalog, metrics).await;
    started.map_err(StartupError::Nodes)
}
