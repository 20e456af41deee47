//! An object store on loopback that speaks the lists of S3, Google and Azure, and does as it is told.

use super::kit::{cut, settings, sha256};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use nodes::source::{ObjectSettings, Settings};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tempfile::TempDir;

/// The one bucket.
pub const BUCKET: &str = "models";
/// A key that no message may repeat.
pub const SECRET: &str = "wJalrXUtnFEMI";

const MODIFIED: &str = "Wed, 12 Mar 2025 10:00:00 GMT";

/// What the store holds, does and saw.
pub struct Inner {
    /// Contents by their keys.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// What a list is, instead of what there is.
    pub listed: Option<Vec<String>>,
    /// Every question is answered so, with this code.
    pub refuses: Option<(StatusCode, &'static str)>,
    /// So many bytes of bodies are sent in all; then connections are cut and questions answered 503.
    pub allowance: usize,
    /// What an object holds once the allowance is used up.
    pub exchange: Option<(String, Vec<u8>)>,
    /// Questions: method, key or `?prefix`, range.
    pub seen: Vec<(Method, String, Option<String>)>,
}

#[derive(Clone)]
pub struct Bucket {
    pub address: String,
    inner: Arc<Mutex<Inner>>,
}

impl Bucket {
    pub async fn start(objects: &[(&str, &[u8])]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let objects = objects.iter();
        let bucket = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            inner: Arc::new(Mutex::new(Inner {
                objects: objects
                    .map(|(key, bytes)| ((*key).to_owned(), bytes.to_vec()))
                    .collect(),
                listed: None,
                refuses: None,
                allowance: usize::MAX,
                exchange: None,
                seen: Vec::new(),
            })),
        };
        let router = Router::new().fallback(answer).with_state(bucket.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        bucket
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Settings that lead to it by all three protocols.
    pub fn settings(&self, folder: &TempDir) -> Settings {
        let account = format!(
            r#"{{"private_key":"{SECRET}","private_key_id":"id","client_email":"e","disable_oauth":true}}"#
        );
        let variables = [
            ("AWS_ENDPOINT_URL", self.address.as_str()),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "eu-west-1"),
            ("GOOGLE_BASE_URL", &self.address),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", &account),
            ("AZURE_STORAGE_ENDPOINT", &self.address),
            ("AZURE_STORAGE_ACCOUNT_NAME", "account"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "d0phbHJYVXRuRkVNSQ=="),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut objects = ObjectSettings::of(variables);
        objects.retry_pause = Duration::from_millis(5);
        Settings {
            objects,
            ..settings(folder)
        }
    }

    /// The ranges of bytes that were asked for of an object, in order; `""` for all of it.
    pub fn downloads(&self, key: &str) -> Vec<String> {
        let seen = self.inner().seen.clone();
        let of_key = seen
            .into_iter()
            .filter(|(method, seen, _)| *method == Method::GET && seen == key);
        of_key
            .map(|(_, _, range)| range.unwrap_or_default())
            .collect()
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.inner().objects.insert(key.to_owned(), bytes.to_vec());
    }
}

async fn answer(State(bucket): State<Bucket>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let path = decoded(request.uri().path());
    let range = request.headers().get(header::RANGE);
    let range = range.map(|range| range.to_str().unwrap().to_owned());
    let mut inner = bucket.inner();
    let path = path.trim_start_matches('/');
    let (named, key) = path.split_once('/').unwrap_or((path, ""));
    let shown = match query.contains("list") {
        true => format!("?{}", option(&query, "prefix")),
        false => key.to_owned(),
    };
    inner
        .seen
        .push((request.method().clone(), shown, range.clone()));
    if named != BUCKET {
        return error(StatusCode::NOT_FOUND, "NoSuchBucket");
    }
    if let Some((status, code)) = inner.refuses {
        return error(status, code);
    }
    if inner.allowance == 0 {
        return error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
    }
    if query.contains("comp=list") {
        return azure_list(&inner, &query);
    }
    if query.contains("list-type=2") {
        return list(&inner, &query);
    }
    let Some(bytes) = inner.objects.get(key).cloned() else {
        return error(StatusCode::NOT_FOUND, "NoSuchKey");
    };
    let allowed = inner.allowance;
    let response = object(&bytes, range.as_deref(), request.headers(), allowed);
    if request.method() == Method::HEAD {
        let (parts, _) = response.0.into_parts();
        return Response::from_parts(parts, Body::empty());
    }
    if allowed != usize::MAX {
        inner.allowance = allowed - response.1.min(allowed);
    }
    if inner.allowance == 0
        && let Some((key, bytes)) = inner.exchange.take()
    {
        inner.objects.insert(key, bytes);
        inner.allowance = usize::MAX;
    }
    response.0
}

/// The answer, and how many bytes are in it.
fn object(
    bytes: &[u8],
    range: Option<&str>,
    headers: &HeaderMap,
    allowed: usize,
) -> (Response, usize) {
    let etag = etag(bytes);
    if headers
        .get(header::IF_MATCH)
        .is_some_and(|wanted| wanted != &etag)
    {
        let refused = error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        return (refused, 0);
    }
    let start: usize = range.map_or(0, |range| {
        let range = range.strip_prefix("bytes=").unwrap();
        range.split('-').next().unwrap().parse().unwrap()
    });
    let rest = bytes[start..].to_vec();
    let mut response = Response::builder()
        .header(header::ETAG, etag)
        .header(header::LAST_MODIFIED, MODIFIED)
        .header(header::CONTENT_LENGTH, rest.len());
    if range.is_some() {
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, range);
    }
    let sent = rest.len();
    let body = match sent > allowed {
        true => cut(rest, allowed),
        false => Body::from(rest),
    };
    (response.body(body).unwrap(), sent)
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &sha256(bytes)[..32])
}

