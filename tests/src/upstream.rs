//! A service that speaks the protocols of vLLM, Cohere and Text Embeddings Inference, for tests of what
//! the engine sends and reads. Its answers have the shape of theirs; what it computes is plain: a
//! completion repeats its prompt word by word, a vector counts letters, a score counts shared words.

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::net::TcpListener;

/// The service; it ends with the test's runtime.
pub struct Upstream {
    /// Its address, without a path.
    pub url: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    /// Streams that are being sent.
    open: AtomicUsize,
}

/// A request as the service got it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its path.
    pub path: String,
    /// Its `authorization` header.
    pub key: Option<String>,
    /// Its body.
    pub body: Value,
}

impl Upstream {
    /// Starts the service on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self::on(listener.expect("a port is free")).await
    }

    /// Starts the service on a listener.
    pub async fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let seen = Arc::new(Seen::default());
        let app = Router::new()
            .route("/v1/models", get(async || Json(json!({ "data": [] }))))
            .route("/v1/chat/completions", post(chat))
            .route("/v1/completions", post(complete))
            .route("/v1/embeddings", post(embeddings))
            .route("/v1/rerank", post(rerank))
            .route("/embed", post(tei_embed))
            .route("/rerank", post(tei_rerank))
            .with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            url: format!("http://{address}"),
            seen,
        }
    }

    /// What has been asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().clone()
    }

    /// Streams that are being sent at the moment.
    pub fn open_streams(&self) -> usize {
        self.seen.open.load(SeqCst)
    }
}

impl Seen {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request; its answer if it is to be refused.
    fn note(&self, path: &str, headers: &HeaderMap, body: &Value) -> Option<Response> {
        let key = headers.get("authorization");
        let key = key.and_then(|key| key.to_str().ok()).map(str::to_owned);
        let wrong = key.as_deref() == Some("Bearer wrong");
        self.lock().push(Request {
            path: path.to_owned(),
            key,
            body: body.clone(),
        });
        if wrong {
            let message = "Incorrect API key provided: wrong";
            return Some(refusal(StatusCode::UNAUTHORIZED, message));
        }
        if body["model"] == "missing" {
            let message = "The model `missing` does not exist.";
            return Some(refusal(StatusCode::NOT_FOUND, message));
        }
        None
    }
}

/// An error as vLLM words it.
fn refusal(status: StatusCode, message: &str) -> Response {
    let error = json!({ "error": { "message": message, "code": status.as_u16() } });
    (status, Json(error)).into_response()
}

type Asked = (State<Arc<Seen>>, HeaderMap, Json<Value>);

async fn chat((State(seen), headers, Json(body)): Asked) -> Response {
    if let Some(refused) = seen.note("/v1/chat/completions", &headers, &body) {
        return refused;
    }
    let last = body["messages"].as_array().and_then(|all| all.last());
    let text = last.map_or("", |last| last["content"].as_str().unwrap_or_default());
    let role = json!({ "index": 0, "delta": { "role": "assistant", "content": "" } });
    let mut parts = vec![role];
    let reason = match body["tools"][0]["function"]["name"].as_str() {
        Some(name) => {
            let call = |function: Value| json!({ "index": 0, "id": null, "function": function });
            let mut first = call(json!({ "name": name, "arguments": "" }));
            first["id"] = json!("call-1");
            for call in [
                first,
                call(json!({ "arguments": "{\"text\":" })),
                call(json!({ "arguments": format!("{}}}", json!(text)) })),
            ] {
                parts.push(json!({ "index": 0, "delta": { "tool_calls": [call] } }));
            }
            "tool_calls"
        }
        None => {
            for word in words(text, &body) {
                parts.push(json!({ "index": 0, "delta": { "content": word } }));
            }
            "stop"
        }
    };
    parts.push(json!({ "index": 0, "delta": {}, "finish_reason": reason }));
    streamed(seen, parts, text)
}

async fn complete((State(seen), headers, Json(body)): Asked) -> Response {
    if let Some(refused) = seen.note("/v1/completions", &headers, &body) {
        return refused;
    }
    let text = body["prompt"].as_str().unwrap_or_default();
    let words = words(text, &body);
    let mut parts: Vec<_> = words
        .map(|word| json!({ "index": 0, "text": word, "finish_reason": null }))
        .collect();
    parts.push(json!({ "index": 0, "text": "", "finish_reason": "length" }));
    streamed(seen, parts, text)
}

/// The words of a text, each with the space before it, as many as the request allows.
fn words<'a>(text: &'a str, body: &Value) -> impl Iterator<Item = String> + use<'a> {
    let most = body["max_tokens"].as_u64().unwrap_or(16) as usize;
    let words = text.split(' ').take(most);
    words.map(|word| format!(" {word}"))
}

