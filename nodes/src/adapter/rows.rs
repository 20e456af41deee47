//! Which rows of a packed batch take which adapter.

use super::Adapter;
use crate::ops::{LowRank, LowRankLayer, add_low_rank};
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

    /// Adds to `y` what the adapters of its rows add to linear layers that are computed together: `x` is what
    /// they read, `y` what they gave. Of each the path is named, and the column of its first output.
    ///
    /// # Errors
    /// Tensors that do not fit.
    pub fn add<'a>(
        &self,
        layers: impl IntoIterator<Item = (&'a str, usize)>,
        y: Tensor,
        x: &Tensor,
    ) -> Result<Tensor> {
        if self.0.is_empty() {
            return Ok(y);
        }
        let rows = y.dim(0)?;
        let mut changed = Vec::new();
        for (path, first) in layers {
            if let Some(adapters) = self.of(path, rows)? {
                changed.push(LowRankLayer { first, adapters });
            }
        }
        if changed.is_empty() {
            return Ok(y);
        }
        add_low_rank(&y, x, &changed)
    }

    /// The adapters of so many rows for a layer; none where no row has one.
    fn of(&self, path: &str, rows: usize) -> Result<Option<Vec<Option<&LowRank>>>> {
        let mut of_rows = None;
        for (range, adapter) in &self.0 {
            if let Some(lora) = adapter.lora(path) {
                let of_rows = of_rows.get_or_insert_with(|| vec![None; rows]);
                match of_rows.get_mut(range.clone()) {
                    Some(of_rows) => of_rows.fill(Some(lora)),
                    None => candle_core::bail!("adapters for {range:?} of {rows} rows"),
                }
            }
        }
        Ok(of_rows)
    }
}
