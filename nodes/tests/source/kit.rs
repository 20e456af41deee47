//! What the tests of model sources share: settings in a folder of their own, and a hub to talk to.

#![expect(dead_code, reason = "each test file uses its part")]

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use nodes::source::{
    Fetcher, HubSettings, ModelFiles, ObjectSettings, Progress, Settings, SourceError, Transfer,
};
use schema::{ModelSource, Span, Spanned};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

/// A caches' folder, and settings that lead there.
pub fn settings(folder: &TempDir) -> Settings {
    Settings {
        base_dir: folder.path().join("base"),
        cache_dir: folder.path().join("engine"),
        offline: false,
        hub: HubSettings {
            cache_dir: folder.path().join("hub"),
            endpoint: "http://127.0.0.1:9".to_owned(),
            token: None,
            offline: false,
            retry_pause: Duration::from_millis(5),
        },
        objects: ObjectSettings::of([]),
        python: "python3".into(),
        pip_environment: Vec::new(),
    }
}

/// A source without a digest.
pub fn source(uri: &str) -> ModelSource {
    ModelSource::of(uri)
}

/// A source whose file must have a digest.
pub fn pinned(uri: &str, sha256: &str) -> ModelSource {
    ModelSource {
        sha256: Some(Spanned::new(sha256.to_owned(), Span::default())),
        ..source(uri)
    }
}

pub async fn fetch(settings: Settings, source: ModelSource) -> Result<ModelFiles, SourceError> {
    Fetcher::new(settings, Arc::new(nodes::source::Silent))
        .fetch([&source])
        .await
}

/// The message of a fetch that fails.
pub async fn refusal(settings: Settings, source: ModelSource) -> String {
    fetch(settings, source).await.unwrap_err().to_string()
}

pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A safetensors file of `size` bytes of weights.
pub fn weights(size: usize) -> Vec<u8> {
    let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend((0..size).map(|index| (index * 7 + index / 251) as u8));
    file
}

/// The head of a GGUF file without tensors, and `size` bytes after it.
pub fn gguf(size: usize) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.resize(24, 0);
    file.extend((0..size).map(|index| (index * 5 + index / 241) as u8));
    file
}

/// Notes what it is told.
#[derive(Clone, Default)]
pub struct Noted(pub Arc<Mutex<Vec<String>>>);

impl Noted {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct NotedTransfer {
    name: String,
    last: u64,
    lines: Noted,
}

impl Progress for Noted {
    fn start(&self, name: &str, total: Option<u64>) -> Box<dyn Transfer> {
        let mut lines = self.0.lock().unwrap();
        lines.push(format!("start {name} of {total:?}"));
        Box::new(NotedTransfer {
            name: name.to_owned(),
            last: 0,
            lines: self.clone(),
        })
    }
}

impl Transfer for NotedTransfer {
    fn at(&mut self, bytes: u64) {
        self.last = bytes;
    }

    fn finish(self: Box<Self>) {
        let line = format!("finish {} at {}", self.name, self.last);
        self.lines.0.lock().unwrap().push(line);
    }
}

/// A request that the hub saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
}

/// What a hub does.
#[derive(Default)]
pub struct Script {
    /// Files by their paths in the repository.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Without this token, 401.
    pub needs: Option<String>,
    /// Weights are served by the server at this address, to which this one redirects.
    pub elsewhere: Option<String>,
    /// The connection is cut after so many bytes of a body, so many times.
    pub cut: Option<(usize, AtomicU64)>,
    /// Bytes are served changed, so that no digest fits.
    pub corrupt: bool,
    /// `Range` is not understood.
    pub no_ranges: bool,
    /// So many answers say 503 first.
    pub busy: AtomicU64,
}

