//! A declared model: fetched once, loaded once, shared.

use super::blocking;
use crate::{
    NodeError,
    adapter::{Adapter, Adapters, NoAdapters},
    model::{Encoder, EncoderOptions, decoder::LanguageModel},
    ops::WeightType,
    residency::{AdapterFolder, AdapterStore, Policy, RemoteFolder, Residency, names_in},
    source::{Fetcher, Settings, Silent},
};
use candle_core::Device;
use futures::future::BoxFuture;
use schema::{AdapterSet, Lock, LockedSource, ModelDecl, ModelSource};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::OnceCell, time::Instant};

/// A model as declared, and what is loaded of it.
pub struct Declared {
    pub decl: ModelDecl,
    base_dir: PathBuf,
    fetcher: Arc<Fetcher>,
    /// What is loaded; another cell takes its place when that is let go.
    memory: Mutex<Arc<Memory>>,
}

/// What of a model is in memory.
#[derive(Default)]
struct Memory {
    model: OnceCell<Loading>,
    adapters: OnceCell<Arc<Residency<Adapter>>>,
}

/// A model in memory.
#[derive(Clone)]
pub enum Loaded {
    Encoder(Encoder),
    Decoder(Arc<LanguageModel>),
}

struct Loading {
    model: Loaded,
    took: Duration,
    bytes: u64,
}

/// What a person wants to know of a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSummary {
    /// Its name in the file.
    pub model: String,
    /// What it does.
    pub family: &'static str,
    /// The size of its weights on disk.
    pub bytes: u64,
    /// How long it took to load, once its files were there.
    pub took: Duration,
}

impl Declared {
    pub fn new(decl: ModelDecl, base_dir: &Path, fetcher: Arc<Fetcher>) -> Self {
        Self {
            decl,
            base_dir: base_dir.to_owned(),
            fetcher,
            memory: Mutex::default(),
        }
    }

    /// Lets go of what is loaded. Replicas that run keep it; one that is built afterwards loads it
    /// again.
    pub fn unload(&self) {
        *self.guard() = Arc::default();
    }

    fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.guard())
    }

    fn guard(&self) -> MutexGuard<'_, Arc<Memory>> {
        // Nothing happens under the lock that could panic.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn max_tokens(&self) -> Option<usize> {
        self.decl
            .max_tokens
            .as_ref()
            .map(|most| most.value as usize)
    }

    pub async fn fetch(&self) -> Result<PathBuf, NodeError> {
        let sources: Vec<_> = self
            .decl
            .sources
            .iter()
            .map(|source| &source.value)
            .collect();
        match self.fetcher.fetch(sources).await {
            Ok(files) => Ok(files.path),
            Err(error) => {
                let reason = format!("failed to fetch model `{}`", *self.decl.id);
                Err(NodeError::because(reason, error))
            }
        }
    }

    pub async fn encoder(self: &Arc<Self>) -> Result<Encoder, NodeError> {
        match self.load().await? {
            Loaded::Encoder(encoder) => Ok(encoder),
            Loaded::Decoder(_) => {
                Err(self.wrong_family("a decoder, which generates", "an encoder"))
            }
        }
    }

    pub async fn decoder(self: &Arc<Self>) -> Result<Arc<LanguageModel>, NodeError> {
        match self.load().await? {
            Loaded::Decoder(decoder) => Ok(decoder),
            Loaded::Encoder(_) => {
                Err(self.wrong_family("an encoder, which embeds and reranks", "a decoder"))
            }
        }
    }

    /// Where items find the adapters of this model.
    pub async fn adapters(self: &Arc<Self>) -> Result<Arc<dyn Adapters>, NodeError> {
        if !self.decl.takes_adapters() {
            return Ok(Arc::new(NoAdapters));
        }
        let memory = self.memory();
        let resident = memory.adapters.get_or_try_init(|| self.resident());
        Ok(Arc::clone(resident.await?) as Arc<dyn Adapters>)
    }

    /// The adapters, once a node of this model was built.
    pub fn store(&self) -> Option<Arc<dyn AdapterStore>> {
        Some(Arc::clone(self.memory().adapters.get()?) as Arc<dyn AdapterStore>)
    }

    /// Fetches the adapters that are declared with sources, by name.
    pub async fn fetch_adapters(&self) -> Result<BTreeMap<String, PathBuf>, NodeError> {
        let mut folders = BTreeMap::new();
        for adapter in &self.decl.named_adapters {
            let sources = adapter.sources.iter().map(|source| &source.value);
            let files = self.fetcher.fetch(sources).await.map_err(|error| {
                let (adapter, model) = (adapter.id.as_str(), &*self.decl.id);
                let reason = format!("failed to fetch adapter `{adapter}` of model `{model}`");
                NodeError::because(reason, error)
            })?;
            folders.insert(adapter.id.as_str().to_owned(), files.path);
        }
        Ok(folders)
    }

    /// The folder of adapters on this disk.
    fn adapter_root(&self) -> Option<PathBuf> {
        let set = self.decl.adapters.as_deref()?;
        let path = set.path.as_ref().filter(|_| !set.is_remote())?;
        Some(self.base_dir.join(path.expose()))
    }

    /// The folder of adapters in an object store.
    fn remote_root(&self) -> Result<Option<RemoteFolder>, NodeError> {
        let set = self.decl.adapters.as_deref().filter(|set| set.is_remote());
        let uri = set.and_then(|set| set.path.as_ref());
        uri.map(|uri| RemoteFolder::new(uri.expose(), Arc::clone(&self.fetcher)))
            .transpose()
    }

    /// What the sources of the model and of its adapters stand for now, those in its folder included.
    pub async fn lock(&self) -> Result<Vec<LockedSource>, NodeError> {
        let model = self.decl.id.as_str();
        let sources: Vec<_> = self.decl.sources.iter().map(|it| &it.value).collect();
        let mut locked = vec![self.resolve(&format!("model `{model}`"), sources).await?];
        for adapter in &self.decl.named_adapters {
            let what = format!("adapter `{}` of model `{model}`", adapter.id.as_str());
            let sources: Vec<_> = adapter.sources.iter().map(|it| &it.value).collect();
            locked.push(self.resolve(&what, sources).await?);
        }
        let Some(root) = self.decl.adapters.as_deref().and_then(AdapterSet::root_uri) else {
            return Ok(locked);
        };
        let (names, end) = match (self.remote_root()?, self.adapter_root()) {
            (Some(remote), _) => (
                blocking(move || remote.names())
                    .await?
                    .map_err(cannot_list)?,
                "/",
            ),
            (None, Some(folder)) => (names_in(&folder).map_err(cannot_list)?, ""),
            (None, None) => return Ok(locked),
        };
        for name in names {
            let source = ModelSource::of(format!("{root}{name}{end}"));
            let what = format!("adapter `{name}` of model `{model}`");
            locked.push(self.resolve(&what, vec![&source]).await?);
        }
        Ok(locked)
    }

    async fn resolve(
        &self,
        what: &str,
        sources: Vec<&ModelSource>,
    ) -> Result<LockedSource, NodeError> {
        let resolved = self.fetcher.resolve(sources).await;
        resolved.map_err(|error| NodeError::because(format!("failed to lock {what}"), error))
    }

    async fn resident(self: &Arc<Self>) -> Result<Arc<Residency<Adapter>>, NodeError> {
        let base = match self.load().await? {
            Loaded::Encoder(encoder) => encoder.base().clone(),
            Loaded::Decoder(decoder) => decoder.decoder.adapter_base(),
        };
        let usual = AdapterSet::default();
        let set = self.decl.adapters.as_deref().unwrap_or(&usual);
        let mut loader = AdapterFolder::of(self.adapter_root(), Arc::new(base))
            .with_home(&self.base_dir)
            .with_declared(self.fetch_adapters().await?);
        if let Some(root) = self.remote_root()? {
            loader = loader.with_remote(root);
        }
        if let Some(root) = set.root_uri() {
            loader = loader.with_lock(Arc::clone(&self.fetcher), root);
        }
        let resident = Residency::new(loader, Policy::new(set.max_loaded, set.max_bytes));
        for name in &set.pin {
            resident.pin(name.as_str()).await?;
        }
        Ok(Arc::new(resident))
    }

    pub fn summary(&self) -> Option<ModelSummary> {
        let memory = self.memory();
        let loading = memory.model.get()?;
        Some(ModelSummary {
            model: self.decl.id.as_str().to_owned(),
            family: match &loading.model {
                Loaded::Encoder(_) => "encoder",
                Loaded::Decoder(_) => "decoder",
            },
            bytes: loading.bytes,
            took: loading.took,
        })
    }

    fn wrong_family(&self, is: &str, wanted: &str) -> NodeError {
        NodeError::failed(format!(
            "model `{}` is {is}; this node needs {wanted}",
            *self.decl.id
        ))
    }

    async fn load(self: &Arc<Self>) -> Result<Loaded, NodeError> {
        let (memory, load) = (self.memory(), Arc::clone(self).load_now());
        Ok(memory.model.get_or_try_init(|| load).await?.model.clone())
    }

    fn load_now(self: Arc<Self>) -> BoxFuture<'static, Result<Loading, NodeError>> {
        Box::pin(async move {
            let path = self.fetch().await?;
            let start = Instant::now();
            let bytes = size(&path);
            let model = blocking(move || load(&self.decl, &path)).await??;
            Ok(Loading {
                model,
                took: start.elapsed(),
                bytes,
            })
        })
    }
}

