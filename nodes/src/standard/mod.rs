//! The catalog of the real engine: models, indexes and adapters as a file declares them.
//!
//! What is declared once is loaded once and shared by every replica that needs it. A catalog can be
//! made after another one and takes over what is declared the same, so that a reload loads only what
//! changed.

mod model;

pub use model::{ModelSummary, local_adapters, local_dimensions};

use crate::{
    Catalog, Embed, Generate, Http, Infer, Input, Node, NodeError, OnThread, Order, Python, Rerank,
    Search, Split,
    compute::ComputePool,
    endpoint::{RemoteEmbed, RemoteGenerate, RemoteRerank},
    generate::GenerateOptions,
    index::{EmbeddedBy, Index, Manifest, Reading, documents},
    model::{Encoder, Sequence},
    python::Environments,
    residency::AdapterStore,
    source::Fetcher,
    store::{self, Build, Built, Embedded, Plan, Store},
};
use futures::future::BoxFuture;
use model::{Declared, dimensions_of};
use schema::{
    Corpus, IndexBackend, IndexDecl, LockedSource, ModelDecl, Name, Work,
    kind::{self, Backend},
};
use std::{
    collections::HashMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::OnceCell;

/// Builds nodes on the models and indexes of one file.
pub struct StandardCatalog {
    models: HashMap<Name, Arc<Declared>>,
    indexes: HashMap<Name, Arc<DeclaredIndex>>,
    environments: Environments,
    base_dir: PathBuf,
}

/// A catalog that another one comes after.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// It.
    pub catalog: &'a StandardCatalog,
    /// Models that are loaded again, though they are declared the same: their files were exchanged.
    pub exchanged: &'a [Name],
}

struct DeclaredIndex {
    decl: IndexDecl,
    open: OnceCell<Opened>,
}

/// An index that is open.
#[derive(Clone)]
enum Opened {
    /// On this machine: each node has its own share of processors over it.
    Here(Index),
    /// On a server.
    There(Arc<dyn Store>),
}

impl Opened {
    fn store(&self, cpus: NonZeroUsize) -> Arc<dyn Store> {
        match self {
            Opened::Here(index) => Arc::new(Embedded::new(index.clone(), cpus)),
            Opened::There(store) => Arc::clone(store),
        }
    }
}

impl StandardCatalog {
    /// A catalog of what is declared; nothing is loaded yet. Paths are relative to `base_dir`. What
    /// `before` has loaded and is declared the same is taken over.
    pub fn new(
        models: &[ModelDecl],
        indexes: &[IndexDecl],
        base_dir: &Path,
        fetcher: &Arc<Fetcher>,
        before: Option<Before<'_>>,
    ) -> Self {
        let declare_model = |decl: &ModelDecl| {
            let exchanged = |before: &Before<'_>| before.exchanged.contains(&decl.id.value);
            let before = before.filter(|before| !exchanged(before));
            let known = before.and_then(|before| before.catalog.models.get(&decl.id.value));
            let same = known.filter(|known| known.decl == *decl);
            let model = match same {
                Some(same) => Arc::clone(same),
                None => Arc::new(Declared::new(decl.clone(), base_dir, Arc::clone(fetcher))),
            };
            (decl.id.value.clone(), model)
        };
        let declare_index = |decl: &IndexDecl| {
            let known = before.and_then(|before| before.catalog.indexes.get(&decl.id.value));
            let same = known.filter(|known| known.decl == *decl);
            let index = same.cloned().unwrap_or_else(|| {
                Arc::new(DeclaredIndex {
                    decl: decl.clone(),
                    open: OnceCell::new(),
                })
            });
            (decl.id.value.clone(), index)
        };
        Self {
            models: models.iter().map(declare_model).collect(),
            indexes: indexes.iter().map(declare_index).collect(),
            environments: Environments::new(Arc::clone(fetcher)),
            base_dir: base_dir.to_owned(),
        }
    }

    /// Fetches the files of a model and of its adapters, if they are not here, and loads none of
    /// them.
    ///
    /// # Errors
    /// What each of the sources said.
    pub async fn fetch(&self, model: &str) -> Result<PathBuf, NodeError> {
        let model = self.model(model)?;
        model.fetch_adapters().await?;
        model.fetch().await
    }

