//! An answer as server-sent events: pieces of texts as they are made, then the whole.
//!
//! `delta` events carry `{"field", "text"}`, `output` the whole answer, which counts where a
//! fallback replaced a text that had begun, and `done` ends a good answer. `error` carries a problem
//! and ends a bad one. The walk lives inside the response body: a client that goes away drops it.

use super::{
    enter::Entered,
    infer::{Asked, Leaving, note, problem_of},
    shadow::Copy,
};
use crate::{
    execute::{Answer, Delta, Request, RequestError},
    topology::Served,
};
use async_stream::stream;
use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use serde_json::json;
use std::{convert::Infallible, pin::pin};
use tokio::sync::mpsc;
use tracing::{Instrument as _, Span};

/// Pieces that may wait for a client that reads slowly; more of them wait in their stream.
const PIECES: usize = 16;

/// Walks the graph while the client reads.
pub(super) fn reply(
    entered: Entered,
    mut request: Request,
    copy: Copy,
    asked: Asked,
    span: Span,
) -> Response {
    let events = stream! {
        // A client that reads slowly is inside until it has read all.
        let served = entered.served();
        let leaving = Leaving::watch(served, &asked);
        let (sender, mut deltas) = mpsc::channel(PIECES);
        request.deltas = Some(sender);
        let mut walk = pin!(served.prepared().run(request).instrument(span.clone()));
        let result = loop {
            tokio::select! {
                biased;
                Some(piece) = deltas.recv() => yield delta(&piece),
                result = &mut walk => break result,
            }
        };
        leaving.stayed();
        copy.compare(&result, served);
        while let Ok(piece) = deltas.try_recv() {
            yield delta(&piece);
        }
        for event in span.in_scope(|| last(result, served, &asked)) {
            yield event;
        }
    };
    let events = futures::StreamExt::map(events, Ok::<_, Infallible>);
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

fn delta(delta: &Delta) -> Event {
    let data = json!({ "field": &*delta.field, "text": &*delta.text });
    Event::default().event("delta").data(data.to_string())
}

fn last(result: Result<Answer, RequestError>, served: &Served, asked: &Asked) -> Vec<Event> {
    let error = |problem: super::Problem| {
        note(&problem, served, asked);
        let problem = problem.in_graph(served.graph().id().as_str());
        let data = problem.for_request(&asked.id).to_json();
        vec![Event::default().event("error").data(data)]
    };
    let answer = match result {
        Ok(answer) => answer,
        Err(failure) => return error(problem_of(&failure, served)),
    };
    let Ok(output) = serde_json::to_string(&*answer.fields) else {
        return error(super::Problem::internal());
    };
    let took = asked.begun.elapsed();
    served.metrics().answered(200, took);
    let timings = answer.timings.iter().map(|(node, took)| {
        let node = served.prepared().node_id(*node).to_string();
        (node, json!(took.as_secs_f64() * 1e3))
    });
    let done = json!({
        "request_id": &*asked.id,
        "milliseconds": took.as_secs_f64() * 1e3,
        "nodes": timings.collect::<serde_json::Map<_, _>>(),
    });
    vec![
        Event::default().event("output").data(output),
        Event::default().event("done").data(done.to_string()),
    ]
}
