//! What can go wrong with an index.

use crate::NodeError;
use std::{io, path::Path, path::PathBuf};

/// Why an index did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// There is no index in the folder.
    #[error("there is no index in {}", path.display())]
    Absent {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot take a new index.
    #[error("{} holds {what} already", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is in it.
        what: &'static str,
    },
    /// Another writer has it.
    #[error("index {} is being written by another writer; there can be one at a time", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Its files are not what was written.
    #[error("index {} is damaged: {reason}; build it again", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The query, the record or the manifest is at fault.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("failed to {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The text index failed.
    #[error("failed to {what}: {source}")]
    Text {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: tantivy::TantivyError,
    },
}

impl IndexError {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        IndexError::Invalid {
            reason: reason.into(),
        }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        IndexError::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// For `map_err`: reading or writing `path` failed while trying to `what` it.
    pub(super) fn io<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| IndexError::Io {
            what: format!("{what} {}", path.display()),
            source,
        }
    }

    /// For `map_err`: the text index failed while trying to `what`.
    pub(super) fn text(what: &'static str) -> impl FnOnce(tantivy::TantivyError) -> Self {
        move |source| IndexError::Text { what, source }
    }
}

impl From<IndexError> for NodeError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Invalid { reason } => NodeError::invalid(reason),
            error => NodeError::because("the index cannot be used", error),
        }
    }
}
