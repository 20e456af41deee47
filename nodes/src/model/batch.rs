//! How a batch of texts is divided and laid out: rows of all texts one after the other, without
//! padding, in chunks that fit the caches and the threads.

use super::Tokens;
use crate::{
    adapter::{Adapter, AdapterRows},
    compute,
    ops::has_kernels,
};
use candle_core::{Device, Result};
use std::{cmp::Reverse, sync::Arc};

/// Texts are read together up to about this many tokens: enough rows for the products to be worth
/// it, and few enough for what lies between two layers to stay in the caches.
const CHUNK_TOKENS: usize = 1024;

/// In a text of so many tokens, attention costs as much as all else: about right for the encoders
/// that there are, and enough to tell which of two texts takes longer.
const ATTENTION_TOKENS: usize = 1500;

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
    let lengths: Vec<usize> = texts.iter().map(|text| text.tokens.ids.len()).collect();
    let mut chunks = match has_kernels(device) {
        true => chunks(&lengths, compute::current_threads(), CHUNK_TOKENS),
        false => chunks(&lengths, 1, DEVICE_CHUNK_TOKENS),
    };
    for chunk in &mut chunks {
        chunk.sort_by_key(|index| pointer(adapter(*index)));
    }
    let results = compute::map(chunks.len(), |index| {
        let chunk = &chunks[index];
        let adapters: Vec<_> = chunk.iter().map(|index| adapter(*index)).collect();
        read(&pack(chunk.iter().map(|index| &texts[*index])), &adapters)
    });
    let mut read: Vec<(usize, T)> = Vec::with_capacity(texts.len());
    for (chunk, result) in chunks.into_iter().zip(results) {
        read.extend(chunk.into_iter().zip(result?));
    }
    read.sort_by_key(|(index, _)| *index);
    Ok(read.into_iter().map(|(_, result)| result).collect())
}

/// Divides texts of these lengths into chunks of equal work, as large as is good for the caches and as
/// many for each thread as for the others. Each is read by one thread, without waiting for the others
/// between the layers. A batch that is too small for that, or of texts too unequal, stays whole: its
/// products are divided among the threads instead.
///
/// The longest text goes first, each into the chunk that has least to do (Graham 1969, *Bounds on
/// multiprocessing timing anomalies*).
fn chunks(lengths: &[usize], threads: usize, most: usize) -> Vec<Vec<usize>> {
    let total: usize = lengths.iter().sum();
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    if total < MIN_CHUNK_TOKENS * threads {
        return vec![order];
    }
    let rounds = total.div_ceil(most * threads);
    order.sort_by_key(|index| Reverse(lengths[*index]));
    let mut chunks = vec![(0, Vec::new()); rounds * threads];
    for index in order {
        if let Some((work, texts)) = chunks.iter_mut().min_by_key(|(work, _)| *work) {
            *work += work_of(lengths[index]);
            texts.push(index);
        }
    }
    let all: usize = chunks.iter().map(|(work, _)| work).sum();
    let largest = chunks.iter().map(|(work, _)| *work).max();
    if rounds == 1 && largest > Some(all / threads + all / 6) {
        return vec![(0..lengths.len()).collect()];
    }
    let read = chunks.into_iter().map(|(_, texts)| texts);
    read.filter(|texts| !texts.is_empty()).collect()
}

/// What a text costs beside others, in tokens: with attention, which each token pays to each.
fn work_of(length: usize) -> usize {
    length + length * length / ATTENTION_TOKENS
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
            let chunks = chunks(lengths, threads, CHUNK_TOKENS);
            chunks.into_iter().map(|chunk| chunk.len()).collect()
        };
        assert_eq!(of(&[0], 2), [1]);
        assert_eq!(of(&[12, 20], 2), [2]);
        assert_eq!(of(&[100, 50, 90, 60], 2), [2, 2]);
        assert_eq!(of(&[500, 20], 2), [2]);
        assert_eq!(of(&[5000], 1), [1]);
        assert_eq!(of(&[512; 6], 1), [2, 2, 2]);
    }

    #[test]
    fn threads_have_equal_work_whatever_the_lengths() {
        let mixed: Vec<usize> = (1..=32).map(|length| 8 * length).collect();
        let short: Vec<usize> = (0..32).map(|index| 8 + index % 5).collect();
        for lengths in [mixed, short] {
            let chunks = chunks(&lengths, 2, CHUNK_TOKENS);
            let work = |chunk: &Vec<usize>| -> usize {
                chunk.iter().map(|index| work_of(lengths[*index])).sum()
            };
            let work: Vec<usize> = chunks.iter().map(work).collect();
            let (least, most) = (work.iter().min().unwrap(), work.iter().max().unwrap());
            assert!(most - least <= most / 30, "{work:?}");
            assert!(chunks.len().is_multiple_of(2));
        }
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_chunk_and_chunks_are_bounded(
            lengths in prop::collection::vec(0usize..600, 0..80),
            threads in 1usize..9,
        ) {
            let chunks = chunks(&lengths, threads, CHUNK_TOKENS);
            let mut covered: Vec<usize> = chunks.iter().flatten().copied().collect();
            covered.sort_unstable();
            prop_assert_eq!(covered, (0..lengths.len()).collect::<Vec<_>>());
            // A batch of one round may stay whole.
            let total: usize = lengths.iter().sum();
            let whole = if total <= CHUNK_TOKENS * threads { total } else { 0 };
            let longest = lengths.iter().copied().max().unwrap_or(0);
            for chunk in chunks {
                let tokens: usize = chunk.iter().map(|index| lengths[*index]).sum();
                // Work is bounded, which is up to two fifths more than tokens are.
                let bound = (CHUNK_TOKENS + longest) * 7 / 5 + longest;
                prop_assert!(tokens <= bound.max(whole));
            }
        }
    }
}
