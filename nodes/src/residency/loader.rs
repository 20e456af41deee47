//! Where what is held comes from.

use crate::NodeError;
use std::path::Path;

/// Reads what is held. Its methods may block; they run on threads of their own.
pub trait Loader<T>: Send + Sync + 'static {
    /// The names that there are, in any order.
    ///
    /// # Errors
    /// They cannot be listed.
    fn names(&self) -> Result<Vec<String>, NodeError>;

    /// The stamp of what is there now under a name ([`Loaded::stamp`]).
    ///
    /// # Errors
    /// [`NodeError::NotFound`] if nothing is; what stands in the way otherwise.
    fn stamp(&self, name: &str) -> Result<String, NodeError>;

    /// Reads what is there under a name, which [`check_name`](super::check_name) has allowed.
    ///
    /// # Errors
    /// [`NodeError::NotFound`] if nothing is; what stands in the way otherwise.
    fn load(&self, name: &str) -> Result<Loaded<T>, NodeError>;

    /// Gives what lies at `path` a name until it is forgotten or the process ends.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] if what lies there may not be named so; a loader that is not made for
    /// it takes nothing.
    fn add(&self, _name: &str, _path: &Path) -> Result<(), NodeError> {
        Err(NodeError::invalid("nothing can be added here"))
    }

    /// Takes back a name that was given by [`Loader::add`].
    fn forget(&self, _name: &str) {}
}

/// What a loader brings.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// What is handed out.
    pub value: T,
    /// The memory that it takes.
    pub bytes: u64,
    /// Changes whenever its files may have changed; cheap to ask for again.
    pub stamp: String,
    /// Changes whenever what its files hold has changed.
    pub generation: String,
}
