//! What is known of the world when a file is checked. The engine gathers it; the check only reads.

use schema::Name;
use std::collections::{BTreeSet, HashMap};

/// What is known of models, indexes and the machine. What is absent is unknown, and whatever
/// depends on it is checked when the graph is loaded.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Models of which something is on this machine already.
    pub models: HashMap<Name, ModelFacts>,
    /// Indexes that exist already.
    pub indexes: HashMap<Name, IndexFacts>,
    /// Files of Python nodes, by their path as written.
    pub python: HashMap<String, PythonFacts>,
    /// The machine that the graph is to run on.
    pub machine: Option<Machine>,
    /// What lies under the names of the file. The check does not look at it; it is kept with the
    /// program, so that two programs can be told apart that are declared the same.
    pub content: Content,
}

/// Digests of what lies on the disk under what a file names. What is absent is not known, and is
/// never a difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Of the files of models that are on this machine by declaration (`file:`).
    pub models: HashMap<Name, u64>,
    /// Of the files that Python nodes name, by their path as written.
    pub files: HashMap<String, u64>,
}

/// What a model's own files say.
#[derive(Debug, Clone, Default)]
pub struct ModelFacts {
    /// Size of the vectors that it embeds to.
    pub dimensions: Option<usize>,
    /// The names of the adapters in its folder, if that could be read.
    pub adapters: Option<Vec<String>>,
}

/// What an index says of itself.
#[derive(Debug, Clone, Default)]
pub struct IndexFacts {
    /// Size of its vectors.
    pub dimensions: Option<usize>,
}

/// What is known of a Python file.
#[derive(Debug, Clone)]
pub enum PythonFacts {
    /// It cannot be read, with the reason.
    Unreadable(String),
    /// It defines these names and no others.
    Defines(BTreeSet<String>),
}

/// What a machine has.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Processor cores.
    pub cpus: f64,
    /// GPUs.
    pub gpus: f64,
    /// Bytes of memory.
    pub memory: u64,
}
