//! Where documents are kept and found: the embedded index, and servers that people have already.
//!
//! A [`Store`] answers searches and takes documents in. It neither embeds (filling is given a function
//! that does, see [`Build`]) nor knows who asks: deadlines, retries and breakers are around it.

mod embedded;
mod fill;
mod milvus;
mod pgvector;
mod qdrant;
mod tls;

pub use embedded::Embedded;
pub use fill::{Build, Built};
pub use milvus::Milvus;
pub use pgvector::Pgvector;
pub use qdrant::Qdrant;

use crate::{
    Document, Filter, NodeError,
    index::{IndexError, Query, Record, record},
};
use futures::future::BoxFuture;
use schema::IndexBackend;
use std::{sync::Arc, time::Duration};

/// How long a server may take to say what it holds, when a node is built or an index is filled.
const DESCRIBE: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A collection of documents.
pub trait Store: Send + Sync {
    /// What it can do.
    fn facts(&self) -> &Facts;

    /// The documents that fit best, best first. Nobody is asked where none can.
    fn search(&self, wanted: Wanted) -> BoxFuture<'_, Result<Vec<Document>, NodeError>> {
        match wanted.is_hopeless() {
            true => Box::pin(std::future::ready(Ok(Vec::new()))),
            false => self.find(wanted),
        }
    }

    /// What a [search](Store::search) that is not hopeless finds.
    fn find(&self, wanted: Wanted) -> BoxFuture<'_, Result<Vec<Document>, NodeError>>;

    /// How many documents it holds.
    fn count(&self) -> BoxFuture<'_, Result<u64, NodeError>>;

    /// Whether each document is there with this content, told by its digest; false where the store
    /// cannot tell.
    fn known(&self, documents: Vec<(Arc<str>, u64)>)
    -> BoxFuture<'_, Result<Vec<bool>, NodeError>>;

    /// Puts documents in, in place of those with the same ids. The ids of a batch differ.
    fn upsert(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<(), NodeError>>;

    /// Takes documents out, as far as they are there.
    fn delete(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), NodeError>>;

    /// The ids of all documents, in no order.
    fn ids(&self) -> BoxFuture<'_, Result<Vec<String>, NodeError>>;

    /// Makes what was put in and taken out durable. Servers do so at each change.
    fn commit(&self) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Commits, and lets go of what writing took.
    fn finish(&self) -> BoxFuture<'_, Result<(), NodeError>> {
        self.commit()
    }
}

/// What a store can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Size of its vectors; none if it is searched by words alone.
    pub dimensions: Option<usize>,
    /// Whether it can be searched by words; the reason if not.
    pub words: Result<(), String>,
}

impl Facts {
    /// Whether it can answer a search.
    ///
    /// # Errors
    /// [`NodeError::Invalid`]: no vector and no text, a vector of another size, or a text where there
    /// are no words.
    pub fn check(&self, wanted: &Wanted) -> Result<(), NodeError> {
        match (&wanted.vector, self.dimensions) {
            (None, _) if wanted.text.is_none() => {
                let reason = "the search has neither a vector nor a text";
                return Err(NodeError::invalid(reason));
            }
            (None, _) => {}
            (Some(_), None) => return Err(NodeError::invalid("the index holds no vectors")),
            (Some(vector), Some(dimensions)) => {
                record::check_vector(vector, dimensions).map_err(NodeError::invalid)?;
            }
        }
        match (&wanted.text, &self.words) {
            (Some(_), Err(reason)) => Err(NodeError::invalid(reason)),
            _ => Ok(()),
        }
    }
}

/// What is looked for; [`Query`] says what each means.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Neighbours of this vector.
    pub vector: Option<Arc<[f32]>>,
    /// Documents with any of these words.
    pub text: Option<Arc<str>>,
    /// How many documents at most.
    pub top_k: usize,
    /// Only documents that satisfy this.
    pub filter: Option<Filter>,
}

impl Wanted {
    fn query(&self) -> Query<'_> {
        Query {
            vector: self.vector.as_deref(),
            text: self.text.as_deref(),
            top_k: self.top_k,
            filter: self.filter.as_ref(),
        }
    }

    /// Whether no document can be found, whatever the store holds.
    fn is_hopeless(&self) -> bool {
        self.filter.as_ref().is_some_and(Filter::is_impossible)
    }
}

/// A document on its way into a store.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The document, with its vector if the store has vectors.
    pub record: Record,
    /// The digest of what it was before it was embedded.
    pub digest: u64,
}

impl Entry {
    /// Its metadata as JSON, once it is known to fit.
    fn metadata(&self, facts: &Facts) -> Result<String, IndexError> {
        self.record.checked(facts.dimensions)
    }

    /// Its vector, which a store that has nothing but vectors needs.
    fn vector(&self) -> Result<&[f32], NodeError> {
        self.record.vector.as_deref().ok_or_else(|| {
            let id = &self.record.id;
            NodeError::invalid(format!("document {id:?} has no vector"))
        })
    }
}

/// What a server's collection is to be, where there is none yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    /// Size of its vectors.
    pub dimensions: Option<usize>,
}

/// Opens the collection of a server; none if the server has no such collection.
///
/// # Errors
/// The server cannot be asked, or what it has cannot be searched.
pub async fn open(backend: &IndexBackend) -> Result<Option<Arc<dyn Store>>, NodeError> {
    let opened = async {
        Ok(match backend {
            IndexBackend::Embedded { .. } => None,
            IndexBackend::Qdrant(spec) => Qdrant::open(spec).await?.map(shared),
            IndexBackend::Milvus(spec) => Milvus::open(spec).await?.map(shared),
            IndexBackend::Pgvector(spec) => Pgvector::open(spec).await?.map(shared),
        })
    };
    in_time(opened).await
}

/// Makes the collection of a server that does not have it.
///
/// # Errors
/// The server cannot be asked, or refuses.
pub async fn create(backend: &IndexBackend, plan: Plan) -> Result<(), NodeError> {
    let created = async {
        match backend {
            IndexBackend::Embedded { .. } => Ok(()),
            IndexBackend::Qdrant(spec) => Qdrant::create(spec, plan).await,
            IndexBackend::Milvus(spec) => Milvus::create(spec, plan).await,
            IndexBackend::Pgvector(spec) => Pgvector::create(spec, plan).await,
        }
    };
    // An index over vectors is made with it, and a collection is loaded.
    tokio::time::timeout(6 * DESCRIBE, created)
        .await
        .unwrap_or(Err(NodeError::Timeout {
            after: 6 * DESCRIBE,
        }))
}

fn shared<S: Store + 'static>(store: S) -> Arc<dyn Store> {
    Arc::new(store)
}

async fn in_time<T>(answer: impl Future<Output = Result<T, NodeError>>) -> Result<T, NodeError> {
    let answer = tokio::time::timeout(DESCRIBE, answer).await;
    answer.unwrap_or(Err(NodeError::Timeout { after: DESCRIBE }))
}

/// What a collection needs vectors for: the size that its vectors are to have.
fn needs_vectors(plan: Plan) -> Result<usize, NodeError> {
    plan.dimensions.ok_or_else(|| {
        let reason = "a new collection needs the size of its vectors; name the index's `model` or `dimensions`";
        NodeError::failed(reason)
    })
}