/// What S3 and Google say of a prefix.
fn list(inner: &Inner, query: &str) -> Response {
    let (keys, folders) = keys(inner, query);
    let mut xml = String::from("<ListBucketResult>");
    for (key, bytes) in keys {
        let _ = write!(
            xml,
            "<Contents><Key>{key}</Key><LastModified>2025-03-12T10:00:00.000Z</LastModified>\
             <ETag>{}</ETag><Size>{}</Size></Contents>",
            etag(&bytes).replace('"', "&quot;"),
            bytes.len()
        );
    }
    for folder in folders {
        let _ = write!(
            xml,
            "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
        );
    }
    (xml + "</ListBucketResult>").into_response()
}

/// What Azure says of a prefix.
fn azure_list(inner: &Inner, query: &str) -> Response {
    let (keys, folders) = keys(inner, query);
    let mut xml = String::from("<EnumerationResults><Blobs>");
    for (key, bytes) in keys {
        let _ = write!(
            xml,
            "<Blob><Name>{key}</Name><Properties><Last-Modified>{MODIFIED}</Last-Modified>\
             <Etag>{}</Etag><Content-Length>{}</Content-Length>\
             <Content-Type>application/octet-stream</Content-Type></Properties></Blob>",
            // Without quotes, unlike the header.
            etag(&bytes).replace('"', ""),
            bytes.len()
        );
    }
    for folder in folders {
        let _ = write!(xml, "<BlobPrefix><Name>{folder}</Name></BlobPrefix>");
    }
    (xml + "</Blobs><NextMarker/></EnumerationResults>").into_response()
}

/// Keys below a prefix with their contents, and folders if they are asked for.
fn keys(inner: &Inner, query: &str) -> (Vec<(String, Vec<u8>)>, BTreeSet<String>) {
    let prefix = option(query, "prefix");
    if let Some(listed) = &inner.listed {
        let keys = listed
            .iter()
            .map(|key| (format!("{prefix}{key}"), Vec::new()));
        return (keys.collect(), BTreeSet::new());
    }
    let below = inner
        .objects
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix));
    let by_folder = query.contains("delimiter=");
    let (mut keys, mut folders) = (Vec::new(), BTreeSet::new());
    for (key, bytes) in below {
        match key[prefix.len()..].split_once('/').filter(|_| by_folder) {
            Some((folder, _)) => {
                folders.insert(format!("{prefix}{folder}/"));
            }
            None => keys.push((key.clone(), bytes.clone())),
        }
    }
    (keys, folders)
}

fn option(query: &str, name: &str) -> String {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == name);
    value.map_or(String::new(), |(_, value)| {
        decoded(&value.replace('+', " "))
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| std::str::from_utf8(&after[..2]).unwrap());
        bytes.push(hex.map_or(*first, |hex| u8::from_str_radix(hex, 16).unwrap()));
        rest = if hex.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap()
}

fn error(status: StatusCode, code: &str) -> Response {
    let body = format!("<Error><Code>{code}</Code><Message>so it is</Message></Error>");
    (status, body).into_response()
}
