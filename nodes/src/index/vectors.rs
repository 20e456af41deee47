//! The vectors of a snapshot, in memory, and the search for the nearest of them.
//!
//! Below a size all values are held and every comparison is exact. Above it one byte a value is
//! held; a scan over these finds candidates, whose exact values are then read from the log. Chunks
//! never change once they are full, so that a snapshot shares them with the one before it.

use super::{IndexError, dot, log::LogReader, top::Top};
use std::sync::Arc;

/// Up to this many rows all values are held and compared exactly; above, bytes are scanned first.
///
/// Measured with `cargo bench -p nodes --bench index` (384 numbers, one thread): an exact scan of
/// 10,000 rows takes 0.7 ms and of 100,000 7.2 ms, where bytes take 0.4 ms and 1.9 ms. Up to here
/// (some 3.6 ms) exactness is worth its time and its memory, which is four times as much.
pub const EXACT_ROWS: usize = 50_000;

/// Rows of a chunk.
const CHUNK: usize = 1024;

/// How many candidates of a scan over bytes are compared exactly, for `keep` wanted.
fn candidates(keep: usize) -> usize {
    2 * keep + 100
}

/// The vectors of a snapshot.
#[derive(Debug)]
pub(super) struct Vectors {
    log: Arc<LogReader>,
    dimensions: usize,
    chunks: Vec<Arc<Chunk>>,
    rows: usize,
    exact: bool,
    exact_rows: usize,
}

/// Consecutive rows of the log.
#[derive(Debug, Default, Clone)]
struct Chunk {
    sequences: Vec<u64>,
    /// All values, or none where bytes are held.
    values: Vec<f32>,
    /// A byte for each value, or none where values are held.
    codes: Vec<i8>,
    /// What a row's bytes are multiplied with.
    scales: Vec<f32>,
}

