//! The body of a request: read within bounds, and checked against a graph's input.

use super::{Front, identity, infer::Asked, input, problem::Problem};
use crate::{
    execute::Request as Walked,
    topology::{Served, Topology},
};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, header};
use nodes::{Context, Value};
use std::sync::Arc;
use tokio::time::timeout;

/// A request whose body has arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    headers: HeaderMap,
    body: Value,
}

/// Reads the request.
pub(super) async fn arrive(
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
