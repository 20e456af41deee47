//! Changing an index: one writer at a time, whose commits are all or nothing.

use super::{
    IndexError, Record, Shared,
    files::{self, State, WriterLock},
    filter,
    log::{Committed, LogWriter, sync_folder},
    record,
    snapshot::Snapshot,
    vectors::Vectors,
};
use std::{sync::Arc, thread, time::Duration};
use tantivy::{
    IndexWriter, TantivyDocument, TantivyError, Term,
    indexer::{LogMergePolicy, UserOperation},
};

/// Memory that the text index gathers changes in before it writes a segment.
const ARENA: usize = 64 << 20;

/// A segment with more than this share of deleted documents is rewritten.
const DELETED_SHARE: f32 = 0.3;

/// The log is rewritten when more than half of it belongs to deleted documents, and at least this
/// many rows.
const DEAD_ROWS: usize = 512;

/// How often, and how far apart, the text index's own lock is asked for.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The writer of an index. What is not committed when it is dropped is lost.
pub struct Writer {
    shared: Arc<Shared>,
    text: IndexWriter,
    /// None for an index without vectors.
    log: Option<LogWriter>,
    changed: bool,
    /// Held, not used. Declared last, so that it goes last.
    _lock: WriterLock,
}

/// What a commit left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// How many documents there are.
    pub documents: u64,
    /// Whether vectors of deleted documents were cleared away.
    pub compacted: bool,
}

impl Writer {
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, IndexError> {
        let lock = files::lock(&shared.files.folder)?;
        let state = shared.refresh()?;
        let committed = state.snapshot.committed;
        shared.files.remove_other_logs(committed)?;
        let log = match state.snapshot.vectors() {
            Some(vectors) => Some(open_log(&shared, committed, vectors)?),
            None => None,
        };
        let failed = IndexError::text("open the text index for writing");
        let text = text_writer(&shared.files.text).and_then(past_the_last_commit);
        let text = text.map_err(failed)?;
        // A commit that was interrupted may have left files whose names the next one takes again,
        // and the text index refuses to overwrite.
        let cleared = text.garbage_collect_files().wait();
        cleared.map_err(IndexError::text("clear what an interrupted commit left"))?;
        let mut merging = LogMergePolicy::default();
        merging.set_del_docs_ratio_before_merge(DELETED_SHARE);
        text.set_merge_policy(Box::new(merging));
        Ok(Self {
            shared,
            text,
            log,
            changed: false,
            _lock: lock,
        })
    }

    /// Puts a document in, in place of one with the same id. Searches see it after a commit.
    ///
    /// # Errors
    /// [`IndexError::Invalid`] if the record is at fault: without an id, too large, or with a vector
    /// that does not fit the index.
    pub fn upsert(&mut self, record: &Record) -> Result<(), IndexError> {
        self.put(record, record.digest())
    }

    /// [`upsert`](Self::upsert) under the digest of what the record was before it was embedded.
    pub(crate) fn put(&mut self, record: &Record, digest: u64) -> Result<(), IndexError> {
        let metadata = record.checked(self.shared.files.manifest.dimensions)?;
        let fields = &self.shared.files.fields;
        let mut document = TantivyDocument::new();
        if let (Some(vector), Some(log)) = (&record.vector, &mut self.log) {
            document.add_u64(fields.vector, log.append(&record::unit(vector))?);
        }
        document.add_text(fields.id, &record.id);
        document.add_text(fields.text, &record.text);
        document.add_text(fields.metadata, metadata);
        document.add_u64(fields.digest, digest);
        for fact in filter::facts(&record.metadata) {
            document.add_bytes(fields.facts, &fact);
        }
        self.delete(&record.id);
        let added = self.text.add_document(document);
        added
            .map(|_| ())
            .map_err(IndexError::text("add a document"))
    }

    /// Takes the document with this id out, if there is one. Searches see it until a commit.
    pub fn delete(&mut self, id: &str) {
        self.changed = true;
        let term = Term::from_field_text(self.shared.files.fields.id, id);
        self.text.delete_term(term);
    }

    /// Makes all changes durable at once, and lets searches see them.
    ///
    /// # Errors
    /// If it fails, the last committed state stands.
    pub fn commit(&mut self) -> Result<Stats, IndexError> {
        if !self.changed {
            return Ok(self.stats(false));
        }
        let state = self.publish()?;
        self.changed = false;
        let compacted = is_wasteful(&state.snapshot) && self.tidy(&state.snapshot);
        Ok(self.stats(compacted))
    }

    /// Commits, and waits until the text index has put its segments in order.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit).
    pub fn finish(mut self) -> Result<Stats, IndexError> {
        let stats = self.commit()?;
        let merged = self.text.wait_merging_threads();
        merged.map_err(IndexError::text("merge segments"))?;
        self.shared.refresh()?;
        Ok(stats)
    }

