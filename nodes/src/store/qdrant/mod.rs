//! A collection of Qdrant over its REST interface: neighbours, and words by sparse vectors that are made
//! here and weighed there.
//!
//! Ids of points are numbers or UUIDs there. A document's point has a UUID that follows from its id, and
//! the id is in the payload. The collection may be one that people have already; then the names of its
//! vector and of the fields of its payload are options, and words are found if it has a sparse vector that
//! was filled from here.

mod condition;
#[cfg(test)]
mod tests;
mod words;

use super::{Entry, Facts, Plan, Store, Wanted, needs_vectors};
use crate::{
    Document, Map, NodeError,
    endpoint::{Endpoints, Failure, Services, Target, escaped},
    filter::Scalar,
    index::{
        fusion::{depth, fuse},
        json::map_from_json,
    },
};
use futures::future::BoxFuture;
use schema::{QdrantIndex, kind::Placement};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};
use words::Sparse;

/// The field of the payload that holds the digest.
const DIGEST: &str = "digest";
/// How many points are asked for at once where all are wanted.
const PAGE: usize = 1000;
/// How many fields of the metadata get an index that serves filters.
const MOST_INDEXED: usize = 64;

/// A collection that is there.
pub struct Qdrant {
    server: Server,
    spec: QdrantIndex,
    facts: Facts,
    /// Whether its vector has a name.
    named: bool,
    /// Whether a smaller score is better.
    distance: bool,
    /// Fields of the metadata that have an index, as far as it was asked for here.
    indexed: Mutex<HashSet<String>>,
}

#[derive(Clone)]
struct Server {
    endpoints: Endpoints,
    /// The path of the collection.
    path: String,
}

/// What every answer has.
#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

#[derive(Deserialize)]
struct Exists {
    exists: bool,
}

#[derive(Deserialize)]
struct Described {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    vectors: Vectors,
    #[serde(default)]
    sparse_vectors: Option<BTreeMap<String, SparseParams>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vectors {
    One(Dense),
    Named(BTreeMap<String, Dense>),
}

impl Default for Vectors {
    fn default() -> Self {
        Vectors::Named(BTreeMap::new())
    }
}

#[derive(Deserialize, Clone)]
struct Dense {
    size: usize,
    distance: String,
}

#[derive(Deserialize)]
struct SparseParams {
    #[serde(default)]
    modifier: Option<String>,
}

#[derive(Deserialize)]
struct Points {
    points: Vec<Point>,
    #[serde(default)]
    next_page_offset: Option<Json>,
}

#[derive(Deserialize)]
struct Point {
    id: Json,
    #[serde(default)]
    score: f64,
    #[serde(default)]
    payload: Option<serde_json::Map<String, Json>>,
}

#[derive(Deserialize)]
struct Count {
    count: u64,
}

impl Server {
    fn new(spec: &QdrantIndex) -> Result<Self, NodeError> {
        let services = Services {
            urls: std::slice::from_ref(&spec.url),
            prefix: "",
            probe: "/healthz",
            model: None,
            key: spec.api_key.as_ref(),
            key_header: Some("api-key"),
            placement: Placement::Load,
        };
        Ok(Self {
            endpoints: Endpoints::new(&services)?,
            path: format!("/collections/{}", escaped(spec.collection.expose())),
        })
    }

    async fn call<T, F>(&self, attempt: impl Fn(Target) -> F) -> Result<T, NodeError>
    where
        F: Future<Output = Result<Answer<T>, Failure>>,
    {
        let (answer, _) = self.endpoints.call(None, None, attempt).await?;
        Ok(answer.result)
    }

    async fn get<T: DeserializeOwned>(&self, rest: &str) -> Result<T, NodeError> {
        let path = &format!("{}{rest}", self.path);
        self.call(|target| async move { target.get(path, None).await })
            .await
    }

    async fn post<T: DeserializeOwned>(&self, rest: &str, body: &Json) -> Result<T, NodeError> {
        let (path, body) = (&format!("{}{rest}", self.path), &body.to_string());
        self.call(|target| async move { target.ask(path, body.clone().into(), None).await })
            .await
    }

