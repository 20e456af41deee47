//! LoRA adapters: small changes of a model that are chosen item by item.
//!
//! An adapter is read from a folder in PEFT's format and stays beside the model: its product is
//! added to the model's own after each linear layer, so that the model stays one copy and the rows
//! of one batch can each have another adapter. Which adapters are in memory is not decided here.
//!
//! Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021; rank-stabilised
//! scaling after Kalajdzievski, 2023.

mod base;
mod config;
mod error;
mod file;
mod rows;

pub use base::{Base, Linear};
pub use error::AdapterError;
pub use rows::AdapterRows;

use crate::{NodeError, ops::LowRank};
use candle_core::Tensor;
use std::{collections::HashMap, path::Path, sync::Arc};

/// An adapter in memory, fitted to one model.
#[derive(Debug)]
pub struct Adapter {
    id: u64,
    name: Arc<str>,
    loras: HashMap<String, LowRank>,
    saved: HashMap<String, Tensor>,
    bytes: usize,
}

impl Adapter {
    /// Reads `adapter_config.json` and `adapter_model.safetensors` of `folder` and fits them to `base`.
    ///
    /// # Errors
    /// A file that is missing, damaged or of a kind that is not supported, and an adapter that was
    /// made for another model.
    pub fn load(name: &str, folder: &Path, base: &Base) -> Result<Self, AdapterError> {
        file::load(name, folder, base)
    }

    /// A number that no other adapter of this process has, not even one of the same name: its files may
    /// have changed in between.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name it was loaded under.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it adds to a linear layer, by the layer's path in [`Base::linears`].
    pub fn lora(&self, path: &str) -> Option<&LowRank> {
        self.loras.get(path)
    }

    /// A tensor that takes the place of the model's, by its name in [`Base::replaceable`].
    pub fn saved(&self, name: &str) -> Option<&Tensor> {
        self.saved.get(name)
    }

    /// The memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Where a model finds the adapters that items name.
pub trait Adapters: Send + Sync {
    /// The adapter of this name, loaded if need be; this may block.
    ///
    /// # Errors
    /// [`NodeError::NotFound`] if there is none of this name, and why it cannot be loaded otherwise.
    fn get(&self, name: &str) -> Result<Arc<Adapter>, NodeError>;

    /// Whether [`Adapters::get`] answers at once, be it with an error; where it would not, loading
    /// begins if there is room for it. Nothing waits for the answer.
    fn is_loaded(&self, _name: &str) -> bool {
        true
    }
}

/// For a model without adapters: every name is unknown.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAdapters;

impl Adapters for NoAdapters {
    fn get(&self, name: &str) -> Result<Arc<Adapter>, NodeError> {
        Err(NodeError::NotFound {
            what: "adapter",
            name: name.to_owned(),
        })
    }
}