    /// What the sources of a model and of its adapters stand for now, those of its folder of adapters
    /// included. Fetches what is not here.
    ///
    /// # Errors
    /// What each of the sources said, and a folder of adapters that cannot be listed.
    pub async fn lock(&self, model: &str) -> Result<Vec<LockedSource>, NodeError> {
        self.model(model)?.lock().await
    }

    /// Lets go of a model's weights, as far as no replica has them, so that there is room for others.
    pub fn unload(&self, model: &Name) {
        if let Some(model) = self.models.get(model) {
            model.unload();
        }
    }

    /// What is loaded, for people.
    pub fn summary(&self) -> Vec<ModelSummary> {
        let loaded = self.models.values().filter_map(|model| model.summary());
        let mut loaded: Vec<_> = loaded.collect();
        loaded.sort_by(|one, other| one.model.cmp(&other.model));
        loaded
    }

    /// The names of the indexes that are declared with documents to build them from, and are not
    /// there yet, or not with all of them: building them failed or was interrupted. Of a server's it can
    /// only be told that it holds none.
    ///
    /// # Errors
    /// The name of an index whose server cannot be asked, and why.
    pub async fn missing_indexes(&self) -> Result<Vec<Name>, (Name, NodeError)> {
        let mut missing = Vec::new();
        for index in self.indexes.values() {
            if index.decl.from.is_none() {
                continue;
            }
            let name = index.decl.id.value.clone();
            let there = match folder(&index.decl, &self.base_dir) {
                Some(path) => Ok(Index::exists(&path) && !Index::is_to_be_filled(&path)),
                None => self.has_documents(index).await,
            };
            match there {
                Ok(true) => {}
                Ok(false) => missing.push(name),
                Err(error) => return Err((name, error)),
            }
        }
        missing.sort();
        Ok(missing)
    }

    /// Puts documents into an index, which is made if it is not there; without `data`, those that
    /// its declaration names. Vectors are computed on `threads` threads; `progress` is told how many
    /// documents are done of how many.
    ///
    /// # Errors
    /// The documents cannot be read, the model cannot be had, a server is out of reach, or another
    /// process is writing.
    pub async fn fill(
        &self,
        index: &str,
        data: &[PathBuf],
        build: Build,
        threads: usize,
        progress: impl FnMut(usize, usize) + Send + 'static,
    ) -> Result<Built, NodeError> {
        let declared = self.index(index)?;
        let corpus = declared.decl.from.as_ref();
        let from = corpus.map(|corpus| self.base_dir.join(corpus.path.expose()));
        let reading = reading(&corpus.map_or_else(Corpus::default, |corpus| corpus.value.clone()));
        let as_declared = data.is_empty();
        let data: Vec<_> = match data {
            [] => from.into_iter().collect(),
            data => data.to_vec(),
        };
        let encoder = match &declared.decl.model {
            Some(model) => Some(self.model(model.as_str())?.encoder().await?),
            None => None,
        };
        let dimensions = encoder.as_ref().map(|encoder| encoder.dimensions());
        let opened = self
            .open_or_create(&declared, dimensions, as_declared)
            .await?;
        let store = opened.store(NonZeroUsize::MIN);
        fits(&declared.decl, store.facts().dimensions, dimensions)?;
        let runtime = tokio::runtime::Handle::current();
        let fill = move || {
            let pool = ComputePool::new(threads);
            let embed = |texts: &[&str]| match &encoder {
                Some(encoder) => pool.install(|| embedded(encoder, texts)),
                None => {
                    let reason = "the index has vectors and names no model";
                    Err(NodeError::failed(reason))
                }
            };
            let found: Result<Vec<_>, _> =
                data.iter().map(|path| documents(path, &reading)).collect();
            let found = found?;
            let total = found.iter().map(|documents| documents.total).sum();
            let records = found.into_iter().flat_map(|documents| documents.records);
            runtime.block_on(build.run(&store, records, total, embed, progress))
        };
        let built = blocking(fill).await??;
        if let (Opened::Here(index), true) = (opened, as_declared) {
            blocking(move || index.filled()).await??;
        }
        Ok(built)
    }