    async fn put(&self, rest: &str, body: &Json) -> Result<(), NodeError> {
        let (path, body) = (&format!("{}{rest}", self.path), &body.to_string());
        let put = |target: Target| async move { target.put(path, body.clone().into()).await };
        self.call::<Json, _>(put).await.map(|_| ())
    }
}

impl Qdrant {
    /// Looks at the collection; none if there is no such collection.
    ///
    /// # Errors
    /// The server is out of reach, or the collection lacks what a search needs.
    pub async fn open(spec: &QdrantIndex) -> Result<Option<Self>, NodeError> {
        let server = Server::new(spec)?;
        let there: Exists = server.get("/exists").await?;
        if !there.exists {
            return Ok(None);
        }
        let described: Described = server.get("").await?;
        let params = described.config.params;
        let (collection, vector) = (&spec.collection.value, spec.vector.expose());
        let (dense, named) = match params.vectors {
            Vectors::One(dense) => (dense, false),
            Vectors::Named(all) => {
                let found = all.get(vector).cloned().ok_or_else(|| {
                    let names: Vec<_> = all.keys().map(String::as_str).collect();
                    let names = names.join(", ");
                    NodeError::failed(format!(
                        "collection `{collection}` has no vector `{vector}`; it has {names}"
                    ))
                })?;
                (found, true)
            }
        };
        let sparse = params.sparse_vectors.unwrap_or_default();
        let words = match sparse.get(spec.words.expose()) {
            // Its points would need a name for the other vector too.
            Some(words) if named && words.modifier.as_deref() == Some("idf") => Ok(()),
            _ => Err(format!(
                "collection `{collection}` has no sparse vector `{}` with the modifier idf",
                spec.words
            )),
        };
        Ok(Some(Self {
            server,
            spec: spec.clone(),
            facts: Facts {
                dimensions: Some(dense.size),
                words,
            },
            named,
            distance: matches!(dense.distance.as_str(), "Euclid" | "Manhattan"),
            indexed: Mutex::default(),
        }))
    }

    /// Makes the collection.
    ///
    /// # Errors
    /// The server is out of reach, or refuses.
    pub async fn create(spec: &QdrantIndex, plan: Plan) -> Result<(), NodeError> {
        let size = needs_vectors(plan)?;
        let (vector, words) = (spec.vector.expose(), spec.words.expose());
        let body = json!({
            "vectors": { vector: { "size": size, "distance": "Cosine" } },
            "sparse_vectors": { words: { "modifier": "idf" } },
        });
        Server::new(spec)?.put("", &body).await
    }

    fn near(&self, vector: &[f32], limit: usize, filter: Option<&Json>) -> Json {
        let using = self.named.then(|| self.spec.vector.expose());
        self.query(json!(vector), using, limit, filter)
    }

    fn matching(&self, words: &Sparse, limit: usize, filter: Option<&Json>) -> Json {
        self.query(json!(words), Some(self.spec.words.expose()), limit, filter)
    }

    fn query(&self, query: Json, using: Option<&str>, limit: usize, filter: Option<&Json>) -> Json {
        let mut body = json!({ "query": query, "limit": limit, "with_payload": true });
        if let Some(using) = using {
            body["using"] = using.into();
        }
        if let Some(filter) = filter {
            body["filter"] = filter.clone();
        }
        body
    }

    async fn look_up(&self, wanted: &Wanted) -> Result<Vec<Document>, NodeError> {
        let filter = wanted.filter.as_ref();
        let metadata = self.spec.metadata.expose();
        let filter = filter.map(|filter| condition::filter(filter, metadata));
        let filter = filter.transpose()?;
        let filter = filter.as_ref();
        let words = wanted.text.as_deref().map(Sparse::of_query);
        let top_k = wanted.top_k;
        let mut found = match (&wanted.vector, words) {
            (Some(vector), None) => {
                let mut found = self.one(&self.near(vector, top_k, filter)).await?;
                if self.distance {
                    found.iter_mut().for_each(|document| document.score *= -1.0);
                }
                found
            }
            (None, Some(Some(words))) => self.one(&self.matching(&words, top_k, filter)).await?,
            (None, Some(None)) => Vec::new(),
            (Some(vector), Some(words)) => {
                let depth = depth(top_k);
                let near = self.near(vector, depth, filter);
                let matching = words.map(|words| self.matching(&words, depth, filter));
                let searches: Vec<_> = [Some(near), matching].into_iter().flatten().collect();
                self.joined(searches).await?
            }
            (None, None) => {
                let reason = "the search has neither a vector nor a text";
                return Err(NodeError::invalid(reason));
            }
        };
        // Equal scores come in the order of ids, as everywhere.
        found.sort_by(|one, other| {
            let scores = other.score.total_cmp(&one.score);
            scores.then_with(|| one.id.cmp(&other.id))
        });
        found.truncate(top_k);
        Ok(found)
    }