/// A hub on loopback that plays `org/model`, and what it saw.
#[derive(Clone)]
pub struct Hub {
    pub address: String,
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Hub {
    pub async fn start(script: Script) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hub = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            script: Arc::new(script),
            seen: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(hub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        hub
    }

    /// Settings that lead to it.
    pub fn settings(&self, folder: &TempDir) -> Settings {
        let mut settings = settings(folder);
        settings.hub.endpoint.clone_from(&self.address);
        settings
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How often bytes of a file were asked for.
    pub fn downloads(&self, file: &str) -> usize {
        let is_download = |seen: &&Seen| seen.method == Method::GET && seen.path.ends_with(file);
        self.seen().iter().filter(is_download).count()
    }
}

/// A script with a small encoder in it.
pub fn encoder(size: usize) -> Script {
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    Script {
        files: BTreeMap::from([
            file("model.safetensors", &weights(size)),
            file("config.json", b"{}"),
            file("1_Pooling/config.json", b"{\"mean\":true}"),
            file("README.md", b"read me"),
            file("pytorch_model.bin", b"pickle"),
            file("modeling.py", b"import os"),
        ]),
        ..Script::default()
    }
}

async fn answer(State(hub): State<Hub>, request: Request) -> Response {
    let header = |name| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let seen = Seen {
        method: method.clone(),
        path: path.clone(),
        range: header(header::RANGE),
        token: header(header::AUTHORIZATION),
    };
    hub.seen.lock().unwrap().push(seen.clone());
    let script = &*hub.script;
    let less = |count: u64| count.checked_sub(1);
    if script
        .busy
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
    {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if let Some(token) = &script.needs
        && seen.token != Some(format!("Bearer {token}"))
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if path.starts_with("/api/models/org/model/revision/") {
        let files = script.files.keys();
        let names: Vec<String> = files
            .map(|name| format!(r#"{{"rfilename":"{name}"}}"#))
            .collect();
        return format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, names.join(",")).into_response();
    }
    let file = path
        .strip_prefix(&format!("/org/model/resolve/{COMMIT}/"))
        .or_else(|| path.strip_prefix("/elsewhere/"));
    match file.and_then(|file| Some((file, script.files.get(file)?))) {
        Some((file, bytes)) => serve(script, &seen, file, bytes, request.headers()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn serve(script: &Script, seen: &Seen, file: &str, bytes: &[u8], headers: &HeaderMap) -> Response {
    let is_weights = !file.ends_with(".json");
    let etag = match is_weights {
        true => sha256(bytes),
        false => sha256(bytes)[..40].to_owned(),
    };
    let mut response = Response::builder();
    if is_weights && !seen.path.starts_with("/elsewhere/") {
        response = response
            .header("x-linked-etag", format!("\"{etag}\""))
            .header("x-linked-size", bytes.len());
        if let Some(elsewhere) = &script.elsewhere {
            return response
                .status(StatusCode::FOUND)
                .header(
                    header::LOCATION,
                    format!("{elsewhere}/elsewhere/{file}?signature=x"),
                )
                .body(Body::empty())
                .unwrap();
        }
    }
    let etag = format!("\"{etag}\"");
    let start = seen
        .range
        .as_ref()
        .filter(|_| {
            !script.no_ranges
                && headers
                    .get(header::IF_RANGE)
                    .is_none_or(|value| value == &etag)
        })
        .map(|range| {
            range
                .strip_prefix("bytes=")
                .unwrap()
                .strip_suffix('-')
                .unwrap()
                .parse::<usize>()
                .unwrap()
        });
    response = response.header(header::ETAG, etag);
    let rest = match start {
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, range);
            &bytes[start..]
        }
        None => bytes,
    };
    let mut rest = rest.to_vec();
    if script.corrupt {
        rest.iter_mut().for_each(|byte| *byte ^= 1);
    }
    response = response.header(header::CONTENT_LENGTH, rest.len());
    if seen.method == Method::HEAD {
        return response.body(Body::empty()).unwrap();
    }
    let less = |count: u64| count.checked_sub(1);
    let body = match &script.cut {
        Some((after, times))
            if rest.len() > *after
                && times
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                    .is_ok() =>
        {
            cut(rest, *after)
        }
        _ => Body::from(rest),
    };
    response.body(body).unwrap()
}

/// A body that breaks off. It pauses first, so that what came before is on its way.
pub fn cut(mut bytes: Vec<u8>, after: usize) -> Body {
    bytes.truncate(after);
    let pieces = futures::stream::unfold(Some(bytes), |left| async move {
        match left {
            Some(bytes) => Some((Ok(Bytes::from(bytes)), None)),
            None => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Err(std::io::Error::other("cut")), None))
            }
        }
    });
    Body::from_stream(pieces)
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