    /// The vectors first, then the text index, which names how many of them count.
    fn publish(&mut self) -> Result<Arc<State>, IndexError> {
        let committed = match &mut self.log {
            Some(log) => log.sync()?,
            None => Committed::EMPTY,
        };
        let failed = || IndexError::text("commit");
        let mut commit = self.text.prepare_commit().map_err(failed())?;
        commit.set_payload(&committed.payload());
        commit.commit().map_err(failed())?;
        self.shared.refresh()
    }

    /// Compacts the log, if that works: the changes are durable already, with or without it.
    fn tidy(&mut self, snapshot: &Snapshot) -> bool {
        let compacted = self.compact(snapshot);
        compacted.unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to compact the vectors of an index");
            false
        })
    }

    /// Writes the vectors that are in use to a new log, and commits to it.
    fn compact(&mut self, snapshot: &Snapshot) -> Result<bool, IndexError> {
        let (Some(vectors), Some(log)) = (snapshot.vectors(), &self.log) else {
            return Ok(false);
        };
        let folder = &self.shared.files.folder;
        let generation = log.generation() + 1;
        let mut next = LogWriter::create(folder, generation, vectors.dimensions(), 0)?;
        vectors.copy(snapshot.marked(), |sequence, values| {
            next.append_as(sequence, values)
        })?;
        next.continue_after(vectors.last_sequence());
        sync_folder(folder)?;
        self.log = Some(next);
        let state = self.publish()?;
        self.shared
            .files
            .remove_other_logs(state.snapshot.committed)?;
        Ok(true)
    }

    fn stats(&self, compacted: bool) -> Stats {
        Stats {
            documents: self.shared.state.load().snapshot.documents(),
            compacted,
        }
    }
}

/// Our own lock is held, so whoever holds the text index's is gone: a child process that was being
/// started when the last writer went keeps a copy of its file until it executes.
fn text_writer(text: &tantivy::Index) -> Result<IndexWriter, TantivyError> {
    for _ in 1..LOCK_TRIES {
        match text.writer_with_num_threads(1, ARENA) {
            Err(TantivyError::LockFailure(..)) => thread::sleep(LOCK_PAUSE),
            answer => return answer,
        }
    }
    text.writer_with_num_threads(1, ARENA)
}

/// A writer numbers its changes from the number of the last commit on, that one included, and
/// merging applies deletions up to it: so the first deletion would be seen before it is committed.
fn past_the_last_commit(text: IndexWriter) -> Result<IndexWriter, TantivyError> {
    let nothing: [UserOperation; 0] = [];
    text.run(nothing)?;
    Ok(text)
}

fn open_log(
    shared: &Shared,
    committed: Committed,
    vectors: &Vectors,
) -> Result<LogWriter, IndexError> {
    let next = vectors
        .last_sequence()
        .map_or(0, |last| last.saturating_add(1));
    LogWriter::open(&shared.files.folder, committed, next)
}

fn is_wasteful(snapshot: &Snapshot) -> bool {
    let marked = snapshot.marked();
    let dead = marked.iter().filter(|marked| !**marked).count();
    dead >= DEAD_ROWS && 2 * dead > marked.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Map,
        index::{Index, Manifest},
    };
    use tantivy::indexer::NoMergePolicy;

    fn record(id: &str) -> Record {
        Record {
            id: id.into(),
            text: "text".into(),
            metadata: Map::new(),
            vector: None,
        }
    }

    #[test]
    fn merging_before_a_commit_shows_nothing_of_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let index = Index::create(folder.path(), &Manifest::new(None, None)).unwrap();
        let ids: Vec<_> = (10..30).map(|id| id.to_string()).collect();
        let mut writer = index.writer().unwrap();
        writer.text.set_merge_policy(Box::new(NoMergePolicy));
        for id in &ids {
            writer.upsert(&record(id)).unwrap();
            writer.commit().unwrap();
        }
        drop(writer);

        let mut writer = index.writer().unwrap();
        writer.delete(&ids[0]);
        writer.upsert(&record("new")).unwrap();
        let commit = writer.text.prepare_commit().unwrap();
        let segments = || index.shared.files.text.load_metas().unwrap().segments.len();
        while segments() == ids.len() {
            thread::sleep(Duration::from_millis(5));
        }
        let mut seen = Index::open(folder.path()).unwrap().ids().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, ids);

        commit.commit().unwrap();
        index.refresh().unwrap();
        let mut seen = index.ids().unwrap();
        seen.sort_unstable();
        assert_eq!(seen[..19], ids[1..]);
        assert_eq!(seen[19..], ["new"]);
    }
}
