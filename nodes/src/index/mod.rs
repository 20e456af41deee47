//! The embedded index: documents with text, metadata and vectors in a folder on this machine.
//!
//! The text index (tantivy) holds ids, texts, metadata and words; a log of our own holds the
//! vectors. A commit brings the log to the disk first and then the text index, whose commit names
//! the length of the log that it knows: whatever was appended behind that length was never
//! committed and is cut off by the next writer. So the text index decides alone what exists, and a
//! process that dies at any moment leaves the state of its last commit.
//!
//! Searches read a snapshot that never changes; a commit publishes the next
//! one. There is one writer at a time, and any number of readers in any number of processes.
//!
//! The index does not embed, and knows nothing of other places where documents are kept: those are
//! stores, of which it is one.

mod documents;
mod dot;
mod error;
mod files;
mod filter;
pub(crate) mod fusion;
pub(crate) mod json;
mod json_lines;
mod log;
mod manifest;
mod passages;
pub(crate) mod record;
mod snapshot;
pub(crate) mod text;
mod top;
mod vectors;
mod writer;

pub use crate::Filter;
pub use documents::{Documents, Reading, documents};
pub use error::IndexError;
pub use json_lines::json_lines;
pub use manifest::{EmbeddedBy, Manifest};
pub use passages::{Passage, passages};
pub use record::Record;
pub use vectors::EXACT_ROWS;
pub use writer::{Stats, Writer};

use crate::Document;
use arc_swap::ArcSwap;
use files::{Files, State};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Most documents that one search returns.
pub const MOST_RESULTS: usize = 1000;

/// An index that is open for searching. Clones share it.
#[derive(Clone)]
pub struct Index {
    shared: Arc<Shared>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<'a> {
    /// Neighbours of this vector. Alone, documents score their cosine, -1 to 1.
    pub vector: Option<&'a [f32]>,
    /// Documents with any of these words. Alone, documents score by BM25, above 0. With a vector
    /// too, both sides are joined by reciprocal rank fusion, and documents score at most 2/61.
    pub text: Option<&'a str>,
    /// How many documents at most: 1 to [`MOST_RESULTS`].
    pub top_k: usize,
    /// Only documents that satisfy this.
    pub filter: Option<&'a Filter>,
}

/// What an index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Size of its vectors; none if it is searched by words alone.
    pub dimensions: Option<usize>,
    /// How many documents.
    pub documents: u64,
    /// Size of its files.
    pub bytes: u64,
}

struct Shared {
    files: Files,
    state: ArcSwap<State>,
    /// Held while the next state is put together; searches do not wait for it.
    refreshing: Mutex<()>,
}

impl Index {
    /// Makes an index in a folder that is absent or empty, and opens it.
    ///
    /// # Errors
    /// [`IndexError::Occupied`] where something is there already.
    pub fn create(path: &Path, manifest: &Manifest) -> Result<Self, IndexError> {
        Files::create(path, manifest, false)?;
        Self::open(path)
    }

    /// The same, and it is [to be filled](Self::is_to_be_filled) until it is [filled](Self::filled).
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn create_to_fill(path: &Path, manifest: &Manifest) -> Result<Self, IndexError> {
        Files::create(path, manifest, true)?;
        Self::open(path)
    }