    async fn one(&self, search: &Json) -> Result<Vec<Document>, NodeError> {
        let found: Points = self.server.post("/points/query", search).await?;
        Ok(self.documents(found))
    }

    /// Several searches in one request, their rankings joined here: the server's own fusion has another
    /// constant.
    async fn joined(&self, searches: Vec<Json>) -> Result<Vec<Document>, NodeError> {
        let body = json!({ "searches": searches });
        let found: Vec<Points> = self.server.post("/points/query/batch", &body).await?;
        let mut sides = found.into_iter().map(|side| self.documents(side));
        let sides = [
            sides.next().unwrap_or_default(),
            sides.next().unwrap_or_default(),
        ];
        let ranked = sides
            .each_ref()
            .map(|side| side.iter().map(|document| Arc::clone(&document.id)));
        let mut scores = fuse(ranked);
        let all = sides.into_iter().flatten();
        // Taken out, so that a document of both sides comes once.
        let joined = all.filter_map(|document| {
            let score = scores.remove(&document.id)?;
            Some(Document { score, ..document })
        });
        Ok(joined.collect())
    }

    fn documents(&self, points: Points) -> Vec<Document> {
        let points = points.points.into_iter();
        points.map(|point| self.document(point)).collect()
    }

    fn document(&self, point: Point) -> Document {
        let mut payload = point.payload.unwrap_or_default();
        let mut take = |name: &str| payload.remove(name);
        let id = take(self.spec.id.expose()).unwrap_or(point.id);
        let text = take(self.spec.text.expose());
        let metadata = match take(self.spec.metadata.expose()) {
            Some(Json::Object(fields)) => map_from_json(fields),
            _ => Map::new(),
        };
        Document {
            id: plain(id).into(),
            text: text.map(plain).unwrap_or_default().into(),
            score: point.score,
            metadata: Arc::new(metadata),
        }
    }

    /// Lets the server make indexes over fields of the metadata that it has none for: filters by a field
    /// without one read every point.
    async fn index_fields(&self, batch: &[Entry]) -> Result<(), NodeError> {
        let mut fields = BTreeMap::new();
        {
            let known = self.indexed.lock().unwrap_or_else(PoisonError::into_inner);
            let all = batch.iter().flat_map(|entry| &entry.record.metadata);
            for (name, value) in all {
                let room = known.len() + fields.len() < MOST_INDEXED;
                if let Some(kind) = kind(value).filter(|_| room && !known.contains(&**name)) {
                    fields.entry(name.to_string()).or_insert(kind);
                }
            }
        }
        for (name, kind) in fields {
            if let Ok(key) = condition::key(self.spec.metadata.expose(), &name) {
                let body = json!({ "field_name": key, "field_schema": kind });
                self.server.put("/index?wait=true", &body).await?;
            }
            let mut known = self.indexed.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(name);
        }
        Ok(())
    }

