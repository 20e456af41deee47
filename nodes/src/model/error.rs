//! Why a model cannot be loaded.

use super::WeightsError;
use std::{io, path::PathBuf};

/// Why a model cannot be loaded from its folder.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("failed to read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("failed to parse {path}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The tokenizer cannot be used.
    #[error("failed to load the tokenizer {path}: {reason}", path = path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model is of a kind that is not built in.
    #[error("{path}: {what}", path = path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// What it asks for.
        what: String,
    },
    /// The tensors are not those of such a model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tensors cannot be brought to the device.
    #[error("failed to prepare the model")]
    Prepare(#[from] candle_core::Error),
}
