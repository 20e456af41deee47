//! One request of a graph: checked, walked, answered.

use super::{Front, events, generations::Chosen, identity, input, problem::Problem, shadow::Copy};
use crate::{
    execute::{Answer, Request as Walked, RequestError},
    rollout::choose::HEADER,
    topology::{Inside, Outside, Served, Topology},
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};
use nodes::{Context, Value};
use std::{fmt::Write as _, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span, debug, error, info_span, warn};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GENERATION: HeaderName = HeaderName::from_static(HEADER);
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request on its way: what answers and logs say of it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: Arc<str>,
    pub(super) begun: Instant,
}

/// Answers whatever is not one of the engine's own routes.
pub(super) async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let asked = Asked {
        id: identity::request_id(&parts.headers),
        begun: Instant::now(),
    };
    let trace_id = identity::trace_id(&parts.headers);
    let span = info_span!("request", request_id = %asked.id, trace_id);
    let mut response = match enter(&front, &parts, &asked).await {
        Ok(entered) => {
            let generation = entered.named();
            let reply = reply(&front, entered, (parts, body), &asked);
            let mut response = reply.instrument(span).await;
            if let Some(generation) = generation {
                response.headers_mut().insert(GENERATION, generation.into());
            }
            response
        }
        Err(problem) => problem.for_request(&asked.id).into_response(),
    };
    if let Ok(id) = HeaderValue::from_str(&asked.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A request that is inside of a graph.
pub(super) struct Entered {
    chosen: Chosen,
    graph: usize,
    /// To be kept until the last of the answer is made.
    inside: Inside,
}

/// Finds the graph that is meant and goes in, if the request may ask it; waits while its turnstile is
/// closed.
async fn enter(front: &Front, request: &Parts, asked: &Asked) -> Result<Entered, Problem> {
    loop {
        let chosen = front.choose(request)?;
        let graph = find(&chosen.topology, request)?;
        let served = &chosen.topology.graphs()[graph];
        if let Some(inside) = served.turnstile().enter() {
            return Ok(Entered {
                chosen,
                graph,
                inside,
            });
        }
        let (allowed, deadline) = asked.time(&request.headers, served)?;
        let waited = served.turnstile().wait(deadline, allowed).await;
        if let Err(Outside { node, error }) = waited {
            let error = RequestError {
                graph: served.graph().id().as_str().into(),
                node: Some(node),
                error,
            };
            let problem = problem_of(&error, served);
            note(&problem, served, asked);
            return Err(problem);
        }
    }
}

/// Which graph is meant, if the request may ask it.
fn find(topology: &Topology, request: &Parts) -> Result<usize, Problem> {
    super::authorize(topology, &request.headers)?;
    let path = request.uri.path();
    let found = topology
        .index_at(path)
        .ok_or_else(|| Problem::no_route(path))?;
    match request.method {
        Method::POST => Ok(found),
        _ => Err(Problem::method("POST")),
    }
}

impl Entered {
    fn served(&self) -> &Served {
        &self.chosen.topology.graphs()[self.graph]
    }

    /// The generation, where the answer is to name it.
    fn named(&self) -> Option<u64> {
        let generation = self.chosen.topology.generation();
        self.chosen.named.then_some(generation)
    }
}

impl Asked {
    /// How long a request may take, and until when.
    fn time(
        &self,
        headers: &HeaderMap,
        served: &Served,
    ) -> Result<(Duration, Option<Instant>), Problem> {
        let longest = served.graph().timeout();
        let allowed = identity::timeout(headers)?.map_or(longest, |asked| asked.min(longest));
        Ok((allowed, self.begun.checked_add(allowed)))
    }
}

async fn reply(
    front: &Front,
    mut entered: Entered,
    (parts, body): (Parts, Body),
    asked: &Asked,
) -> Response {
    let streamed = wants_events(&parts.headers);
    let copied = entered.chosen.copy.take();
    let path = parts.uri.path().to_owned();
    let arrived = match arrive(front, &entered.chosen.topology, (parts.headers, body)).await {
        Ok(arrived) => arrived,
        Err(problem) => return refuse(problem, entered.served(), asked),
    };
    let copy = Copy::begin(copied, &path, &arrived, asked);
    let walked = match arrived.fit(entered.served(), asked) {
        Ok(walked) => walked,
        Err(problem) => {
            copy.compare_status(problem.status().as_u16());
            return refuse(problem, entered.served(), asked);
        }
    };
    let Entered {
        chosen,
        graph,
        inside,
    } = entered;
    let topology = chosen.topology;
    if streamed {
        let way = (topology, graph, inside);
        return events::reply(way, walked, copy, asked.clone(), Span::current());
    }
    let served = &topology.graphs()[graph];
    let leaving = Leaving::watch(served, asked);
    let result = served.prepared().run(walked).await;
    leaving.stayed();
    copy.compare(&result, served);
    match result {
        Ok(answer) => json(&answer, served, asked),
        Err(error) => refuse(problem_of(&error, served), served, asked),
    }
}

/// Counts a client that leaves before its answer, as status 499; no status is sent then. A panic
/// counts as the 500 that is sent.
pub(super) struct Leaving<'a> {
    served: &'a Served,
    begun: Instant,
    stayed: bool,
}

