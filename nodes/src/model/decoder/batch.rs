//! The rows that go through a decoder together: of several sequences, each at its own place.

use super::{
    kv_cache::{BLOCK, KvLayer, KvPool, KvWriter, Sequence},
    logits::Wanted,
};
use crate::{
    adapter::{Adapter, AdapterRows},
    ops::{CausalAttention, KvRow, PagedPlan, attention_causal},
};
use candle_core::{Device, Result, Storage, Tensor};
use std::sync::Arc;

/// The next tokens of one sequence.
#[derive(Debug)]
pub struct SequenceRows<'a> {
    /// What it has read so far; the rows come after that.
    pub sequence: &'a mut Sequence,
    /// The tokens to read: one while decoding, many while the prompt is read.
    pub tokens: &'a [u32],
    /// The adapter of these rows.
    pub adapter: Option<&'a Arc<Adapter>>,
    /// The logits that are wanted after the last of the tokens, and after each one before a guess.
    pub logits: Wanted,
    /// How many of the last tokens are guesses. They are read, but the sequence has them only once
    /// [`KvPool::advance`] says so; what is read next takes the place of the others.
    pub guessed: usize,
}

/// The rows of one step.
pub(super) struct Batch<'a> {
    pub(super) tokens: Vec<u32>,
    pub(super) positions: Vec<u32>,
    pub(super) adapters: AdapterRows,
    /// The rows whose logits are wanted.
    pub(super) wanted: Vec<u32>,
    /// For each of them how far from the largest logit others are wanted; none: all.
    pub(super) margins: Vec<Option<f32>>,
    sequences: Vec<&'a Sequence>,
    /// The sequence of each row.
    owners: Vec<usize>,
    /// What the rows see of a cache on a device, for each span; made by the first layer that asks.
    plans: [Option<PagedPlan>; 2],
    pool: &'a mut KvPool,
}

impl<'a> Batch<'a> {
    /// The sequences have room for their rows already.
    pub(super) fn new(pool: &'a mut KvPool, rows: &'a [SequenceRows<'_>]) -> Self {
        let mut batch = Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            adapters: AdapterRows::default(),
            wanted: Vec::new(),
            margins: Vec::new(),
            sequences: Vec::with_capacity(rows.len()),
            owners: Vec::new(),
            plans: [None, None],
            pool,
        };
        for rows in rows {
            batch.push(rows);
        }
        batch
    }

    fn push(&mut self, rows: &'a SequenceRows<'_>) {
        let (start, count) = (self.tokens.len(), rows.tokens.len());
        let first = rows.sequence.len() as u32;
        self.tokens.extend(rows.tokens);
        self.positions.extend(first..first + count as u32);
        self.owners.resize(start + count, self.sequences.len());
        self.sequences.push(rows.sequence);
        if let Some(adapter) = rows.adapter {
            self.adapters.push(start..start + count, adapter);
        }
        let margin = match rows.logits {
            Wanted::Nothing => return,
            Wanted::Within(margin) => Some(margin),
            Wanted::All => None,
        };
        if count > 0 {
            let (end, guessed) = (start + count, rows.guessed.min(count - 1));
            let wanted = (end - 1 - guessed..end).map(|row| row as u32);
            self.wanted.extend(wanted);
            self.margins.resize(self.wanted.len(), margin);
        }
    }

    /// Adds the rows' keys and values to the cache of a layer, and attends over it.
    pub(super) fn attend(
        &mut self,
        layer: usize,
        attention: &CausalAttention,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<Tensor> {
        let span = self.pool.span(layer);
        let rows: Vec<KvRow<'_>> = (self.owners.iter().zip(&self.positions))
            .map(|(&owner, &position)| KvRow {
                blocks: self.sequences[owner].list(span),
                position: position as usize,
            })
            .collect();
        match self.pool.layer(layer) {
            KvLayer::Host(mut writer) => {
                write(&mut writer, &rows, keys, values)?;
                attention_causal(queries, &rows, writer.view(), attention)
            }
            KvLayer::Device(layer) => {
                let Some([cached_keys, cached_values]) = layer.slabs() else {
                    candle_core::bail!("no room was made for the rows of a step");
                };
                let plan = match &mut self.plans[span as usize] {
                    Some(plan) => plan,
                    none => none.insert(PagedPlan::new(
                        &rows,
                        BLOCK,
                        attention.window,
                        keys.dim(1)?,
                        keys.device(),
                    )?),
                };
                plan.write(cached_keys, keys)?;
                plan.write(cached_values, values)?;
                plan.attend(queries, cached_keys, cached_values, attention)
            }
        }
    }
}

/// Some rows of `x`, in order.
pub(super) fn select(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    if rows.len() == x.dim(0)? {
        return Ok(x.clone());
    }
    x.index_select(&Tensor::new(rows, x.device())?, 0)
}

/// Writes each row's key and value to its place.
fn write(
    writer: &mut KvWriter<'_>,
    rows: &[KvRow<'_>],
    keys: &Tensor,
    values: &Tensor,
) -> Result<()> {
    with_rows(keys, |keys| {
        with_rows(values, |values| {
            for (row, (key, value)) in rows.iter().zip(keys.zip(values)) {
                writer.write(row.blocks, row.position, key, value);
            }
        })
    })?
}

/// Lets `read` see the rows of a matrix in main memory, which may be some columns of another.
fn with_rows<T>(
    matrix: &Tensor,
    read: impl FnOnce(&mut dyn Iterator<Item = &[f32]>) -> T,
) -> Result<T> {
    let (storage, layout) = matrix.storage_and_layout();
    match (&*storage, layout.dims(), layout.stride()) {
        (Storage::Cpu(storage), [_, width], [pitch, 1]) => {
            let values = &storage.as_slice::<f32>()?[layout.start_offset()..];
            Ok(read(
                &mut values.chunks((*pitch).max(1)).map(|row| &row[..*width]),
            ))
        }
        (_, dims, stride) => {
            candle_core::bail!("{dims:?}, {stride:?} apart, are no rows in main memory")
        }
    }
}

/// Lets `read` see the numbers of a tensor, without a copy if they lie in main memory and together.
pub(super) fn with_floats<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("a tensor that was moved to main memory is not there");
    };
    let start = layout.start_offset();
    Ok(read(
        &storage.as_slice::<f32>()?[start..start + layout.shape().elem_count()],
    ))
}
