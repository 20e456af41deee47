//! Filling a store from a stream of records, in a way that can be interrupted and run again.

use super::{Entry, Store};
use crate::{
    NodeError,
    index::{IndexError, Record},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::task::JoinHandle;

/// How many documents a store is asked about at once, whether it has them.
const ASKED: usize = 256;
/// How many documents are taken out at once.
const DELETED: usize = 1000;

/// How a store is filled.
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
    /// Puts `records` into a store; those that are there unchanged are passed over, so that an
    /// interrupted build goes on where its last commit was. `embed` gives a vector for each text,
    /// and is asked only for records without one, and only if the store has vectors. `progress` is
    /// told how many of `total` records are done.
    ///
    /// While a batch is embedded the one before it is on its way. Embedding and reading block: run
    /// this on a thread that may be blocked, with tokio's runtime at hand.
    ///
    /// # Errors
    /// The first of a record, of `embed`, or of the store. What was committed before stays.
    pub async fn run(
        &self,
        store: &Arc<dyn Store>,
        records: impl IntoIterator<Item = Result<Record, IndexError>>,
        total: usize,
        embed: impl FnMut(&[&str]) -> Result<Vec<Vec<f32>>, NodeError>,
        progress: impl FnMut(usize, usize),
    ) -> Result<Built, NodeError> {
        let mut run = Run {
            build: self,
            store,
            embed,
            progress,
            total,
            asking: Vec::new(),
            waiting: Vec::new(),
            sending: None,
            uncommitted: 0,
            built: Built::default(),
        };
        let done = run.all(records).await;
        if done.is_err() {
            // What is on its way counts, and must have ended when this does.
            let _ = run.sent().await;
        }
        done?;
        store.finish().await?;
        Ok(Built {
            documents: store.count().await?,
            ..run.built
        })
    }
}

struct Run<'a, E, P> {
    build: &'a Build,
    store: &'a Arc<dyn Store>,
    embed: E,
    progress: P,
    total: usize,
    /// Records that may be there already.
    asking: Vec<Entry>,
    /// Records that the next batch will put in.
    waiting: Vec<Entry>,
    /// The batch that is on its way, and how many documents it has.
    sending: Option<(JoinHandle<Result<(), NodeError>>, usize)>,
    uncommitted: usize,
    built: Built,
}

impl<E, P> Run<'_, E, P>
where
    E: FnMut(&[&str]) -> Result<Vec<Vec<f32>>, NodeError>,
    P: FnMut(usize, usize),
{
    async fn all(
        &mut self,
        records: impl IntoIterator<Item = Result<Record, IndexError>>,
    ) -> Result<(), NodeError> {
        let mut seen = HashSet::new();
        for record in records {
            let record = record?;
            if self.build.prune {
                seen.insert(record.id.to_string());
            }
            self.take(record).await?;
        }
        self.ask().await?;
        self.sent().await?;
        match self.build.prune {
            true => self.prune(&seen).await,
            false => Ok(()),
        }
    }

    async fn take(&mut self, record: Record) -> Result<(), NodeError> {
        // Before it costs an embedding.
        record.checked(self.store.facts().dimensions)?;
        let digest = record.digest();
        self.asking.push(Entry { record, digest });
        match self.asking.len() >= ASKED {
            true => self.ask().await,
            false => Ok(()),
        }
    }

    /// Finds out which records are there unchanged, and puts the others in.
    async fn ask(&mut self) -> Result<(), NodeError> {
        let asked = latest(std::mem::take(&mut self.asking));
        if asked.is_empty() {
            return Ok(());
        }
        let ids = asked.iter();
        let ids = ids.map(|entry| (Arc::clone(&entry.record.id), entry.digest));
        // What is on its way may be of the same id.
        self.sent().await?;
        let known = self.store.known(ids.collect()).await?;
        for (entry, known) in asked.into_iter().zip(known) {
            if known {
                self.built.unchanged += 1;
                continue;
            }
            self.waiting.push(entry);
            if self.waiting.len() >= self.build.batch {
                self.flush().await?;
            }
        }
        // Ids are different within what is asked at once, and must be so within a batch.
        self.flush().await?;
        self.tell();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), NodeError> {
        let mut batch = std::mem::take(&mut self.waiting);
        if batch.is_empty() {
            return Ok(());
        }
        if self.store.facts().dimensions.is_some() {
            self.embed(&mut batch)?;
        }
        self.sent().await?;
        let (store, count) = (Arc::clone(self.store), batch.len());
        let sending = tokio::spawn(async move { store.upsert(batch).await });
        self.sending = Some((sending, count));
        Ok(())
    }

    /// Waits for the batch that is on its way, if there is one.
    async fn sent(&mut self) -> Result<(), NodeError> {
        let Some((sending, count)) = self.sending.take() else {
            return Ok(());
        };
        let sent = sending.await;
        sent.map_err(|error| NodeError::because("a batch ended early", error))??;
        self.built.written += count;
        self.uncommitted += count;
        if self.uncommitted >= self.build.commit_every {
            self.uncommitted = 0;
            self.store.commit().await?;
        }
        self.tell();
        Ok(())
    }

    fn embed(&mut self, batch: &mut [Entry]) -> Result<(), NodeError> {
        let records = batch.iter_mut().map(|entry| &mut entry.record);
        let bare: Vec<_> = records.filter(|record| record.vector.is_none()).collect();
        if bare.is_empty() {
            return Ok(());
        }
        let texts: Vec<_> = bare.iter().map(|record| &*record.text).collect();
        let vectors = (self.embed)(&texts)?;
        if vectors.len() != texts.len() {
            let (given, wanted) = (vectors.len(), texts.len());
            let reason = format!("embedding {wanted} texts gave {given} vectors");
            return Err(NodeError::failed(reason));
        }
        for (record, vector) in bare.into_iter().zip(vectors) {
            record.vector = Some(vector);
        }
        Ok(())
    }

    async fn prune(&mut self, seen: &HashSet<String>) -> Result<(), NodeError> {
        self.store.commit().await?;
        let mut gone = self.store.ids().await?;
        gone.retain(|id| !seen.contains(id));
        for ids in gone.chunks(DELETED) {
            self.store.delete(ids.to_vec()).await?;
            self.built.deleted += ids.len();
        }
        Ok(())
    }

    fn tell(&mut self) {
        (self.progress)(self.built.written + self.built.unchanged, self.total);
    }
}

/// Of several records with one id the last, as if they had been put in one after the other.
fn latest(entries: Vec<Entry>) -> Vec<Entry> {
    let mut places = HashMap::new();
    for (place, entry) in entries.iter().enumerate() {
        places.insert(Arc::clone(&entry.record.id), place);
    }
    let entries = entries.into_iter().enumerate();
    let last = entries.filter(|(place, entry)| places.get(&entry.record.id) == Some(place));
    last.map(|(_, entry)| entry).collect()
}
