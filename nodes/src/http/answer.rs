//! What a response is: a value, or which of the node's errors.

use crate::{Map, NodeError, Value};
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use std::{sync::Arc, time::Duration};

/// The largest body that is read, in bytes.
const MOST: usize = 16 << 20;

/// The longest wait that a service may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How much of the body of a refusal goes into its message, in bytes.
const SHOWN: usize = 300;

/// A response that was accepted, as templates see it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Map,
    pub(super) body: Value,
}

/// Reads a response to its end. `accept` are the statuses that are a success, 200 to 299 if empty.
///
/// # Errors
/// By its status, its size, or because it is not what it says it is.
pub(super) async fn read(mut response: Response, accept: &[u16]) -> Result<Answer, NodeError> {
    let status = response.status();
    let good = match accept {
        [] => status.is_success(),
        accept => accept.contains(&status.as_u16()),
    };
    if !good {
        let body = bytes(&mut response, SHOWN, Beyond::Cut)
            .await
            .unwrap_or_default();
        return Err(refused(status, response.headers(), &body));
    }
    // None was asked for, and what a small body unpacks to has no bound.
    if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        let reason = format!("the service compressed its answer, by {encoding:?}, unasked");
        return Err(NodeError::failed(reason));
    }
    let body = bytes(&mut response, MOST, Beyond::Refuse).await?;
    Ok(Answer {
        status: status.as_u16(),
        headers: headers(response.headers()),
        body: value(&body, response.headers())?,
    })
}

/// What becomes of a body that is too long.
enum Beyond {
    Cut,
    Refuse,
}

async fn bytes(response: &mut Response, most: usize, beyond: Beyond) -> Result<Vec<u8>, NodeError> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(super::unreachable)? {
        body.extend_from_slice(&part);
        if body.len() > most {
            match beyond {
                Beyond::Cut => {
                    body.truncate(most);
                    break;
                }
                Beyond::Refuse => {
                    let reason = format!("the service answered with more than {} MiB", most >> 20);
                    return Err(NodeError::failed(reason));
                }
            }
        }
    }
    Ok(body)
}

fn value(body: &[u8], headers: &HeaderMap) -> Result<Value, NodeError> {
    if body.is_empty() {
        return Ok(Value::None);
    }
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    if kind == "application/json" || kind.ends_with("+json") {
        let value = Value::from_json(body);
        return value
            .map_err(|error| NodeError::because("the service answered with bad JSON", error));
    }
    match std::str::from_utf8(body) {
        Ok(text) => Ok(Value::text(text)),
        Err(error) => Err(NodeError::because(
            "the service answered with no text",
            error,
        )),
    }
}

/// Headers by lower-case name with `_` for `-`, as templates name those of a request.
fn headers(headers: &HeaderMap) -> Map {
    let texts = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().replace('-', "_");
        Some((Arc::from(name), Value::text(value.to_str().ok()?)))
    });
    texts.collect()
}

/// A status that is no success. What may pass is out of reach, what the request is to blame for is
/// invalid, and the rest is a failure.
fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> NodeError {
    let mut reason = format!("the service answered {status}");
    let wait = headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
    if let Some(wait) = wait {
        reason += &format!(", retry after {wait}");
    }
    let said = String::from_utf8_lossy(body);
    let said = said.trim();
    if !said.is_empty() {
        let said: String = said
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        reason += &format!(": {said}");
    }
    match status.as_u16() {
        408 | 425 | 429 | 502 | 503 | 504 => NodeError::Unavailable {
            reason,
            retry_after: wait.and_then(seconds),
        },
        400 | 404 | 405 | 406 | 409 | 410 | 413 | 414 | 415 | 422 => NodeError::Invalid { reason },
        _ => NodeError::failed(reason),
    }
}

/// A `Retry-After` in seconds. One that is a date is left to the retry's own pauses.
fn seconds(wait: &str) -> Option<Duration> {
    let seconds: u64 = wait.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_is_done_about_it() {
        let class = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            match refused(status, &HeaderMap::new(), b"no\nline") {
                NodeError::Unavailable { reason, .. } => format!("unavailable {reason}"),
                NodeError::Invalid { reason } => format!("invalid {reason}"),
                other => format!("failed {other}"),
            }
        };
        let expected = [
            (
                503,
                "unavailable the service answered 503 Service Unavailable: no line",
            ),
            (
                429,
                "unavailable the service answered 429 Too Many Requests: no line",
            ),
            (
                422,
                "invalid the service answered 422 Unprocessable Entity: no line",
            ),
            (401, "failed the service answered 401 Unauthorized: no line"),
            (302, "failed the service answered 302 Found: no line"),
            (
                500,
                "failed the service answered 500 Internal Server Error: no line",
            ),
        ];
        for (status, says) in expected {
            assert_eq!(class(status), says);
        }
    }
}
