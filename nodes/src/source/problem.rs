//! Why a model could not be had.

use schema::{Text, place};
use std::{fmt, io, path::Path};

/// No source of a model worked: what each of them said, in their order.
#[derive(Debug, thiserror::Error)]
pub struct SourceError {
    /// The sources that were tried; empty if the model has none.
    pub attempts: Vec<Attempt>,
}

/// A source that was tried in vain.
#[derive(Debug)]
pub struct Attempt {
    /// The source as written.
    pub uri: Text,
    /// What stood in the way.
    pub problem: Problem,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempts.as_slice() {
            [] => f.write_str("the model has no source"),
            [only] => write!(f, "{}: {}", only.uri, only.problem),
            several => {
                f.write_str("none of the model's sources works")?;
                for attempt in several {
                    write!(f, "; {}: {}", attempt.uri, attempt.problem)?;
                }
                Ok(())
            }
        }
    }
}

/// What stood in the way of one source.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The URI is not one.
    #[error(transparent)]
    Uri(#[from] place::Malformed),
    /// It cannot be what is asked for.
    #[error("{reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// It is not there.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// It is not in the cache, and nothing may be fetched.
    #[error("{what} is not in the cache, and the engine is offline")]
    Offline {
        /// What was looked for.
        what: String,
    },
    /// The server knows it and does not give it.
    #[error("access to {what} is refused ({status}): {help}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What may help.
        help: &'static str,
    },
    /// The server is out of reach, or stopped answering in the middle.
    #[error("{what} is out of reach: {reason}")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// What happened.
        reason: String,
    },
    /// It was exchanged on the server while it was being fetched.
    #[error("{what} changed while it was fetched")]
    Changed {
        /// What was being fetched.
        what: String,
    },
    /// The lock does not have it, and nothing but what the lock has may be used.
    #[error("{what} is not in the lock")]
    NotLocked {
        /// What was looked for.
        what: String,
    },
    /// It is not what the lock says.
    #[error("{file} {reason}")]
    Lock {
        /// The file, or the source.
        file: String,
        /// What is different, as the rest of a sentence.
        reason: String,
    },
    /// The content is not the expected one.
    #[error("{file} has the sha256 {found}, expected {expected}")]
    Digest {
        /// The file's name.
        file: String,
        /// The digest that was asked for, in hex.
        expected: String,
        /// The digest of what came, in hex.
        found: String,
    },
    /// The content cannot be what it says it is.
    #[error("{file} is a damaged or hostile file: {reason}")]
    Damaged {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is there, and it is not a model that can be taken.
    #[error("{what} {reason}")]
    Unsuitable {
        /// What was looked at.
        what: String,
        /// Why not, as the rest of a sentence.
        reason: String,
    },
    /// A program that fetches files failed.
    #[error("{program} failed: {reason}")]
    Program {
        /// The program.
        program: String,
        /// What it said.
        reason: String,
    },
    /// The disk did not do what was asked of it.
    #[error("failed to {doing}: {source}")]
    Disk {
        /// What was asked.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Problem {
    /// Wraps an error of the disk with what was being done to a path: `read`, `write`, `rename`.
    pub(crate) fn disk(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Problem::Disk { doing, source }
    }

    pub(super) fn damaged(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Problem::Damaged {
            file: file.into(),
            reason: reason.into(),
        }
    }

    pub(super) fn unsuitable(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Problem::Unsuitable {
            what: what.into(),
            reason: reason.into(),
        }
    }
}
