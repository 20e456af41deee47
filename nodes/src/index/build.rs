//! Filling an index from a stream of records, in a way that can be interrupted and run again.

use super::{Index, IndexError, Record, Stats, Writer};
use crate::NodeError;
use std::{collections::HashSet, sync::Arc};

/// How an index is filled.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// How many texts are embedded at once. Default 32.
    pub batch: usize,
    /// How many documents are committed at once; so many are embedded anew after an interruption.
    /// Default 1024.
    pub commit_every: usize,
    /// Whether documents that the records do not hold are deleted at the end. Default no.
    pub prune: bool,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            batch: 32,
            commit_every: 1024,
            prune: false,
        }
    }
}

/// What a build did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Built {
    /// Documents that were put in, new or changed.
    pub written: usize,
    /// Documents that were there already, unchanged.
    pub unchanged: usize,
    /// Documents that were deleted.
    pub deleted: usize,
    /// Documents that there are now.
    pub documents: u64,
}

impl Build {
    /// Puts `records` into an index; those that are there unchanged are passed over, so that an
    /// interrupted build goes on where its last commit was. `embed` gives a vector for each text,
    /// and is asked only for records without one, and only if the index has vectors. `progress` is
    /// told how many of `total` records are done.
    ///
    /// # Errors
    /// The first of a record, of `embed`, or of the index. What was committed before stays.
    pub fn run(
        &self,
        index: &Index,
        records: impl IntoIterator<Item = Result<Record, IndexError>>,
        total: usize,
        embed: impl FnMut(&[&str]) -> Result<Vec<Vec<f32>>, NodeError>,
        progress: impl FnMut(usize, usize),
    ) -> Result<Built, IndexError> {
        let mut run = Run {
            build: self,
            index,
            writer: index.writer()?,
            embed,
            progress,
            total,
            waiting: Vec::new(),
            built: Built::default(),
        };
        let mut seen = HashSet::new();
        for record in records {
            let record = record?;
            if self.prune {
                seen.insert(record.id.clone());
            }
            run.take(record)?;
        }
        run.flush()?;
        if self.prune {
            run.prune(&seen)?;
        }
        let Stats { documents, .. } = run.writer.finish()?;
        Ok(Built {
            documents,
            ..run.built
        })
    }
}

struct Run<'a, E, P> {
    build: &'a Build,
    index: &'a Index,
    writer: Writer,
    embed: E,
    progress: P,
    total: usize,
    /// Records that the next batch will put in, with their digests.
    waiting: Vec<(Record, u64)>,
    built: Built,
}

impl<E, P> Run<'_, E, P>
where
    E: FnMut(&[&str]) -> Result<Vec<Vec<f32>>, NodeError>,
    P: FnMut(usize, usize),
{
    fn take(&mut self, record: Record) -> Result<(), IndexError> {
        // Before it costs an embedding.
        record.checked(self.index.manifest().dimensions)?;
        let digest = record.digest();
        if self.index.contains(&record.id, digest)? {
            self.built.unchanged += 1;
            self.tell();
            return Ok(());
        }
        self.waiting.push((record, digest));
        match self.waiting.len() >= self.build.batch {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        let mut batch = std::mem::take(&mut self.waiting);
        if self.index.manifest().dimensions.is_some() {
            self.embed(&mut batch)?;
        }
        for (record, digest) in &batch {
            self.writer.put(record, *digest)?;
            self.built.written += 1;
            if self
                .built
                .written
                .is_multiple_of(self.build.commit_every.max(1))
            {
                self.writer.commit()?;
            }
        }
        self.tell();
        Ok(())
    }

    fn embed(&mut self, batch: &mut [(Record, u64)]) -> Result<(), IndexError> {
        let bare = batch
            .iter_mut()
            .filter(|(record, _)| record.vector.is_none());
        let bare: Vec<_> = bare.map(|(record, _)| record).collect();
        if bare.is_empty() {
            return Ok(());
        }
        let texts: Vec<_> = bare.iter().map(|record| &*record.text).collect();
        let vectors = (self.embed)(&texts).map_err(IndexError::Embed)?;
        if vectors.len() != texts.len() {
            let (given, wanted) = (vectors.len(), texts.len());
            let reason = format!("embedding {wanted} texts gave {given} vectors");
            return Err(IndexError::Embed(NodeError::failed(reason)));
        }
        for (record, vector) in bare.into_iter().zip(vectors) {
            record.vector = Some(vector);
        }
        Ok(())
    }

    fn prune(&mut self, seen: &HashSet<Arc<str>>) -> Result<(), IndexError> {
        self.writer.commit()?;
        for id in self.index.ids()? {
            if !seen.contains(&*id) {
                self.writer.delete(&id);
                self.built.deleted += 1;
            }
        }
        Ok(())
    }

    fn tell(&mut self) {
        (self.progress)(self.built.written + self.built.unchanged, self.total);
    }
}