    fn point(&self, entry: &Entry) -> Result<Json, NodeError> {
        let record = &entry.record;
        // As JSON once, with the limits on what may be stored.
        let metadata = entry.metadata(&self.facts)?;
        let metadata: Json = serde_json::from_str(&metadata)
            .map_err(|error| NodeError::because("the metadata is no JSON", error))?;
        let dense = entry.vector()?;
        let vector = match (self.named, &self.facts.words) {
            (false, _) => json!(dense),
            (true, Err(_)) => json!({ self.spec.vector.expose(): dense }),
            (true, Ok(())) => json!({
                self.spec.vector.expose(): dense,
                self.spec.words.expose(): Sparse::of_document(&record.text),
            }),
        };
        Ok(json!({
            "id": point_id(&record.id),
            "vector": vector,
            "payload": {
                self.spec.id.expose(): record.id,
                self.spec.text.expose(): record.text,
                self.spec.metadata.expose(): metadata,
                // The bits count, not the sign.
                DIGEST: entry.digest.cast_signed(),
            },
        }))
    }
}

impl Store for Qdrant {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn find(&self, wanted: Wanted) -> BoxFuture<'_, Result<Vec<Document>, NodeError>> {
        Box::pin(async move { self.look_up(&wanted).await })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, NodeError>> {
        Box::pin(async move {
            let body = json!({ "exact": true });
            let count: Count = self.server.post("/points/count", &body).await?;
            Ok(count.count)
        })
    }

    fn known(
        &self,
        documents: Vec<(Arc<str>, u64)>,
    ) -> BoxFuture<'_, Result<Vec<bool>, NodeError>> {
        Box::pin(async move {
            let points: Vec<_> = documents.iter().map(|(id, _)| point_id(id)).collect();
            let body = json!({ "ids": points, "with_payload": [DIGEST], "with_vector": false });
            let found: Vec<Point> = self.server.post("/points", &body).await?;
            let held = found.into_iter().filter_map(|point| {
                let digest = point.payload?.get(DIGEST)?.as_i64()?;
                Some((plain(point.id), digest))
            });
            let held: HashMap<_, _> = held.collect();
            let pairs = documents.iter().zip(&points);
            let known =
                pairs.map(|((_, digest), point)| held.get(point) == Some(&digest.cast_signed()));
            Ok(known.collect())
        })
    }

    fn upsert(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(async move {
            self.index_fields(&batch).await?;
            let points = batch.iter().map(|entry| self.point(entry));
            let points: Vec<_> = points.collect::<Result<_, _>>()?;
            let body = json!({ "points": points });
            self.server.put("/points?wait=true", &body).await
        })
    }

    fn delete(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(async move {
            let points: Vec<_> = ids.iter().flat_map(|id| points_of(id)).collect();
            let body = json!({ "points": points });
            let _: Json = self.server.post("/points/delete?wait=true", &body).await?;
            Ok(())
        })
    }

    fn ids(&self) -> BoxFuture<'_, Result<Vec<String>, NodeError>> {
        Box::pin(async move {
            let name = self.spec.id.expose();
            let (mut ids, mut offset) = (Vec::new(), None);
            loop {
                let mut body =
                    json!({ "limit": PAGE, "with_payload": [name], "with_vector": false });
                if let Some(offset) = offset.take() {
                    body["offset"] = offset;
                }
                let page: Points = self.server.post("/points/scroll", &body).await?;
                offset = page.next_page_offset.clone().filter(|next| !next.is_null());
                let found = self.documents(page).into_iter();
                ids.extend(found.map(|document| document.id.to_string()));
                if offset.is_none() {
                    return Ok(ids);
                }
            }
        })
    }
}

/// The id of a document's point: a UUID of its id's digest, of the version that RFC 9562 leaves to who
/// makes them.
fn point_id(id: &str) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(id)[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// The points that an id may mean: that of a document, and one that somebody else put in under it.
fn points_of(id: &str) -> Vec<Json> {
    let uuid = |id: &str| {
        let parts: Vec<_> = id.split('-').collect();
        let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
        parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && id.chars().all(hex)
    };
    let mut points = vec![Json::from(point_id(id))];
    match id.parse::<u64>() {
        Ok(number) => points.push(number.into()),
        Err(_) if uuid(id) => points.push(id.into()),
        Err(_) => {}
    }
    points
}

/// The index that serves filters by a value.
fn kind(value: &crate::Value) -> Option<&'static str> {
    let first = match value {
        crate::Value::List(values) => values.first()?,
        value => value,
    };
    Some(match Scalar::of(first)? {
        Scalar::Boolean(_) => "bool",
        Scalar::Integer(_) | Scalar::Number(_) => "float",
        Scalar::Text(_) => "keyword",
    })
}

/// A text of a payload or an id; numbers as they are written.
fn plain(json: Json) -> String {
    match json {
        Json::String(text) => text,
        other => other.to_string(),
    }
}
