//! From a folder in PEFT's format to an adapter that fits a model.

use super::{Adapter, AdapterError, Base, config::Config};
use crate::{model::Weights, ops::LowRank};
use candle_core::Tensor;
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Read,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Larger configurations are not what PEFT writes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// How PEFT names what it wraps.
const WRAPPER: &str = "base_model.model.";

pub(super) fn load(name: &str, folder: &Path, base: &Base) -> Result<Adapter, AdapterError> {
    let config = read_config(&folder.join("adapter_config.json"))?;
    // Read whole and not mapped: the folder may be written anew while the adapter is in use.
    let weights = Weights::read(&folder.join("adapter_model.safetensors"))?;
    Loading {
        name,
        config: &config,
        weights: &weights,
        base,
    }
    .adapter()
}

fn read_config(path: &Path) -> Result<Config, AdapterError> {
    let failed = |source| AdapterError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_CONFIG_BYTES)
        .read_to_end(&mut text)
        .map_err(failed)?;
    serde_json::from_slice(&text).map_err(|source| AdapterError::Config {
        path: path.to_owned(),
        source,
    })
}

struct Loading<'a> {
    name: &'a str,
    config: &'a Config,
    weights: &'a Weights,
    base: &'a Base,
}

/// The tensors of one module, by their names in the file.
#[derive(Default)]
struct Factors<'a> {
    a: Option<&'a str>,
    b: Option<&'a str>,
}

impl<'a> Loading<'a> {
    fn adapter(&self) -> Result<Adapter, AdapterError> {
        let (modules, whole) = self.sort()?;
        self.config
            .check_targets(self.name, modules.keys().copied())?;
        let scales = self.config.scales(self.name)?;
        let mut loras = HashMap::new();
        for (path, factors) in &modules {
            let own = self.base.own_path(path);
            let lora = self.lora(path, factors, scales.rank(path), scales.scale(path))?;
            if loras.insert(own.to_owned(), lora).is_some() {
                return Err(self.bad_tensor(path, "comes twice"));
            }
        }
        let mut saved = HashMap::new();
        for tensor in whole {
            let own = self.base.own_path(plain(tensor));
            if saved
                .insert(own.to_owned(), self.saved(tensor, own)?)
                .is_some()
            {
                return Err(self.bad_tensor(tensor, "comes twice"));
            }
        }
        let bytes = loras.values().map(LowRank::bytes).sum::<usize>()
            + saved
                .values()
                .map(|t: &Tensor| 4 * t.elem_count())
                .sum::<usize>();
        Ok(Adapter {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: Arc::from(self.name),
            loras,
            saved,
            bytes,
        })
    }

    /// Tells the factors of modules, by path, from tensors that are replaced whole.
    fn sort(&self) -> Result<(BTreeMap<&'a str, Factors<'a>>, Vec<&'a str>), AdapterError> {
        let mut modules = BTreeMap::<&str, Factors<'_>>::new();
        let mut whole = Vec::new();
        for tensor in self.weights.names() {
            let plain = plain(tensor);
            let (path, is_a) = if let Some(path) = plain.strip_suffix(".lora_A.weight") {
                (path, true)
            } else if let Some(path) = plain.strip_suffix(".lora_B.weight") {
                (path, false)
            } else if plain.contains(".lora_") {
                return Err(self.bad_tensor(tensor, "is not a tensor of LoRA"));
            } else {
                whole.push(tensor);
                continue;
            };
            let factors = modules.entry(path).or_default();
            let place = if is_a { &mut factors.a } else { &mut factors.b };
            if place.replace(tensor).is_some() {
                return Err(self.bad_tensor(tensor, "comes twice"));
            }
        }
        Ok((modules, whole))
    }

    fn lora(
        &self,
        path: &str,
        factors: &Factors<'_>,
        rank: usize,
        scale: f64,
    ) -> Result<LowRank, AdapterError> {
        let (Some(a), Some(b)) = (factors.a, factors.b) else {
            return Err(self.bad_tensor(path, "lacks one of lora_A and lora_B"));
        };
        let linear =
            (self.base.linears.get(self.base.own_path(path))).ok_or_else(|| self.unknown(path))?;
        for (tensor, dimension) in [(a, 0), (b, 1)] {
            match self.weights.shape(tensor) {
                Some(shape) if shape.len() == 2 && shape[dimension] != rank => {
                    return Err(AdapterError::Rank {
                        name: self.name.to_owned(),
                        tensor: tensor.to_owned(),
                        have: shape[dimension],
                        want: rank,
                    });
                }
                _ => {}
            }
        }
        let a = self.tensor(a, &[rank, linear.inputs])?;
        let b = self.tensor(b, &[linear.outputs, rank])?;
        LowRank::new(&a, &b, scale).map_err(|_| self.bad_tensor(path, "cannot be used"))
    }

    fn saved(&self, tensor: &str, own: &str) -> Result<Tensor, AdapterError> {
        let shape = (self.base.replaceable.get(own)).ok_or_else(|| self.unknown(tensor))?;
        self.tensor(tensor, shape)
    }

    fn tensor(&self, tensor: &str, shape: &[usize]) -> Result<Tensor, AdapterError> {
        if let Some(have) = self.weights.shape(tensor)
            && have != shape
        {
            return Err(AdapterError::Shape {
                name: self.name.to_owned(),
                tensor: tensor.to_owned(),
                have: have.to_vec(),
                want: shape.to_vec(),
                base: self.config.base.clone(),
            });
        }
        let values = self.weights.floats(tensor, shape)?;
        let made = Tensor::from_vec(values, shape, &self.base.device);
        made.map_err(|_| self.bad_tensor(tensor, "cannot be used"))
    }

    fn unknown(&self, module: &str) -> AdapterError {
        AdapterError::UnknownModule {
            name: self.name.to_owned(),
            module: module.to_owned(),
            base: self.config.base.clone(),
        }
    }

    fn bad_tensor(&self, tensor: &str, problem: &'static str) -> AdapterError {
        AdapterError::Tensor {
            name: self.name.to_owned(),
            tensor: tensor.to_owned(),
            problem,
        }
    }
}

/// The name without what PEFT puts before it.
fn plain(tensor: &str) -> &str {
    tensor.strip_prefix(WRAPPER).unwrap_or(tensor)
}
