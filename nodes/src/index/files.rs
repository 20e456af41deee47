//! The files of an index, and how a state that searches can see is read from them.
//!
//! ```text
//! manifest.json   written last: without it, the folder is no index
//! to-be-filled    there until the index has been filled for the first time, if it was made for that
//! writer.lock     locked by the writer
//! vectors-N.log   the vectors; N rises with every compaction
//! text/           the text index; its commits name N and the length of the log that counts
//! ```

use super::{
    IndexError, Manifest,
    log::{Committed, LogReader, LogWriter, sync_folder},
    snapshot::Snapshot,
    text::{self, Fields},
    vectors::Vectors,
};
use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tantivy::{Directory, IndexReader, ReloadPolicy, index::IndexMeta};

const TEXT: &str = "text";
const LOCK: &str = "writer.lock";
const TO_BE_FILLED: &str = "to-be-filled";
/// The text index's list of segments, which each of its commits replaces.
const SEGMENTS: &str = "meta.json";

/// Bytes at the end of each file of the text index that say where its checksum is.
const CHECKSUM: u64 = 8;

/// How often reading a state starts again because another process commits meanwhile.
const ATTEMPTS: usize = 10;

/// An index on disk that is open.
pub(super) struct Files {
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) fields: Fields,
    pub(super) text: tantivy::Index,
    reader: IndexReader,
    exact_rows: usize,
}

/// A committed state, and how to tell that it is not the last one any more.
pub(super) struct State {
    pub(super) snapshot: Snapshot,
    pub(super) stamp: Stamp,
}

/// What the file system says of the list of segments; it differs after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: u64,
    changed: (i64, i64),
    size: u64,
}

impl Files {
    /// Makes the files of an empty index, in a folder that is absent or empty. One that is `to_be_filled` says so
    /// until it is [filled](Self::filled).
    pub(super) fn create(
        folder: &Path,
        manifest: &Manifest,
        to_be_filled: bool,
    ) -> Result<(), IndexError> {
        fs::create_dir_all(folder).map_err(IndexError::io("create", folder))?;
        let _lock = lock(folder)?;
        clear_unfinished(folder)?;
        let texts = folder.join(TEXT);
        fs::create_dir(&texts).map_err(IndexError::io("create", &texts))?;
        let (schema, _) = text::schema();
        tantivy::Index::create_in_dir(texts, schema)
            .map_err(IndexError::text("create the text index"))?;
        if let Some(dimensions) = manifest.dimensions {
            let first = Committed::EMPTY.generation;
            LogWriter::create(folder, first, dimensions, 0)?.sync()?;
        }
        if to_be_filled {
            let mark = folder.join(TO_BE_FILLED);
            File::create(&mark).map_err(IndexError::io("create", &mark))?;
            sync_folder(folder)?;
        }
        manifest.write(folder)
    }

    /// Whether a folder holds an index that is still to be filled.
    pub(super) fn is_to_be_filled(folder: &Path) -> bool {
        folder.join(TO_BE_FILLED).exists()
    }

