//! One request of a graph: checked, walked, answered.

use super::{
    Front,
    arrive::arrive,
    enter::{Entered, enter},
    events, identity,
    problem::Problem,
    shadow::Copy,
};
use crate::{
    execute::{Answer, RequestError},
    rollout::choose::HEADER,
    topology::Served,
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use std::{fmt::Write as _, sync::Arc, time::Duration};
use tokio::time::Instant;
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

async fn reply(
    front: &Front,
    mut entered: Entered,
    (parts, body): (Parts, Body),
    asked: &Asked,
) -> Response {
    let streamed = wants_events(&parts.headers);
    let copied = entered.copy.take();
    let path = parts.uri.path().to_owned();
    let arrived = match arrive(front, &entered.topology, (parts.headers, body)).await {
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
    if streamed {
        return events::reply(entered, walked, copy, asked.clone(), Span::current()).await;
    }
    let served = entered.served();
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
