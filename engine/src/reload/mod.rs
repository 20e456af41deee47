//! From one generation to the next while requests run: who asks for it, and what came of it.
//!
//! [`watch()`] decides from what is seen of files whether they changed; the [`Supervisor`] owns the
//! change itself. What is here connects it with the listeners: [`Control`] carries orders to it and
//! outcomes back. It deliberately knows no weights: a reload publishes all of a generation at once.
//!
//! [`Supervisor`]: crate::supervisor::Supervisor

pub mod watch;

use arc_swap::ArcSwapOption;
use graphs::plan::Counts;
use schema::Sources;
use serde::{Deserialize, Serialize};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};
use watch::{Seen, Watch};

/// What a supervisor can be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Load the file again.
    Reload,
    /// Go back to a generation; to the one before the current one if none is named.
    Rollback(Option<u64>),
}

/// An order and the way back.
#[derive(Debug)]
pub struct Ordered {
    pub(crate) order: Order,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether what was asked for runs now.
    pub ok: bool,
    /// The generation that is served.
    pub generation: u64,
    /// What stood in the way, one text each, as a person reads them.
    pub problems: Vec<String>,
    /// What happened to the nodes, in words; empty if nothing did.
    pub nodes: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl Outcome {
    pub(crate) fn done(generation: u64, counts: Option<Counts>) -> Self {
        Self {
            ok: true,
            generation,
            problems: Vec::new(),
            nodes: counts.map(|counts| counts.to_string()).unwrap_or_default(),
            millis: 0,
        }
    }

    pub(crate) fn refused(generation: u64, problems: Vec<String>) -> Self {
        Self {
            ok: false,
            generation,
            problems,
            nodes: String::new(),
            millis: 0,
        }
    }
}

/// Where orders are given and outcomes are read.
#[derive(Debug)]
pub struct Control {
    orders: mpsc::Sender<Ordered>,
    last: ArcSwapOption<Outcome>,
}

impl Control {
    /// A control, and where its supervisor gets the orders.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Ordered>) {
        // A few orders may wait: they are carried out one after the other.
        let (orders, receiver) = mpsc::channel(8);
        let control = Self {
            orders,
            last: ArcSwapOption::empty(),
        };
        (Arc::new(control), receiver)
    }

    /// Has an order carried out. `None` if there is no supervisor any more.
    pub async fn order(&self, order: Order) -> Option<Outcome> {
        let (reply, outcome) = oneshot::channel();
        self.orders.send(Ordered { order, reply }).await.ok()?;
        outcome.await.ok()
    }

    /// What came of the last reload; `None` before the first.
    pub fn last(&self) -> Option<Arc<Outcome>> {
        self.last.load_full()
    }

    pub(crate) fn note(&self, outcome: &Outcome) {
        self.last.store(Some(Arc::new(outcome.clone())));
    }
}

/// A watch over the texts that were loaded and the files that were missed.
pub fn watch(sources: &Sources, missing: &[PathBuf]) -> Watch {
    let loaded = sources
        .iter()
        .map(|source| (PathBuf::from(&source.name), seen(source.text.as_bytes())));
    let missed = missing.iter().map(|path| (path.clone(), Seen::Missing));
    Watch::new(loaded.chain(missed).collect())
}

/// Looks at a file. Files of the language are small, so that reading one costs no more than asking
/// when it was written, and content cannot lie.
pub fn look(path: &Path) -> Seen {
    match std::fs::read(path) {
        Ok(content) => seen(&content),
        Err(_) => Seen::Missing,
    }
}

/// An empty file is as good as none: whoever saves by truncating has yet to write.
fn seen(content: &[u8]) -> Seen {
    match content {
        [] => Seen::Missing,
        content => Seen::Content(digest(content)),
    }
}

fn digest(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_has_yet_to_be_written() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("graph.kdl");
        assert_eq!(look(&path), Seen::Missing);
        std::fs::write(&path, "").unwrap();
        assert_eq!(look(&path), Seen::Missing);
        std::fs::write(&path, "graph g").unwrap();
        assert_ne!(look(&path), Seen::Missing);
    }
}