    /// It is filled.
    pub(super) fn filled(folder: &Path) -> Result<(), IndexError> {
        let mark = folder.join(TO_BE_FILLED);
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(IndexError::io("remove", &mark)(error))
            }
            _ => Ok(()),
        }
    }

    /// Opens the files and compares the checksums of the text index; the log's are compared as it
    /// is read.
    pub(super) fn open(folder: &Path, exact_rows: usize) -> Result<Self, IndexError> {
        let manifest = Manifest::read(folder)?;
        let damaged = |error: tantivy::TantivyError| IndexError::damaged(folder, error.to_string());
        let text = tantivy::Index::open_in_dir(folder.join(TEXT)).map_err(damaged)?;
        let (schema, fields) = text::schema();
        if text.schema() != schema {
            return Err(IndexError::damaged(
                folder,
                "the text index has other fields",
            ));
        }
        text::register(&text);
        validate(folder, &text)?;
        let reader = text.reader_builder().reload_policy(ReloadPolicy::Manual);
        let reader = reader.try_into().map_err(damaged)?;
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
            fields,
            text,
            reader,
            exact_rows,
        })
    }

    /// Reads the last committed state, sharing what it can with the one `before`.
    pub(super) fn next_state(&self, before: Option<&Snapshot>) -> Result<State, IndexError> {
        let mut attempt = 1;
        loop {
            let stamp = self.stamp()?;
            let meta = self.last_commit()?;
            self.reader
                .reload()
                .map_err(IndexError::text("open the text index"))?;
            let state = self.state(&meta, stamp, before);
            let settled = self.last_commit()?.opstamp == meta.opstamp;
            // A commit in between may have removed files that its predecessor needs.
            if settled || attempt == ATTEMPTS {
                return state;
            }
            attempt += 1;
        }
    }

    fn state(
        &self,
        meta: &IndexMeta,
        stamp: Stamp,
        before: Option<&Snapshot>,
    ) -> Result<State, IndexError> {
        let committed = Committed::from_payload(meta.payload.as_deref());
        let committed =
            committed.ok_or_else(|| self.damaged("the text index does not name its log"))?;
        let vectors = match self.manifest.dimensions {
            Some(dimensions) => Some(self.vectors(dimensions, committed, before)?),
            None => None,
        };
        let searcher = self.reader.searcher();
        let snapshot = Snapshot::new(&self.folder, self.fields, searcher, vectors, committed)?;
        Ok(State { snapshot, stamp })
    }

    fn vectors(
        &self,
        dimensions: usize,
        committed: Committed,
        before: Option<&Snapshot>,
    ) -> Result<Vectors, IndexError> {
        let same_log = |before: &&Snapshot| before.committed.generation == committed.generation;
        match before.filter(same_log).and_then(Snapshot::vectors) {
            Some(vectors) => vectors.extended(committed.length),
            None => {
                let log = LogReader::open(&committed.path(&self.folder), dimensions)?;
                Vectors::load(log, dimensions, committed.length, self.exact_rows)
            }
        }
    }

    fn last_commit(&self) -> Result<IndexMeta, IndexError> {
        let meta = self.text.load_metas();
        meta.map_err(|error| self.damaged(error.to_string()))
    }

    /// Whether the list of segments is still the one that was read.
    pub(super) fn stamp(&self) -> Result<Stamp, IndexError> {
        let path = self.folder.join(TEXT).join(SEGMENTS);
        let metadata = fs::metadata(&path).map_err(IndexError::io("read", &path))?;
        Ok(Stamp {
            file: metadata.ino(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
        })
    }

    /// The size of all files.
    pub(super) fn bytes(&self) -> Result<u64, IndexError> {
        let mut bytes = 0;
        for folder in [&self.folder, &self.folder.join(TEXT)] {
            for entry in fs::read_dir(folder).map_err(IndexError::io("read", folder))? {
                // A file may be gone by now: segments are merged while the index serves.
                let metadata = entry.and_then(|entry| entry.metadata());
                bytes += metadata.map_or(0, |metadata| {
                    if metadata.is_file() {
                        metadata.len()
                    } else {
                        0
                    }
                });
            }
        }
        Ok(bytes)
    }

    /// Removes logs that are not the committed one: what an interrupted compaction left.
    pub(super) fn remove_other_logs(&self, committed: Committed) -> Result<(), IndexError> {
        let current = committed.path(&self.folder);
        for path in entries(&self.folder)? {
            if path != current && is_log(&path) {
                fs::remove_file(&path).map_err(IndexError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn damaged(&self, reason: impl Into<String>) -> IndexError {
        IndexError::damaged(&self.folder, reason)
    }
}

/// The right to write: goes when it is dropped, and with the process by whatever end.
pub(super) struct WriterLock(File);

impl Drop for WriterLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is being started at this moment holds
        // a copy of it until it executes, and with it the lock.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "did not give a writer's lock back");
        }
    }
}

/// Takes the writer's lock.
pub(super) fn lock(folder: &Path) -> Result<WriterLock, IndexError> {
    let path = folder.join(LOCK);
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(IndexError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(WriterLock(file)),
        Err(TryLockError::WouldBlock) => Err(IndexError::Locked {
            path: folder.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(IndexError::io("lock", &path)(error)),
    }
}

/// Compares the checksums of the files that the last commit names. A damaged file of the text index
/// is not safe to search.
fn validate(folder: &Path, text: &tantivy::Index) -> Result<(), IndexError> {
    let damaged = |reason: String| IndexError::damaged(folder, reason);
    let unreadable = |error: tantivy::TantivyError| damaged(error.to_string());
    let directory = text.directory();
    let files = text.load_metas().map_err(unreadable)?.list_segment_files();
    for path in files {
        // Segments are said to have files that they need for certain fields only; one that is
        // really missing is noticed when the segment is opened.
        if !matches!(directory.exists(&path), Ok(true)) {
            continue;
        }
        // Shorter files make the text index panic instead of finding no checksum.
        let length = fs::metadata(folder.join(TEXT).join(&path)).map_or(0, |file| file.len());
        if length < CHECKSUM || !matches!(directory.validate_checksum(&path), Ok(true)) {
            let name = path.display();
            return Err(damaged(format!("the checksum of {TEXT}/{name} is wrong")));
        }
    }
    Ok(())
}

/// Empties a folder in which making an index did not finish; refuses one that holds anything else.
fn clear_unfinished(folder: &Path) -> Result<(), IndexError> {
    let occupied = |what| IndexError::Occupied {
        path: folder.to_owned(),
        what,
    };
    if Manifest::exists(folder) {
        return Err(occupied("an index"));
    }
    let ours = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        [LOCK, TEXT, TO_BE_FILLED, Manifest::UNFINISHED].contains(&&*name.to_string_lossy())
            || is_log(path)
    };
    let entries = entries(folder)?;
    if !entries.iter().all(|path| ours(path)) {
        return Err(occupied("other files"));
    }
    let texts = folder.join(TEXT);
    if texts.exists() {
        fs::remove_dir_all(&texts).map_err(IndexError::io("clear", &texts))?;
    }
    for path in entries.iter().filter(|path| is_log(path)) {
        fs::remove_file(path).map_err(IndexError::io("clear", path))?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, IndexError> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path()));
        paths.collect::<std::io::Result<Vec<_>>>()
    });
    entries.map_err(IndexError::io("read", folder))
}

fn is_log(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.starts_with("vectors-") && name.ends_with(".log")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a child process holds between its fork and its execution.
    #[test]
    fn a_copy_of_the_file_does_not_hold_the_lock() {
        let folder = tempfile::TempDir::new().unwrap();
        let held = lock(folder.path()).unwrap();
        let copy = held.0.try_clone().unwrap();
        assert!(matches!(
            lock(folder.path()),
            Err(IndexError::Locked { .. })
        ));
        drop(held);
        lock(folder.path()).unwrap();
        drop(copy);
    }
}
