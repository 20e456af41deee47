//! How a batch of texts is divided and laid out: rows of all texts one after the other, without
//! padding, in chunks that fit the caches and the threads.

use super::Tokens;
use crate::{
    adapter::{Adapter, AdapterRows},
    compute,
    ops::has_kernels,
};
use candle_core::{Device, Result};
use std::{
    iter,
    ops::Range,
    sync::{Arc, OnceLock},
};

/// Texts are read together up to about this many tokens: enough rows for the products to be worth
/// it, and few enough for what lies between two layers to stay in the caches.
const CHUNK_TOKENS: usize = 1024;

/// The same on a device, which is to have much to do at once. What lies between two layers takes some
/// 20 KiB a token.
const DEVICE_CHUNK_TOKENS: usize = 32 * 1024;

/// Fewer tokens than these are not worth a thread of their own.
const MIN_CHUNK_TOKENS: usize = 64;

/// A text to be read, with the adapter that is to be used.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// What is read.
    pub tokens: Tokens,
    /// The bare model if absent.
    pub adapter: Option<Arc<Adapter>>,
}

/// Texts to be read together.
pub(super) struct Packed<'a> {
    pub(super) texts: Vec<&'a Tokens>,
    /// The first row of each text, and the number of rows.
    pub(super) offsets: Vec<usize>,
    /// The adapters of rows.
    pub(super) adapters: AdapterRows,
    /// The adapters of texts, where there is one row for each.
    pub(super) text_adapters: AdapterRows,
}

/// Gives texts to `read` in chunks, those with the same adapter beside each other, and puts what it
/// gives back into the order of the texts.
pub(super) fn in_chunks<T: Send + Sync>(
    texts: &[Sequence],
    device: &Device,
    read: impl Fn(&Packed<'_>, &[Option<&Arc<Adapter>>]) -> Result<Vec<T>> + Sync,
) -> Result<Vec<T>> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let adapter = |index: usize| texts[index].adapter.as_ref();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|index| pointer(adapter(*index)));
    let lengths = order.iter().map(|index| texts[*index].tokens.ids.len());
    let chunks = match has_kernels(device) {
        true => chunks(lengths, compute::current_threads(), CHUNK_TOKENS),
        false => chunks(lengths, 1, DEVICE_CHUNK_TOKENS),
    };
    let results: Vec<OnceLock<Result<Vec<T>>>> = chunks.iter().map(|_| OnceLock::new()).collect();
    compute::parallel(chunks.len(), |range| {
        for (chunk, result) in chunks[range.clone()].iter().zip(&results[range]) {
            let chunk = &order[chunk.clone()];
            let adapters: Vec<_> = chunk.iter().map(|index| adapter(*index)).collect();
            let packed = pack(chunk.iter().map(|index| &texts[*index]));
            result.get_or_init(|| read(&packed, &adapters));
        }
    });
    let mut read: Vec<(usize, T)> = Vec::with_capacity(texts.len());
    for (chunk, result) in chunks.into_iter().zip(results) {
        let Some(result) = result.into_inner() else {
            candle_core::bail!("a part of the batch was not read");
        };
        read.extend(order[chunk].iter().copied().zip(result?));
    }
    read.sort_by_key(|(index, _)| *index);
    Ok(read.into_iter().map(|(_, result)| result).collect())
}

/// Divides texts of these lengths into chunks of about equal size, which are as large as is good
/// for the caches. Each is read by one thread, without waiting for the others between the layers. A
/// batch that is too small for that, or of texts too unequal, stays whole: its products are divided
/// among the threads instead.
fn chunks(
    lengths: impl Iterator<Item = usize> + Clone,
    threads: usize,
    most: usize,
) -> Vec<Range<usize>> {
    let total: usize = lengths.clone().sum();
    let whole = || iter::once(0..lengths.clone().count()).collect();
    if total < MIN_CHUNK_TOKENS * threads {
        return whole();
    }
    let rounds = total.div_ceil(most * threads);
    let mut chunks: Vec<Chunk> = Vec::with_capacity(rounds * threads);
    let mut start = 0;
    for (index, length) in lengths.clone().enumerate() {
        // A text belongs where its middle lies.
        let part = (2 * start + length) * rounds * threads / (2 * total);
        start += length;
        match chunks.last_mut() {
            Some(chunk) if chunk.part == part => {
                chunk.texts.end = index + 1;
                chunk.tokens += length;
            }
            _ => chunks.push(Chunk {
                part,
                texts: index..index + 1,
                tokens: length,
            }),
        }
    }
    let largest = chunks.iter().map(|chunk| chunk.tokens).max();
    if rounds == 1 && largest > Some(total / threads + total / 6) {
        return whole();
    }
    chunks.into_iter().map(|chunk| chunk.texts).collect()
}

/// Texts whose middle lies in the same part of the batch.
struct Chunk {
    part: usize,
    texts: Range<usize>,
    tokens: usize,
}

fn pack<'a>(sequences: impl Iterator<Item = &'a Sequence>) -> Packed<'a> {
    let mut packed = Packed {
        texts: Vec::new(),
        offsets: vec![0],
        adapters: AdapterRows::default(),
        text_adapters: AdapterRows::default(),
    };
    let mut start = 0;
    for sequence in sequences {
        let (text, end) = (packed.texts.len(), start + sequence.tokens.ids.len());
        packed.texts.push(&sequence.tokens);
        packed.offsets.push(end);
        if let Some(adapter) = &sequence.adapter {
            packed.adapters.push(start..end, adapter);
            packed.text_adapters.push(text..text + 1, adapter);
        }
        start = end;
    }
    packed
}

pub(super) fn pointer(adapter: Option<&Arc<Adapter>>) -> *const Adapter {
    adapter.map_or(std::ptr::null(), Arc::as_ptr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_batches_stay_whole_and_large_ones_are_divided() {
        // The number of texts in each chunk.
        let of = |lengths: &[usize], threads| -> Vec<usize> {
            let chunks = chunks(lengths.iter().copied(), threads, CHUNK_TOKENS);
            chunks.into_iter().map(|chunk| chunk.len()).collect()
        };
        assert_eq!(of(&[0], 2), [1]);
        assert_eq!(of(&[12, 20], 2), [2]);
        assert_eq!(of(&[100, 50, 90, 60], 2), [2, 2]);
        assert_eq!(of(&[500, 20], 2), [2]);
        assert_eq!(of(&[5000], 1), [1]);
        assert_eq!(of(&[512; 6], 1), [2, 2, 2]);
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_chunk_and_chunks_are_bounded(
            lengths in prop::collection::vec(0usize..600, 0..80),
            threads in 1usize..9,
        ) {
            let chunks = chunks(lengths.iter().copied(), threads, CHUNK_TOKENS);
            let covered: Vec<usize> = chunks.iter().cloned().flatten().collect();
            prop_assert_eq!(covered, (0..lengths.len()).collect::<Vec<_>>());
            // A batch of one round may stay whole.
            let total: usize = lengths.iter().sum();
            let whole = if total <= CHUNK_TOKENS * threads { total } else { 0 };
            let longest = lengths.iter().copied().max().unwrap_or(0);
            for chunk in chunks {
                let tokens: usize = lengths[chunk].iter().sum();
                prop_assert!(tokens <= (CHUNK_TOKENS + longest).max(whole));
            }
        }
    }
}
