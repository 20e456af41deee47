//! Why an adapter cannot be used.

use crate::model::WeightsError;
use std::{io, path::PathBuf};

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A file of it cannot be read.
    #[error("failed to read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its configuration is not what PEFT writes.
    #[error("failed to parse {path}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Its tensors cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// It is of a kind that is not supported here.
    #[error("adapter {name:?} uses {setting}, which is not supported")]
    Unsupported {
        /// The adapter.
        name: String,
        /// The setting of its configuration.
        setting: String,
    },
    /// A setting has no meaning.
    #[error("adapter {name:?}: {setting} {problem}")]
    Setting {
        /// The adapter.
        name: String,
        /// The setting of its configuration.
        setting: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It changes something that the model does not have or does not let adapters change.
    #[error(
        "adapter {name:?} changes {module:?}, which the model does not have{}",
        made_for(base)
    )]
    UnknownModule {
        /// The adapter.
        name: String,
        /// The path in the adapter's file.
        module: String,
        /// The model that it was made for, as its configuration says.
        base: Option<String>,
    },
    /// A module that the configuration names has no tensors.
    #[error("adapter {name:?} names the target module {target:?} and has no tensors for it")]
    MissingModule {
        /// The adapter.
        name: String,
        /// The target as it is written.
        target: String,
    },
    /// A tensor does not fit the model: it was made for another one.
    #[error(
        "adapter {name:?} does not fit the model: {tensor:?} has the shape {have:?} where {want:?} is needed{}",
        made_for(base)
    )]
    Shape {
        /// The adapter.
        name: String,
        /// The tensor's name in the adapter's file.
        tensor: String,
        /// Its shape.
        have: Vec<usize>,
        /// The shape that fits.
        want: Vec<usize>,
        /// The model that it was made for, as its configuration says.
        base: Option<String>,
    },
    /// A tensor's rank is not the one that the configuration gives.
    #[error("adapter {name:?}: {tensor:?} has the rank {have} and the configuration says {want}")]
    Rank {
        /// The adapter.
        name: String,
        /// The tensor's name in the adapter's file.
        tensor: String,
        /// Its rank.
        have: usize,
        /// The configured rank.
        want: usize,
    },
    /// One of the two factors of a module is missing, or a module comes twice.
    #[error("adapter {name:?}: {tensor:?} {problem}")]
    Tensor {
        /// The adapter.
        name: String,
        /// The tensor's name in the adapter's file.
        tensor: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn made_for(base: &Option<String>) -> String {
    match base {
        Some(base) => format!("; it was made for {base:?}"),
        None => String::new(),
    }
}
