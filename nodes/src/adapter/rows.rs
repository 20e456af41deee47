//! Which rows of a packed batch take which adapter.

use super::Adapter;
use crate::ops::add_low_rank;
use candle_core::{Result, Tensor};
use std::{ops::Range, sync::Arc};

/// Which rows of a packed batch take which adapter; the others are the model's own.
#[derive(Debug, Clone, Default)]
pub struct AdapterRows(Vec<(Range<usize>, Arc<Adapter>)>);

impl AdapterRows {
    /// Gives the rows that follow those before to an adapter. Neighbours with the same one are joined,
    /// because many rows at once cost less.
    pub fn push(&mut self, rows: Range<usize>, adapter: &Arc<Adapter>) {
        match self.0.last_mut() {
            Some((last, same)) if last.end == rows.start && Arc::ptr_eq(same, adapter) => {
                last.end = rows.end;
            }
            _ => self.0.push((rows, Arc::clone(adapter))),
        }
    }

    /// Whether no row has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some row's adapter adds to the linear layer `path`.
    pub fn touch(&self, path: &str) -> bool {
        self.0
            .iter()
            .any(|(_, adapter)| adapter.lora(path).is_some())
    }

    /// Adds to `y` what the adapters of its rows add to the linear layer `path`: `x` is what the layer
    /// read, `y` what it gave, its outputs beginning at the column `first` (layers that are computed
    /// together share one `y`).
    ///
    /// # Errors
    /// Tensors that do not fit.
    pub fn add(&self, path: &str, y: Tensor, first: usize, x: &Tensor) -> Result<Tensor> {
        let mut rows = Vec::new();
        for (range, adapter) in &self.0 {
            if let Some(lora) = adapter.lora(path) {
                rows.resize(y.dim(0)?, None);
                match rows.get_mut(range.clone()) {
                    Some(rows) => rows.fill(Some(lora)),
                    None => candle_core::bail!("rows {range:?} of {:?}", y.shape()),
                }
            }
        }
        if rows.is_empty() {
            return Ok(y);
        }
        add_low_rank(&y, first, x, &rows)
    }
}
