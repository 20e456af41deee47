//! The head of a sequence classifier with one label: a score from a text's first row.

use super::{
    Weights, WeightsError,
    config::Config,
    dense::{Dense, LoadResult, Loader},
    family::{Family, HeadPaths},
};
use crate::{
    adapter::{Adapter, AdapterRows, Base, Linear},
    ops::{self, Then, WeightType},
};
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// A dense layer, tanh, and a row of weights; each in the model, in an adapter, or nowhere.
#[derive(Debug)]
pub(super) struct Head {
    paths: HeadPaths,
    dense: Option<Dense>,
    out: Option<ops::Linear>,
    labels: Option<usize>,
}

impl Head {
    pub(super) fn load(config: &Config, family: Family, from: Loader<'_>) -> LoadResult<Self> {
        let paths = family.head();
        let hidden = config.hidden_size;
        // The head is small and what it gives is ranked: it is never quantised.
        let whole = Loader {
            kind: WeightType::F32,
            ..from
        };
        let bare = Loader {
            prefix: "",
            ..whole
        };
        let labels = labels(from.weights, paths.out);
        let out = match labels {
            Some(1) => Some(ops::Linear::new(
                &bare.tensor(&format!("{}.weight", paths.out), &[1, hidden])?,
                Some(&bare.tensor(&format!("{}.bias", paths.out), &[1])?),
                WeightType::F32,
            )?),
            _ => None,
        };
        let dense = if paths.dense_is_encoders { whole } else { bare };
        Ok(Self {
            paths,
            dense: if_there(dense.dense(paths.dense, hidden, hidden))?,
            out,
            labels,
        })
    }

    /// What adapters may add to and bring along.
    pub(super) fn adaptable(config: &Config, family: Family, base: &mut Base) {
        let (paths, hidden) = (family.head(), config.hidden_size);
        let linear = Linear {
            outputs: hidden,
            inputs: hidden,
        };
        base.linears.insert(paths.dense.to_owned(), linear);
        for (path, outputs) in [(paths.dense, hidden), (paths.out, 1)] {
            base.replaceable
                .insert(format!("{path}.weight"), vec![outputs, hidden]);
            base.replaceable
                .insert(format!("{path}.bias"), vec![outputs]);
        }
    }

    /// Why texts cannot be scored with this adapter, or without one.
    pub(super) fn problem(&self, adapter: Option<&Adapter>) -> Option<String> {
        let brings = |path: &str| adapter.is_some_and(|a| a.saved(&weight(path)).is_some());
        if self.dense.is_none() && !brings(self.paths.dense) {
            return Some(format!(
                "the model has no {:?} and cannot score texts",
                self.paths.dense
            ));
        }
        if self.out.is_some() || brings(self.paths.out) {
            return None;
        }
        Some(match (self.labels, adapter) {
            (Some(labels), _) => {
                format!("the model sorts texts under {labels} labels and gives no single score")
            }
            (None, None) => "the model has no classifier; an adapter must bring one".to_owned(),
            (None, Some(adapter)) => format!(
                "neither the model nor the adapter {:?} has a classifier",
                adapter.name()
            ),
        })
    }

    /// Scores first rows (`[texts, hidden]`), all of which take the same adapter.
    pub(super) fn forward(&self, x: &Tensor, adapter: Option<&Arc<Adapter>>) -> Result<Vec<f32>> {
        let saved = |path: &str| saved(adapter, path);
        let mut rows = AdapterRows::default();
        if let Some(adapter) = adapter {
            rows.push(0..x.dim(0)?, adapter);
        }
        let dense = match (saved(self.paths.dense)?, &self.dense) {
            (Some(dense), _) => {
                let y = dense.forward(x, Then::Nothing)?;
                rows.add([(self.paths.dense, 0)], y, x)?
            }
            (None, Some(dense)) => dense.forward(x, None, &rows)?,
            (None, None) => candle_core::bail!("the model has no {:?}", self.paths.dense),
        };
        let dense = dense.tanh()?;
        let scores = match (saved(self.paths.out)?, &self.out) {
            (Some(out), _) => out.forward(&dense, Then::Nothing)?,
            (None, Some(out)) => out.forward(&dense, Then::Nothing)?,
            (None, None) => candle_core::bail!("the model has no {:?}", self.paths.out),
        };
        scores.flatten_all()?.to_vec1()
    }
}

/// The layer that an adapter brings in place of the model's.
fn saved(adapter: Option<&Arc<Adapter>>, path: &str) -> Result<Option<ops::Linear>> {
    let tensor = |name: String| adapter.and_then(|adapter| adapter.saved(&name));
    let Some(weight) = tensor(weight(path)) else {
        return Ok(None);
    };
    let bias = tensor(format!("{path}.bias"));
    ops::Linear::new(weight, bias, WeightType::F32).map(Some)
}

fn weight(path: &str) -> String {
    format!("{path}.weight")
}

fn labels(weights: &Weights, out: &str) -> Option<usize> {
    weights.shape(&weight(out))?.first().copied()
}

fn if_there<T>(loaded: LoadResult<T>) -> LoadResult<Option<T>> {
    match loaded {
        Err(super::LoadError::Weights(WeightsError::Missing { .. })) => Ok(None),
        other => other.map(Some),
    }
}
