//! Which rows of a packed batch take which adapter.

use super::{Adapter, Lora, apply};
use candle_core::{Result, Tensor};
use smallvec::SmallVec;
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
        self.0.iter().any(|(_, adapter)| adapter.lora(path).is_some())
    }

    /// What is added to the linear layer `path`, by rows.
    pub fn at(&self, path: &str) -> SmallVec<[(Range<usize>, &Lora); 8]> {
        let given = |(rows, adapter): &'_ (Range<usize>, Arc<Adapter>)| {
            Some((rows.clone(), adapter.lora(path)?))
        };
        self.0.iter().filter_map(given).collect()
    }

    /// Adds what the adapters add to the linear layer `path`: `x` is what the layer read, `y` what it
    /// gave, its outputs beginning at `column` (layers that are computed together share one `y`).
    ///
    /// # Errors
    /// Tensors that do not fit.
    pub fn apply(&self, path: &str, y: &Tensor, column: usize, x: &Tensor) -> Result<()> {
        let groups = self.at(path);
        if groups.is_empty() {
            return Ok(());
        }
        apply(y, column, x, &groups)
    }
}