    /// Deletes documents of an index and says how many were there, and how many are left.
    ///
    /// # Errors
    /// There is no such index, a server is out of reach, or another process is writing.
    pub async fn delete(&self, index: &str, ids: Vec<String>) -> Result<Built, NodeError> {
        let opened = self.open(self.index(index)?.as_ref()).await?;
        let store = opened.store(NonZeroUsize::MIN);
        let before = store.count().await?;
        store.delete(ids).await?;
        store.finish().await?;
        let documents = store.count().await?;
        Ok(Built {
            deleted: before.saturating_sub(documents) as usize,
            documents,
            ..Built::default()
        })
    }

    fn model(&self, name: &str) -> Result<Arc<Declared>, NodeError> {
        // The check has resolved every name of the file; others come from the command line.
        let model = self.models.get(name).cloned();
        model.ok_or_else(|| not_declared("model", name))
    }

    fn index(&self, name: &str) -> Result<Arc<DeclaredIndex>, NodeError> {
        let index = self.indexes.get(name).cloned();
        index.ok_or_else(|| not_declared("index", name))
    }

    /// An index that is there already.
    async fn open(&self, declared: &DeclaredIndex) -> Result<Opened, NodeError> {
        let decl = &declared.decl;
        let opened = self.look(declared).await;
        let opened = opened.map_err(|error| of_index(decl, error))?;
        opened.ok_or_else(|| absent(decl, &self.base_dir))
    }