    /// Opens the index in a folder. All files are read once and their checksums compared.
    ///
    /// # Errors
    /// [`IndexError::Absent`] where there is none, [`IndexError::Damaged`] where files are not what
    /// was written.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        Self::open_exact_to(path, EXACT_ROWS)
    }

    /// [`open`](Self::open) with another size up to which vectors are compared exactly, for
    /// measurements.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_exact_to(path: &Path, exact_rows: usize) -> Result<Self, IndexError> {
        let files = Files::open(path, exact_rows)?;
        let state = files.next_state(None)?;
        Ok(Self {
            shared: Arc::new(Shared {
                files,
                state: ArcSwap::from_pointee(state),
                refreshing: Mutex::new(()),
            }),
        })
    }

    /// The size of the vectors of the index in a folder, which may be none; `None` if there is no
    /// index that can be read.
    pub fn dimensions_at(path: &Path) -> Option<Option<usize>> {
        Manifest::read(path)
            .ok()
            .map(|manifest| manifest.dimensions)
    }

    /// Whether there is an index in a folder.
    pub fn exists(path: &Path) -> bool {
        Manifest::exists(path)
    }

    /// Whether there is an index in a folder that was made to be filled, and that has not come to its end:
    /// it failed or was interrupted.
    pub fn is_to_be_filled(path: &Path) -> bool {
        Files::is_to_be_filled(path)
    }

    /// It holds what it was made to be filled with.
    ///
    /// # Errors
    /// If that cannot be noted.
    pub fn filled(&self) -> Result<(), IndexError> {
        Files::filled(&self.shared.files.folder)
    }

    /// What it was made for.
    pub fn manifest(&self) -> &Manifest {
        &self.shared.files.manifest
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.shared.files.folder
    }

    /// Opens it for writing.
    ///
    /// # Errors
    /// [`IndexError::Locked`] while another writer, in this process or another, is open.
    pub fn writer(&self) -> Result<Writer, IndexError> {
        Writer::open(self.shared.clone())
    }

    /// The documents that fit best, best first, equal scores in the order of their ids.
    ///
    /// This computes for milliseconds: not for tokio's workers.
    ///
    /// # Errors
    /// [`IndexError::Invalid`] if the query has neither vector nor text, a vector that does not fit
    /// the index, or asks for more documents than is allowed.
    pub fn search(&self, query: &Query<'_>) -> Result<Vec<Document>, IndexError> {
        if !(1..=MOST_RESULTS).contains(&query.top_k) {
            let wanted = query.top_k;
            let reason = format!("top-k is {wanted}; it can be 1 to {MOST_RESULTS}");
            return Err(IndexError::invalid(reason));
        }
        self.shared.state.load_full().snapshot.search(query)
    }

    /// Whether a document with this id and this [digest](Record::digest) is committed.
    ///
    /// # Errors
    /// If the text index cannot be read.
    pub fn contains(&self, id: &str, digest: u64) -> Result<bool, IndexError> {
        let known = self.shared.state.load_full().snapshot.digest(id)?;
        Ok(known == Some(digest))
    }

    /// The ids of all documents, in no order.
    ///
    /// # Errors
    /// If the text index cannot be read.
    pub fn ids(&self) -> Result<Vec<String>, IndexError> {
        self.shared.state.load_full().snapshot.all_ids()
    }

    /// What it holds.
    ///
    /// # Errors
    /// If its folder cannot be read.
    pub fn facts(&self) -> Result<Facts, IndexError> {
        Ok(Facts {
            dimensions: self.shared.files.manifest.dimensions,
            documents: self.shared.state.load().snapshot.documents(),
            bytes: self.shared.files.bytes()?,
        })
    }

    /// Whether another process committed since the state that searches see. One look at one file.
    pub fn is_stale(&self) -> bool {
        let now = self.shared.files.stamp().ok();
        now.is_some_and(|now| now != self.shared.state.load().stamp)
    }

    /// Lets searches see what was committed last. Commits of a writer in this process do so
    /// themselves.
    ///
    /// # Errors
    /// If the new state cannot be read; searches go on seeing the old one.
    pub fn refresh(&self) -> Result<(), IndexError> {
        self.shared.refresh().map(|_| ())
    }
}

impl Shared {
    fn refresh(&self) -> Result<Arc<State>, IndexError> {
        let refreshing = self.refreshing.lock();
        let _refreshing = refreshing.unwrap_or_else(PoisonError::into_inner);
        let before = self.state.load_full();
        let next = self.files.next_state(Some(&before.snapshot))?;
        let next = Arc::new(next);
        self.state.store(next.clone());
        Ok(next)
    }
}