impl<'a> Leaving<'a> {
    pub(super) fn watch(served: &'a Served, asked: &Asked) -> Self {
        Self {
            served,
            begun: asked.begun,
            stayed: false,
        }
    }

    pub(super) fn stayed(mut self) {
        self.stayed = true;
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.stayed {
            let status = if std::thread::panicking() { 500 } else { 499 };
            let metrics = self.served.metrics();
            metrics.answered(status, self.begun.elapsed());
        }
    }
}

/// A request whose body has arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    headers: HeaderMap,
    body: Value,
}

/// Reads the request.
async fn arrive(
    front: &Front,
    topology: &Topology,
    (headers, body): (HeaderMap, Body),
) -> Result<Arrived, Problem> {
    // Before the body, which a request that makes no sense need not send.
    identity::timeout(&headers)?;
    let most = topology.program().server().max_body.0;
    let collected = collect(body, &headers, most);
    let body = timeout(front.body_timeout, collected)
        .await
        .unwrap_or_else(|_| Err(Problem::slow(front.body_timeout)))?;
    Ok(Arrived {
        body: parse(&headers, &body)?,
        headers,
    })
}

impl Arrived {
    /// Checks it against a graph's input.
    pub(super) fn fit(&self, served: &Served, asked: &Asked) -> Result<Walked, Problem> {
        let graph = served.graph();
        let input = input::fit(self.body.clone(), graph.input()).map_err(Problem::input)?;
        let headers = match served.prepared().reads_headers() {
            true => identity::for_templates(&self.headers),
            false => Value::None,
        };
        let (allowed, deadline) = asked.time(&self.headers, served)?;
        Ok(Walked {
            input,
            headers,
            context: Context {
                request_id: Some(Arc::clone(&asked.id)),
                deadline,
            },
            allowed: Some(allowed),
            deltas: None,
        })
    }
}

async fn collect(body: Body, headers: &HeaderMap, most: u64) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(Problem::too_large(most));
    }
    let mut chunks = body.into_data_stream();
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(Problem::broken_body)?;
        if (whole.len() + joined.len() + chunk.len()) as u64 > most {
            return Err(Problem::too_large(most));
        }
        // Most bodies come in one piece, which is then not copied.
        if whole.is_empty() && joined.is_empty() {
            whole = chunk;
            continue;
        }
        joined.extend_from_slice(&std::mem::take(&mut whole));
        joined.extend_from_slice(&chunk);
    }
    Ok(if joined.is_empty() {
        whole
    } else {
        joined.freeze()
    })
}

/// The body as a value; an empty one is an object without fields.
fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Value, Problem> {
    if body.is_empty() {
        return Ok(Value::Map(Arc::default()));
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(Problem::content_encoding());
    }
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = given
        .and_then(|given| given.split(';').next())
        .map(str::trim);
    let is_json = |kind: &str| {
        let kind = kind.to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    };
    if !kind.is_some_and(is_json) {
        return Err(Problem::content_type());
    }
    Value::from_json(body).map_err(Problem::not_json)
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|accepted| accepted.to_str().ok());
    accepted.any(|accepted| accepted.contains("text/event-stream"))
}

fn json(answer: &Answer, served: &Served, asked: &Asked) -> Response {
    let body = match serde_json::to_vec(&*answer.fields) {
        Ok(body) => body,
        Err(error) => {
            error!(%error, "an answer cannot be written as JSON");
            return refuse(Problem::internal(), served, asked);
        }
    };
    let took = asked.begun.elapsed();
    served.metrics().answered(200, took);
    debug!(graph = %served.graph().id(), ?took, "answered");
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    let timing = HeaderValue::from_str(&server_timing(answer, served, took));
    if let Ok(timing) = timing {
        headers.insert(SERVER_TIMING, timing);
    }
    response
}

/// Milliseconds by node, then of the whole.
fn server_timing(answer: &Answer, served: &Served, took: Duration) -> String {
    let mut timing = String::with_capacity(16 + 32 * answer.timings.len());
    for (node, took) in &answer.timings {
        let node = served.prepared().node_id(*node);
        // Writing to a string does not fail.
        let _ = write!(timing, "{node};dur={:.3}, ", took.as_secs_f64() * 1e3);
    }
    let _ = write!(timing, "total;dur={:.3}", took.as_secs_f64() * 1e3);
    timing
}

fn refuse(problem: Problem, served: &Served, asked: &Asked) -> Response {
    note(&problem, served, asked);
    let problem = problem.in_graph(served.graph().id().as_str());
    problem.for_request(&asked.id).into_response()
}

/// The problem that a request's failure is.
pub(super) fn problem_of(error: &RequestError, served: &Served) -> Problem {
    let node = error.node.as_deref();
    let when_full = node.map(|node| served.when_full(node)).unwrap_or_default();
    Problem::of_request(error, when_full)
}

/// Counts and logs a request that got no answer.
pub(super) fn note(problem: &Problem, served: &Served, asked: &Asked) {
    let took = asked.begun.elapsed();
    let status = problem.status().as_u16();
    served.metrics().answered(status, took);
    let (graph, node, reason) = (served.graph().id(), problem.node(), problem.detail());
    match status {
        500 => error!(%graph, node, status, ?took, reason, "a request failed"),
        501.. => warn!(%graph, node, status, ?took, reason, "a request failed"),
        _ => debug!(%graph, node, status, ?took, reason, "a request was refused"),
    }
}