/// Parts as events, then the usage and the end. The text `forever` never ends.
fn streamed(seen: Arc<Seen>, parts: Vec<Value>, text: &str) -> Response {
    seen.open.fetch_add(1, SeqCst);
    let open = Open(seen);
    let made = parts.len();
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({ "object": "chunk", "choices": choices, "usage": usage });
        format!("data: {chunk}\n\n")
    };
    let mut events: Vec<_> = parts
        .into_iter()
        .map(|part| chunk(json!([part]), Value::Null))
        .collect();
    let usage = json!({ "prompt_tokens": text.split(' ').count(), "completion_tokens": made });
    if text != "forever" {
        events.push(chunk(json!([]), usage));
        events.push("data: [DONE]\n\n".to_owned());
    }
    let events = stream::iter(events);
    let more = match text == "forever" {
        true => beats().left_stream(),
        false => stream::empty().right_stream(),
    };
    let body = events.chain(more).map(move |event| {
        let _ = &open;
        Ok::<_, Infallible>(event)
    });
    let kind = [("content-type", "text/event-stream; charset=utf-8")];
    (kind, Body::from_stream(body)).into_response()
}

/// A stream that is being sent.
struct Open(Arc<Seen>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

/// Comments, which keep a connection busy without saying anything.
fn beats() -> impl Stream<Item = String> {
    stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((": still here\n\n".to_owned(), ()))
    })
}

async fn embeddings((State(seen), headers, Json(body)): Asked) -> Response {
    if let Some(refused) = seen.note("/v1/embeddings", &headers, &body) {
        return refused;
    }
    match vectors(&body["input"]) {
        Some(vectors) => {
            // The order of `data` is free, since each has its index.
            let data = vectors.into_iter().enumerate().rev();
            let data: Vec<_> = data
                .map(|(index, vector)| json!({ "index": index, "embedding": vector }))
                .collect();
            Json(json!({ "object": "list", "data": data })).into_response()
        }
        None => refusal(StatusCode::BAD_REQUEST, "an input is too long"),
    }
}

async fn tei_embed((State(seen), headers, Json(body)): Asked) -> Response {
    if let Some(refused) = seen.note("/embed", &headers, &body) {
        return refused;
    }
    let inputs = &body["inputs"];
    if inputs.as_array().is_some_and(|inputs| inputs.len() > 32) {
        let message = "batch size > maximum allowed batch size 32";
        return (
            StatusCode::PAYLOAD_TOO_LARGE,
            Json(json!({ "error": message })),
        )
            .into_response();
    }
    match vectors(inputs) {
        Some(vectors) => Json(json!(vectors)).into_response(),
        None => refusal(StatusCode::BAD_REQUEST, "an input is too long"),
    }
}

/// A vector of counts of the letters a, b and c, and the length; none if the text `bad` is
/// among them, which is to be refused.
fn vectors(texts: &Value) -> Option<Vec<[f64; 4]>> {
    let texts = texts.as_array().into_iter().flatten();
    let texts: Vec<&str> = texts.filter_map(Value::as_str).collect();
    if texts.contains(&"bad") {
        return None;
    }
    let count = |text: &str, letter: char| text.chars().filter(|c| *c == letter).count() as f64;
    let vector = |text: &&str| {
        let [a, b, c] = ['a', 'b', 'c'].map(|letter| count(text, letter));
        [a, b, c, text.len() as f64]
    };
    Some(texts.iter().map(vector).collect())
}

async fn rerank((State(seen), headers, Json(body)): Asked) -> Response {
    if let Some(refused) = seen.note("/v1/rerank", &headers, &body) {
        return refused;
    }
    let ranks = ranks(&body["query"], &body["documents"]);
    let results = ranks.into_iter();
    let results: Vec<_> = results
        .map(|(index, score)| json!({ "index": index, "relevance_score": score }))
        .collect();
    Json(json!({ "id": "r", "results": results })).into_response()
}

async fn tei_rerank((State(seen), headers, Json(body)): Asked) -> Response {
    if let Some(refused) = seen.note("/rerank", &headers, &body) {
        return refused;
    }
    let ranks = ranks(&body["query"], &body["texts"]).into_iter();
    let ranks: Vec<_> = ranks
        .map(|(index, score)| json!({ "index": index, "score": score }))
        .collect();
    Json(json!(ranks)).into_response()
}

/// Each document's place and how many words of the query it has, best first.
fn ranks(query: &Value, documents: &Value) -> Vec<(usize, f64)> {
    let query = query.as_str().unwrap_or_default();
    let documents = documents.as_array().into_iter().flatten();
    let score = |text: &str| query.split(' ').filter(|word| text.contains(word)).count() as f64;
    let scored = documents.map(|text| score(text.as_str().unwrap_or_default()));
    let mut ranks: Vec<_> = scored.enumerate().collect();
    ranks.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranks
}