    /// An index, if it is there.
    async fn look(&self, declared: &DeclaredIndex) -> Result<Option<Opened>, NodeError> {
        let look = declared.open.get_or_try_init(|| async {
            let opened = self.look_now(&declared.decl).await;
            // Errors twice: what went wrong, or that there is nothing to open.
            opened.map_err(Some)?.ok_or(None)
        });
        match look.await {
            Ok(opened) => Ok(Some(opened.clone())),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    async fn has_documents(&self, declared: &DeclaredIndex) -> Result<bool, NodeError> {
        match self.look(declared).await? {
            Some(opened) => Ok(opened.store(NonZeroUsize::MIN).count().await? > 0),
            None => Ok(false),
        }
    }

    async fn look_now(&self, decl: &IndexDecl) -> Result<Option<Opened>, NodeError> {
        let Some(path) = folder(decl, &self.base_dir) else {
            let store = store::open(&decl.backend).await?;
            return Ok(store.map(Opened::There));
        };
        if !Index::exists(&path) {
            return Ok(None);
        }
        let index = blocking(move || Index::open(&path)).await??;
        Ok(Some(Opened::Here(index)))
    }

    async fn open_or_create(
        &self,
        declared: &DeclaredIndex,
        dimensions: Option<usize>,
        to_be_filled: bool,
    ) -> Result<Opened, NodeError> {
        if let Some(opened) = self.look(declared).await? {
            return Ok(opened);
        }
        let decl = &declared.decl;
        let stated = decl.dimensions.as_ref().map(|stated| stated.value as usize);
        let dimensions = dimensions.or(stated);
        match folder(decl, &self.base_dir) {
            Some(path) => {
                let model = decl.model.as_ref().map(|model| EmbeddedBy {
                    name: model.as_str().to_owned(),
                    digest: None,
                });
                let manifest = Manifest::new(dimensions, model);
                let create = match to_be_filled {
                    true => Index::create_to_fill,
                    false => Index::create,
                };
                blocking(move || create(&path, &manifest)).await??;
            }
            None => store::create(&decl.backend, Plan { dimensions }).await?,
        }
        self.open(declared).await
    }

    /// The store of a `search` node, which must be able to do what the node asks of it.
    async fn searched(
        &self,
        work: &kind::Search,
        cpus: NonZeroUsize,
    ) -> Result<Arc<dyn Store>, NodeError> {
        let declared = self.index(work.index.as_str())?;
        let store = self.open(&declared).await?.store(cpus);
        let facts = store.facts();
        fits(
            &declared.decl,
            facts.dimensions,
            self.expected(&declared.decl).await,
        )?;
        let index = &*declared.decl.id;
        match &facts.words {
            Err(reason) if work.text.is_some() => {
                let reason = format!("index `{index}` cannot be searched by `text`: {reason}");
                Err(NodeError::failed(reason))
            }
            _ if work.vector.is_some() && facts.dimensions.is_none() => {
                let reason = format!("index `{index}` holds no vectors");
                Err(NodeError::failed(reason))
            }
            _ => Ok(store),
        }
    }

    /// The size of the vectors of an index's model, as far as the model can be had.
    async fn expected(&self, decl: &IndexDecl) -> Option<usize> {
        if matches!(decl.backend, IndexBackend::Embedded { .. }) {
            // Compared when the file was checked.
            return None;
        }
        let model = self.model(decl.model.as_ref()?.as_str()).ok()?;
        // A model that cannot be had is the business of the nodes that need it.
        dimensions_of(&model.fetch().await.ok()?)
    }

    async fn node(&self, order: Order<'_>) -> Result<Arc<dyn Node>, NodeError> {
        if let Some(remote) = remote(order.work) {
            return remote;
        }
        let threads = (order.resources.cpu.ceil() as usize).max(1);
        match order.work {
            Work::Embed(work) => {
                let model = self.local(&work.backend)?;
                let embed = Embed::new(model.encoder().await?, model.adapters().await?);
                Ok(Arc::new(OnThread::spawn("embed", threads, embed)?))
            }
            Work::Rerank(work) => {
                let model = self.local(&work.backend)?;
                let rerank = Rerank::new(model.encoder().await?, model.adapters().await?);
                Ok(Arc::new(OnThread::spawn("rerank", threads, rerank)?))
            }
            Work::Generate(work) => {
                let model = self.local(&work.backend)?;
                let options = GenerateOptions {
                    threads,
                    max_context: model.max_tokens(),
                    ..GenerateOptions::default()
                };
                let (language, adapters) = (model.decoder().await?, model.adapters().await?);
                Ok(Arc::new(Generate::start(
                    "generate", language, adapters, &options,
                )?))
            }
            Work::Search(work) => {
                let cpus = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
                Ok(Arc::new(Search::new(self.searched(work, cpus).await?)))
            }
            Work::Split(work) => Ok(Arc::new(Split::new(work))),
            Work::Http(work) => Ok(Arc::new(Http::new(work)?)),
            Work::Python(work) => {
                let python = Python::start(work, order, &self.base_dir, &self.environments);
                Ok(Arc::new(python.await?))
            }
            Work::Infer(work) => Ok(Arc::new(Infer::connect(work, order.batched).await?)),
            other => Err(NodeError::failed(format!(
                "{} nodes are not built yet",
                other.kind().name()
            ))),
        }
    }

    fn local(&self, backend: &Backend) -> Result<Arc<Declared>, NodeError> {
        match backend {
            Backend::Local(local) => self.model(local.model.as_str()),
            Backend::Remote(_) => Err(NodeError::failed("this node has no model")),
        }
    }
}

impl Catalog for StandardCatalog {
    fn build<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Arc<dyn Node>, NodeError>> {
        Box::pin(async move {
            let node = self.node(order).await?;
            warm(order.work, Arc::clone(&node)).await?;
            Ok(node)
        })
    }

    fn adapters(&self, model: &str) -> Option<Arc<dyn AdapterStore>> {
        self.models.get(model)?.store()
    }
}

/// The node of a work that a service does; none for other works. Whether the service is there shows
/// when it is asked: a file can be loaded without it.
fn remote(work: &Work) -> Option<Result<Arc<dyn Node>, NodeError>> {
    let backend = match work {
        Work::Embed(work) => &work.backend,
        Work::Rerank(work) => &work.backend,
        Work::Generate(work) => &work.backend,
        _ => return None,
    };
    let Backend::Remote(spec) = backend else {
        return None;
    };
    Some(match work {
        Work::Embed(_) => RemoteEmbed::new(spec).map(|node| Arc::new(node) as Arc<dyn Node>),
        Work::Rerank(_) => RemoteRerank::new(spec).map(|node| Arc::new(node) as Arc<dyn Node>),
        _ => RemoteGenerate::new(spec).map(|node| Arc::new(node) as Arc<dyn Node>),
    })
}

/// Lets a model run once before requests come, so that none of them pays for first touches of
/// memory.
async fn warm(work: &Work, node: Arc<dyn Node>) -> Result<(), NodeError> {
    let Work::Embed(work) = work else {
        return Ok(());
    };
    match &work.backend {
        Backend::Local(local) if local.adapter.is_none() => {}
        // A service may not be there yet, and which adapters there are is for requests to say.
        Backend::Local(_) | Backend::Remote(_) => return Ok(()),
    }
    let sample = Input {
        arguments: [("text", crate::Value::text("warm"))].into_iter().collect(),
        context: crate::Context::default(),
    };
    for result in node.run(vec![sample]).await {
        result?;
    }
    Ok(())
}

fn not_declared(what: &'static str, name: &str) -> NodeError {
    NodeError::NotFound {
        what,
        name: name.to_owned(),
    }
}

/// The folder of an index on this machine.
fn folder(decl: &IndexDecl, base_dir: &Path) -> Option<PathBuf> {
    match &decl.backend {
        IndexBackend::Embedded { path } => Some(base_dir.join(path.expose())),
        _ => None,
    }
}

/// An error, with the index that it is about.
fn of_index(decl: &IndexDecl, error: NodeError) -> NodeError {
    let reason = format!("index `{}`: {error}", *decl.id);
    match error {
        NodeError::Unavailable { retry_after, .. } => NodeError::Unavailable {
            reason,
            retry_after,
        },
        NodeError::Failed { source, .. } => NodeError::Failed { reason, source },
        _ => NodeError::failed(reason),
    }
}

fn absent(decl: &IndexDecl, base_dir: &Path) -> NodeError {
    let id = &*decl.id;
    let place = match &decl.backend {
        IndexBackend::Embedded { .. } => match folder(decl, base_dir) {
            Some(path) => format!("there is no index in {}", path.display()),
            None => "there is no index".to_owned(),
        },
        IndexBackend::Qdrant(spec) => {
            format!("Qdrant has no collection `{}`", spec.collection.value)
        }
        IndexBackend::Milvus(spec) => {
            format!("Milvus has no collection `{}`", spec.collection.value)
        }
        IndexBackend::Pgvector(spec) => format!("PostgreSQL has no table `{}`", spec.table.value),
    };
    NodeError::failed(format!(
        "index `{id}`: {place}; `engine index` makes it and fills it"
    ))
}

/// Whether an index holds vectors of the size that its declaration says, and its model makes.
fn fits(decl: &IndexDecl, held: Option<usize>, made: Option<usize>) -> Result<(), NodeError> {
    let stated = decl.dimensions.as_ref().map(|stated| stated.value as usize);
    let id = &*decl.id;
    for (wanted, whose) in [(made, "its model makes"), (stated, "`dimensions` says")] {
        if let (Some(wanted), Some(held)) = (wanted, held)
            && wanted != held
        {
            let reason = format!("index `{id}` holds vectors of {held}, and {whose} {wanted}");
            return Err(NodeError::failed(reason));
        }
    }
    Ok(())
}

/// The vectors of texts.
fn embedded(encoder: &Encoder, texts: &[&str]) -> Result<Vec<Vec<f32>>, NodeError> {
    let read = |text: &&str| {
        let tokens = encoder
            .tokenize()
            .text(text)
            .map_err(|error| NodeError::invalid(error.to_string()))?;
        Ok(Sequence {
            tokens,
            adapter: None,
        })
    };
    let sequences: Vec<_> = texts.iter().map(read).collect::<Result<_, NodeError>>()?;
    let vectors = encoder.embed(&sequences);
    let vectors = vectors.map_err(|error| NodeError::because("failed to embed", error))?;
    Ok(vectors.iter().map(|vector| vector.to_vec()).collect())
}

fn reading(corpus: &Corpus) -> Reading {
    let exclude = corpus.exclude.iter();
    Reading {
        exclude: exclude.map(|path| path.expose().into()).collect(),
        passage_size: corpus.passage_size as usize,
    }
}

/// Runs work that computes or waits for a disk on a thread that may be blocked.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| NodeError::because("work ended early", error))
}
