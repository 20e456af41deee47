//! A declared model: fetched once, loaded once, shared.

use super::blocking;
use crate::{
    NodeError,
    adapter::{Adapter, Adapters, NoAdapters},
    model::{Encoder, EncoderOptions, decoder::LanguageModel},
    ops::WeightType,
    residency::{AdapterFolder, AdapterStore, Policy, Residency, names_in},
    source::{Fetcher, Settings, Silent},
};
use candle_core::Device;
use futures::future::BoxFuture;
use schema::{AdapterSet, ModelDecl};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::OnceCell, time::Instant};

/// A model as declared, and what is loaded of it.
pub struct Declared {
    pub decl: ModelDecl,
    base_dir: PathBuf,
    fetcher: Arc<Fetcher>,
    loaded: OnceCell<Loading>,
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
            loaded: OnceCell::new(),
            adapters: OnceCell::new(),
        }
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
        let resident = self.adapters.get_or_try_init(|| self.resident());
        Ok(Arc::clone(resident.await?) as Arc<dyn Adapters>)
    }

    /// The adapters, once a node of this model was built.
    pub fn store(&self) -> Option<Arc<dyn AdapterStore>> {
        Some(Arc::clone(self.adapters.get()?) as Arc<dyn AdapterStore>)
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

    async fn resident(self: &Arc<Self>) -> Result<Arc<Residency<Adapter>>, NodeError> {
        let base = match self.load().await? {
            Loaded::Encoder(encoder) => encoder.base().clone(),
            Loaded::Decoder(decoder) => decoder.decoder.adapter_base(),
        };
        let usual = AdapterSet::default();
        let set = self.decl.adapters.as_deref().unwrap_or(&usual);
        let root = set
            .path
            .as_ref()
            .map(|path| self.base_dir.join(path.expose()));
        let loader = AdapterFolder::of(root, Arc::new(base))
            .with_home(&self.base_dir)
            .with_declared(self.fetch_adapters().await?);
        let resident = Residency::new(loader, Policy::new(set.max_loaded, set.max_bytes));
        for name in &set.pin {
            resident.pin(name.as_str()).await?;
        }
        Ok(Arc::new(resident))
    }

    pub fn summary(&self) -> Option<ModelSummary> {
        let loading = self.loaded.get()?;
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
        let load = Arc::clone(self).load_now();
        Ok(self.loaded.get_or_try_init(|| load).await?.model.clone())
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

/// The size of the vectors of a declared encoder, as far as its files are on this machine already.
/// Loads and fetches nothing.
pub fn local_dimensions(decl: &ModelDecl, base_dir: &Path) -> Option<usize> {
    let mut settings = Settings::from_environment();
    settings.offline = true;
    base_dir.clone_into(&mut settings.base_dir);
    let fetcher = Fetcher::new(settings, Arc::new(Silent));
    let sources = decl.sources.iter().map(|source| &source.value);
    let folder = fetcher.fetch_blocking(sources).ok()?.path;
    let config = std::fs::read(folder.join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&config).ok()?;
    usize::try_from(config["hidden_size"].as_u64()?).ok()
}

/// The names of the adapters in the folder of a declared model; `None` if it has no folder, or that
/// cannot be read here. Loads and fetches nothing.
pub fn local_adapters(decl: &ModelDecl, base_dir: &Path) -> Option<Vec<String>> {
    let folder = base_dir.join(decl.adapters.as_ref()?.path.as_ref()?.expose());
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
