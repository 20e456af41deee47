//! What the admin listener says of adapters, as JSON.

use nodes::residency::{Listed, State};
use serde::{Deserialize, Serialize};

/// The adapters of all models, or of those that were asked for.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The models that take adapters, in the order of the file.
    pub models: Vec<ModelAdapters>,
}

/// The adapters of one model.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelAdapters {
    /// The model's name.
    pub model: String,
    /// Memory of those that are held or still in use.
    pub bytes: u64,
    /// What is in memory, what was refused a moment ago and what there is else, by name.
    pub adapters: Vec<AdapterLine>,
}

/// One adapter.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AdapterLine {
    /// Its name.
    pub name: String,
    /// `loaded`, `lingering` (in use, and gone afterwards), `refused` (a moment ago) or `available`.
    pub state: String,
    /// The memory that it takes.
    pub bytes: u64,
    /// How many use it at the moment.
    pub leases: usize,
    /// Requests that found it.
    pub hits: u64,
    /// Whether it stays.
    pub pinned: bool,
    /// The digest of its files, if it is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What came of an order.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The model.
    pub model: String,
    /// The adapter.
    pub adapter: String,
    /// Whether there was something to do: false for an adapter that was not in memory or not pinned.
    pub changed: bool,
}

impl From<Listed> for AdapterLine {
    fn from(listed: Listed) -> Self {
        let (state, generation, reason) = match listed.state {
            State::Loaded { generation } => ("loaded", Some(generation), None),
            State::Lingering => ("lingering", None, None),
            State::Refused { reason } => ("refused", None, Some(reason)),
            State::Available => ("available", None, None),
        };
        Self {
            name: listed.name.to_string(),
            state: state.to_owned(),
            bytes: listed.bytes,
            leases: listed.leases,
            hits: listed.hits,
            pinned: listed.pinned,
            generation,
            reason,
        }
    }
}