/// Which rows a search looks at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Among<'a> {
    /// Those that are marked.
    Marked(&'a [bool]),
    /// These, in ascending order.
    Rows(&'a [u32]),
}

impl Vectors {
    /// Reads the first `length` bytes of a log. Above `exact_rows` rows, bytes are held.
    pub(super) fn load(
        log: LogReader,
        dimensions: usize,
        length: u64,
        exact_rows: usize,
    ) -> Result<Self, IndexError> {
        let none = Self {
            log: Arc::new(log),
            dimensions,
            chunks: Vec::new(),
            rows: 0,
            exact: true,
            exact_rows,
        };
        none.extended(length)
    }

    /// These vectors and those that were appended since; full chunks are shared.
    pub(super) fn extended(&self, length: u64) -> Result<Self, IndexError> {
        let rows = self.log.rows(length)?;
        if rows < self.rows {
            return Err(self.log.damaged("it became shorter"));
        }
        let exact = rows <= self.exact_rows;
        let mut chunks = self.chunks.clone();
        if self.exact && !exact {
            chunks = chunks.iter().map(|chunk| self.coded(chunk)).collect();
        }
        let mut next = self
            .last_sequence()
            .map_or(0, |last| last.saturating_add(1));
        let mut rises = true;
        self.log.read(self.rows, rows, |sequence, values| {
            rises &= sequence >= next;
            next = sequence.saturating_add(1);
            let full = chunks.last().is_none_or(|last| last.rows() == CHUNK);
            if full {
                chunks.push(Arc::default());
            }
            if let Some(last) = chunks.last_mut() {
                Arc::make_mut(last).push(sequence, values, exact);
            }
        })?;
        if !rises {
            return Err(self.log.damaged("its sequence numbers do not rise"));
        }
        Ok(Self {
            log: self.log.clone(),
            dimensions: self.dimensions,
            chunks,
            rows,
            exact,
            exact_rows: self.exact_rows,
        })
    }

    /// How many numbers a vector has.
    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How many rows there are, those of deleted documents included.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The highest sequence number.
    pub(super) fn last_sequence(&self) -> Option<u64> {
        self.chunks.last()?.sequences.last().copied()
    }

    /// The row with a sequence number.
    pub(super) fn row_of(&self, sequence: u64) -> Option<u32> {
        let after = |chunk: &Arc<Chunk>| chunk.sequences.first() <= Some(&sequence);
        let chunk = self.chunks.partition_point(after).checked_sub(1)?;
        let within = self.chunks[chunk].sequences.binary_search(&sequence).ok()?;
        Some((chunk * CHUNK + within) as u32)
    }

    /// Hands the marked rows' sequence numbers and exact vectors to `each`.
    pub(super) fn copy(
        &self,
        marked: &[bool],
        mut each: impl FnMut(u64, &[f32]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut row = 0;
        let mut result = Ok(());
        self.log.read(0, self.rows, |sequence, values| {
            if marked[row] && result.is_ok() {
                result = each(sequence, values);
            }
            row += 1;
        })?;
        result
    }

    /// The rows nearest to a unit vector, best first, with their cosines; ties of the last included.
    pub(super) fn nearest(
        &self,
        query: &[f32],
        among: Among<'_>,
        keep: usize,
    ) -> Result<Vec<(f32, u32)>, IndexError> {
        if self.exact {
            return Ok(self.nearest_by_values(query, among, keep));
        }
        let candidates = match among {
            Among::Rows(rows) if rows.len() <= candidates(keep) => rows.to_vec(),
            _ => self.nearest_by_codes(query, among, candidates(keep)),
        };
        let mut bytes = Vec::new();
        let mut values = vec![0.0; self.dimensions];
        let mut top = Top::new(keep);
        for row in candidates {
            self.log.vector(row as usize, &mut bytes, &mut values)?;
            top.push(dot::dot(query, &values), row);
        }
        Ok(top.into_vec())
    }

    fn nearest_by_values(&self, query: &[f32], among: Among<'_>, keep: usize) -> Vec<(f32, u32)> {
        match among {
            Among::Marked(marked) => self.scan(marked, keep, |chunk, scores| {
                let rows = chunk.values.chunks_exact(self.dimensions);
                dot::scan_f32(query, rows, scores);
            }),
            Among::Rows(rows) => {
                let mut scores = Vec::with_capacity(rows.len());
                let values = |row: &u32| self.chunk_of(*row).values(*row, self.dimensions);
                dot::scan_f32(query, rows.iter().map(values), &mut scores);
                best_of(&scores, rows, keep)
            }
        }
    }

    fn nearest_by_codes(&self, query: &[f32], among: Among<'_>, keep: usize) -> Vec<u32> {
        let mut code = Vec::with_capacity(query.len());
        // The query's own scale is the same for all rows, so the order does not need it.
        encode(query, &mut code);
        let best = match among {
            Among::Marked(marked) => self.scan(marked, keep, |chunk, scores| {
                let rows = chunk.codes.chunks_exact(self.dimensions);
                dot::scan_i8(&code, rows.zip(chunk.scales.iter().copied()), scores);
            }),
            Among::Rows(rows) => {
                let mut scores = Vec::with_capacity(rows.len());
                let codes = |row: &u32| self.chunk_of(*row).codes(*row, self.dimensions);
                dot::scan_i8(&code, rows.iter().map(codes), &mut scores);
                best_of(&scores, rows, keep)
            }
        };
        best.into_iter().map(|(_, row)| row).collect()
    }

    /// The best marked rows, by what `score` puts into its second argument for a chunk.
    fn scan(
        &self,
        marked: &[bool],
        keep: usize,
        score: impl Fn(&Chunk, &mut Vec<f32>),
    ) -> Vec<(f32, u32)> {
        let mut top = Top::new(keep);
        let mut scores = Vec::with_capacity(CHUNK);
        for (place, (chunk, marked)) in self.chunks.iter().zip(marked.chunks(CHUNK)).enumerate() {
            score(chunk, &mut scores);
            for (within, (score, marked)) in scores.iter().zip(marked).enumerate() {
                if *marked && *score >= top.threshold() {
                    top.push(*score, (place * CHUNK + within) as u32);
                }
            }
        }
        top.into_vec()
    }

    fn chunk_of(&self, row: u32) -> &Chunk {
        &self.chunks[row as usize / CHUNK]
    }

    fn coded(&self, chunk: &Chunk) -> Arc<Chunk> {
        let mut coded = Chunk::default();
        let vectors = chunk.values.chunks_exact(self.dimensions);
        for (sequence, values) in chunk.sequences.iter().zip(vectors) {
            coded.push(*sequence, values, false);
        }
        Arc::new(coded)
    }
}

impl Chunk {
    fn rows(&self) -> usize {
        self.sequences.len()
    }

    fn push(&mut self, sequence: u64, values: &[f32], exact: bool) {
        self.sequences.push(sequence);
        if exact {
            self.values.extend_from_slice(values);
        } else {
            let scale = encode(values, &mut self.codes);
            self.scales.push(scale);
        }
    }

    fn values(&self, row: u32, dimensions: usize) -> &[f32] {
        let within = row as usize % CHUNK;
        &self.values[within * dimensions..][..dimensions]
    }

    fn codes(&self, row: u32, dimensions: usize) -> (&[i8], f32) {
        let within = row as usize % CHUNK;
        let codes = &self.codes[within * dimensions..][..dimensions];
        (codes, self.scales[within])
    }
}

fn best_of(scores: &[f32], rows: &[u32], keep: usize) -> Vec<(f32, u32)> {
    let mut top = Top::new(keep);
    for (score, row) in scores.iter().zip(rows) {
        top.push(*score, *row);
    }
    top.into_vec()
}

/// Appends a vector's bytes and returns what they are to be multiplied with: its largest magnitude
/// becomes 127.
fn encode(values: &[f32], codes: &mut Vec<i8>) -> f32 {
    let largest = values
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    codes.extend(values.iter().map(|value| (value / scale).round() as i8));
    scale
}
