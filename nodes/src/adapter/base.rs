//! What a model lets adapters change.

use candle_core::Device;
use std::collections::BTreeMap;

/// The linear layers that an adapter may add to, and the tensors that it may replace.
#[derive(Debug, Clone)]
pub struct Base {
    /// What stands before the model's paths in files of other tools, such as `bert.` or `model.`.
    pub prefixes: Vec<&'static str>,
    /// Linear layers by path, such as `layers.3.self_attn.q_proj`.
    pub linears: BTreeMap<String, Linear>,
    /// Tensors that an adapter may bring along whole, such as `classifier.weight`, and their shapes.
    pub replaceable: BTreeMap<String, Vec<usize>>,
    /// Where it computes, and so where its adapters are brought.
    pub device: Device,
}

impl Default for Base {
    /// A model on the CPU without anything to change.
    fn default() -> Self {
        Self {
            prefixes: Vec::new(),
            linears: BTreeMap::new(),
            replaceable: BTreeMap::new(),
            device: Device::Cpu,
        }
    }
}

/// The size of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// Values that come out for a row.
    pub outputs: usize,
    /// Values that go in for a row.
    pub inputs: usize,
}

impl Base {
    /// The model's own spelling of a path or name in an adapter's file.
    pub(super) fn own_path<'a>(&self, path: &'a str) -> &'a str {
        let known =
            |path: &str| self.linears.contains_key(path) || self.replaceable.contains_key(path);
        if known(path) {
            return path;
        }
        let shorter = self
            .prefixes
            .iter()
            .filter_map(|prefix| path.strip_prefix(prefix));
        shorter.into_iter().find(|path| known(path)).unwrap_or(path)
    }
}
