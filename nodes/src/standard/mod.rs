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
    index::{Build, Built, EmbeddedBy, Index, IndexError, Manifest, Reading, documents},
    model::Sequence,
    python::Environments,
    residency::AdapterStore,
    source::Fetcher,
};
use futures::future::BoxFuture;
use model::Declared;
use schema::{Corpus, IndexBackend, IndexDecl, LockedSource, ModelDecl, Name, Work, kind::Backend};
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
    open: OnceCell<Index>,
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
    /// there yet.
    pub fn missing_indexes(&self) -> Vec<Name> {
        let mut missing: Vec<_> = self
            .indexes
            .values()
            .filter(|index| index.decl.from.is_some())
            .filter(|index| {
                folder(&index.decl, &self.base_dir).is_some_and(|path| !Index::exists(&path))
            })
            .map(|index| index.decl.id.value.clone())
            .collect();
        missing.sort();
        missing
    }

    /// Puts documents into an index, which is made if it is not there; without `data`, those that
    /// its declaration names. Vectors are computed on `threads` threads; `progress` is told how many
    /// documents are done of how many.
    ///
    /// # Errors
    /// The documents cannot be read, the model cannot be had, or another process is writing.
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
        let data = match data {
            [] => from.into_iter().collect(),
            data => data.to_vec(),
        };
        let encoder = match &declared.decl.model {
            Some(model) => Some(self.model(model.as_str())?.encoder().await?),
            None => None,
        };
        let made_with = declared.decl.model.as_ref().map(|model| EmbeddedBy {
            name: model.as_str().to_owned(),
            digest: None,
        });
        let dimensions = encoder.as_ref().map(|encoder| encoder.dimensions());
        let index = self
            .open_or_create(&declared, dimensions, made_with)
            .await?;
        let fill = move || {
            let embed = |texts: &[&str]| {
                let Some(encoder) = &encoder else {
                    return Err(NodeError::failed(
                        "the index has vectors and names no model",
                    ));
                };
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
                let vectors =
                    vectors.map_err(|error| NodeError::because("failed to embed", error))?;
                Ok(vectors.iter().map(|vector| vector.to_vec()).collect())
            };
            let found: Result<Vec<_>, _> =
                data.iter().map(|path| documents(path, &reading)).collect();
            let found = found?;
            let total = found.iter().map(|documents| documents.total).sum();
            let records = found.into_iter().flat_map(|documents| documents.records);
            let run = || build.run(&index, records, total, embed, progress);
            ComputePool::new(threads).install(run)
        };
        Ok(blocking(fill).await??)
    }

    /// Deletes documents of an index and says how many there are left.
    ///
    /// # Errors
    /// There is no such index, or another process is writing.
    pub async fn delete(&self, index: &str, ids: Vec<String>) -> Result<u64, NodeError> {
        let index = self.open(self.index(index)?.as_ref()).await?;
        let delete = move || -> Result<u64, IndexError> {
            let mut writer = index.writer()?;
            for id in &ids {
                writer.delete(id);
            }
            Ok(writer.finish()?.documents)
        };
        Ok(blocking(delete).await??)
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
    async fn open(&self, declared: &DeclaredIndex) -> Result<Index, NodeError> {
        let path = self.embedded(&declared.decl)?;
        let open = move || Index::open(&path);
        let index = declared
            .open
            .get_or_try_init(|| async { Ok::<_, NodeError>(blocking(open).await??) });
        index.await.cloned()
    }

    async fn open_or_create(
        &self,
        declared: &DeclaredIndex,
        dimensions: Option<usize>,
        model: Option<EmbeddedBy>,
    ) -> Result<Index, NodeError> {
        let path = self.embedded(&declared.decl)?;
        if !Index::exists(&path) {
            let manifest = Manifest::new(dimensions, model);
            blocking(move || Index::create(&path, &manifest)).await??;
        }
        self.open(declared).await
    }

    fn embedded(&self, decl: &IndexDecl) -> Result<PathBuf, NodeError> {
        folder(decl, &self.base_dir).ok_or_else(|| {
            NodeError::failed(format!("index `{}` is not on this machine", *decl.id))
        })
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
                let index = self.open(self.index(work.index.as_str())?.as_ref()).await?;
                let cpus = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
                Ok(Arc::new(Search::new(index, cpus)))
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
