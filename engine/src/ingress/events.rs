//! An answer as server-sent events: pieces of texts as they are made, then the whole.
//!
//! `delta` events carry `{"field", "text"}`, `output` the whole answer, which counts where a
//! fallback replaced a text that had begun, and `done` ends a good answer. `error` carries a problem
//! and ends a bad one; where nothing was sent before it, the problem is the whole response, with its own
//! status. The walk lives inside the response body: a client that goes away drops it.

use super::{
    Problem,
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
use futures::{StreamExt as _, stream};
use serde_json::json;
use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tracing::{Instrument as _, Span};

/// Pieces that may wait for a client that reads slowly; more of them wait in their stream.
const PIECES: usize = 16;
/// How long a response waits for its first event, which may be a problem; then it begins, so that what is between
/// here and the client sees that somebody works.
const BEGINNING: Duration = Duration::from_secs(10);

/// What goes out: an event, or the problem that is the last one.
enum Piece {
    Event(Event),
    Failed(Problem),
}

/// Walks the graph while the client reads.
pub(super) async fn reply(
    entered: Entered,
    mut request: Request,
    copy: Copy,
    asked: Asked,
    span: Span,
) -> Response {
    let id = Arc::clone(&asked.id);
    let mut pieces = Box::pin(stream! {
        // A client that reads slowly is inside until it has read all.
        let served = entered.served();
        let leaving = Leaving::watch(served, &asked);
        let (sender, mut deltas) = mpsc::channel(PIECES);
        request.deltas = Some(sender);
        let mut walk = pin!(served.prepared().run(request).instrument(span.clone()));
        let result = loop {
            tokio::select! {
                biased;
                Some(piece) = deltas.recv() => yield Piece::Event(delta(&piece)),
                result = &mut walk => break result,
            }
        };
        leaving.stayed();
        copy.compare(&result, served);
        while let Ok(piece) = deltas.try_recv() {
            yield Piece::Event(delta(&piece));
        }
        match span.in_scope(|| last(result, served, &asked)) {
            Ok(events) => {
                for event in events {
                    yield Piece::Event(event);
                }
            }
            Err(problem) => yield Piece::Failed(problem),
        }
    });
    let first = match timeout(BEGINNING, pieces.next()).await {
        Ok(Some(Piece::Failed(problem))) => return problem.for_request(&id).into_response(),
        first => first.ok().flatten(),
    };
    let events = stream::iter(first).chain(pieces).map(move |piece| {
        Ok::<_, Infallible>(match piece {
            Piece::Event(event) => event,
            Piece::Failed(problem) => {
                let data = problem.for_request(&id).to_json();
                Event::default().event("error").data(data)
            }
        })
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

fn delta(delta: &Delta) -> Event {
    let data = json!({ "field": &*delta.field, "text": &*delta.text });
    Event::default().event("delta").data(data.to_string())
}

/// The events that end a good answer, or the problem of a bad one.
fn last(
    result: Result<Answer, RequestError>,
    served: &Served,
    asked: &Asked,
) -> Result<[Event; 2], Problem> {
    let failed = |problem: Problem| {
        note(&problem, served, asked);
        problem.in_graph(served.graph().id().as_str())
    };
    let answer = result.map_err(|failure| failed(problem_of(&failure, served)))?;
    let output = serde_json::to_string(&*answer.fields);
    let output = output.map_err(|_| failed(Problem::internal()))?;
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
    Ok([
        Event::default().event("output").data(output),
        Event::default().event("done").data(done.to_string()),
    ])
}