/// Loads an encoder from a folder, a decoder from a file.
fn load(decl: &ModelDecl, path: &Path) -> Result<Loaded, NodeError> {
    let id = decl.id.as_str();
    let device = device(&decl.device)?;
    if path.is_file() {
        if decl.dtype.value == "int8" {
            let reason =
                format!("model `{id}`: a GGUF file brings its own number types; leave `dtype` out");
            return Err(NodeError::failed(reason));
        }
        let model = LanguageModel::load(path, &device);
        let model = model
            .map_err(|error| NodeError::because(format!("failed to load model `{id}`"), error))?;
        return Ok(Loaded::Decoder(Arc::new(model)));
    }
    let options = EncoderOptions {
        max_tokens: decl.max_tokens.as_ref().map(|most| most.value as usize),
        weights: match decl.dtype.value.as_str() {
            "int8" => WeightType::Int8,
            _ => WeightType::F32,
        },
        device,
    };
    let encoder = Encoder::load(path, &options);
    let encoder = encoder
        .map_err(|error| NodeError::because(format!("failed to load model `{id}`"), error))?;
    Ok(Loaded::Encoder(encoder))
}

/// `cpu`, or `cuda:N` in an engine that was built for it.
fn device(name: &str) -> Result<Device, NodeError> {
    let Some(ordinal) = name.strip_prefix("cuda:") else {
        return Ok(Device::Cpu);
    };
    if !cfg!(feature = "cuda") {
        return Err(NodeError::failed(format!(
            "device {name:?} takes an engine that is built with `--features cuda`"
        )));
    }
    let ordinal = ordinal
        .parse()
        .map_err(|_| NodeError::failed(format!("no device {name:?}")))?;
    Device::new_cuda(ordinal)
        .map_err(|error| NodeError::because(format!("device {name:?} is not available"), error))
}

fn cannot_list(error: impl std::error::Error + Send + Sync + 'static) -> NodeError {
    NodeError::because("failed to list the adapters", error)
}

/// The size of the vectors of a declared encoder, as far as its files are on this machine already,
/// those of a lock if there is one. Loads and fetches nothing.
pub fn local_dimensions(decl: &ModelDecl, base_dir: &Path, lock: Option<&Lock>) -> Option<usize> {
    let mut settings = Settings::from_environment();
    settings.offline = true;
    base_dir.clone_into(&mut settings.base_dir);
    let fetcher = Fetcher::new(settings, Arc::new(Silent));
    fetcher.use_lock(lock.cloned(), false);
    let sources = decl.sources.iter().map(|source| &source.value);
    dimensions_of(&fetcher.fetch_blocking(sources).ok()?.path)
}

/// The size of the vectors of an encoder whose files lie in a folder.
pub(super) fn dimensions_of(folder: &Path) -> Option<usize> {
    let config = std::fs::read(folder.join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&config).ok()?;
    usize::try_from(config["hidden_size"].as_u64()?).ok()
}

/// The names of the adapters in the folder of a declared model; `None` if it has no folder, or that
/// cannot be read here. Loads and fetches nothing.
pub fn local_adapters(decl: &ModelDecl, base_dir: &Path) -> Option<Vec<String>> {
    let set = decl.adapters.as_ref().filter(|set| !set.is_remote())?;
    let folder = base_dir.join(set.path.as_ref()?.expose());
    if !folder.exists() {
        return Some(Vec::new());
    }
    folder.is_dir().then(|| names_in(&folder).ok())?
}

/// Bytes of a file, or of the weights in a folder.
fn size(path: &Path) -> u64 {
    let of = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    if path.is_file() {
        return of(path);
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    files
        .filter(|file| file.extension().is_some_and(|kind| kind == "safetensors"))
        .map(|file| of(&file))
        .sum()
}
