//! What went wrong with a call of a service, and what that means for the item, for the endpoint, and
//! for whether another endpoint is worth a try.

mod grpc;

use super::balance::Ended;
use crate::NodeError;
use reqwest::{StatusCode, header::HeaderMap};
use std::{error::Error, time::Duration};

/// How long a service that is full and does not say for how long is left alone.
const FULL: Duration = Duration::from_secs(1);
/// Most characters of a service's own words that are passed on.
const WORDS: usize = 500;

/// A call that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// What the item gets.
    pub(super) error: NodeError,
    /// What it tells of the endpoint.
    pub(super) ended: Ended,
    /// Whether another endpoint may do better.
    pub(super) elsewhere: bool,
}

impl Failure {
    /// The item is at fault, and would be anywhere.
    pub(super) fn of_item(error: NodeError) -> Self {
        Self {
            error,
            ended: Ended::Well,
            elsewhere: false,
        }
    }

    /// The endpoint is out of reach, or the connection was lost.
    pub(super) fn unreachable(reason: String) -> Self {
        Self::of_endpoint(NodeError::unavailable(reason))
    }

    /// The endpoint answered something that makes no sense.
    pub(crate) fn senseless(reason: String) -> Self {
        Self::of_endpoint(NodeError::failed(reason))
    }

    /// The endpoint did not answer in time; there is none left for another.
    pub(super) fn late(after: Duration) -> Self {
        Self {
            error: NodeError::Timeout { after },
            ended: Ended::Badly,
            elsewhere: false,
        }
    }

    fn of_endpoint(error: NodeError) -> Self {
        Self {
            error,
            ended: Ended::Badly,
            elsewhere: true,
        }
    }

    /// The request could not be sent, or its answer not be received.
    pub(super) fn of_transport(endpoint: &str, error: &reqwest::Error) -> Self {
        let reason = innermost(error);
        if error.is_connect() {
            return Self::unreachable(format!("cannot connect to {endpoint}: {reason}"));
        }
        if error.is_timeout() {
            let reason = format!("{endpoint} has been silent for too long");
            return Self::unreachable(reason);
        }
        Self::unreachable(format!("the connection to {endpoint} was lost: {reason}"))
    }

    /// The service answered with a status that is no success. `named` is the model that the request
    /// named, if any.
    pub(super) fn of_status(
        endpoint: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        named: Option<(&'static str, &str)>,
    ) -> Self {
        use StatusCode as S;
        let words = words(body);
        let said = match words.is_empty() {
            true => format!("{endpoint} answered {status}"),
            false => format!("{endpoint} answered {status}: {words}"),
        };
        let full = retry_after(headers);
        match status {
            S::BAD_REQUEST | S::PAYLOAD_TOO_LARGE | S::UNPROCESSABLE_ENTITY => {
                Self::of_item(NodeError::invalid(said))
            }
            S::NOT_FOUND => match named.filter(|_| words.to_lowercase().contains("model")) {
                Some((what, name)) => Self::of_item(NodeError::NotFound {
                    what,
                    name: name.to_owned(),
                }),
                None => Self::senseless(format!("{said}; is the address right?")),
            },
            S::UNAUTHORIZED | S::FORBIDDEN => {
                Self::senseless(format!("{said}; is the `api-key` right?"))
            }
            S::TOO_MANY_REQUESTS => {
                let retry_after = full.unwrap_or(FULL);
                Self {
                    error: NodeError::Full { retry_after },
                    ended: Ended::Full(retry_after),
                    elsewhere: true,
                }
            }
            S::SERVICE_UNAVAILABLE => Self {
                error: NodeError::Unavailable {
                    reason: said,
                    retry_after: full,
                },
                ended: full.map_or(Ended::Badly, Ended::Full),
                elsewhere: true,
            },
            S::REQUEST_TIMEOUT | S::BAD_GATEWAY | S::GATEWAY_TIMEOUT => Self::unreachable(said),
            _ => Self::senseless(said),
        }
    }
}

/// What a service says in the body of an error: the message of OpenAI's, Cohere's, TEI's,
/// FastAPI's and Qdrant's shapes, or the text itself.
fn words(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let places = [
        "/error/message",
        "/message",
        "/error",
        "/detail",
        "/status/error",
    ];
    let found = places
        .iter()
        .find_map(|place| json.pointer(place)?.as_str());
    match found {
        Some(text) => shown(text),
        None => shown(&String::from_utf8_lossy(body)),
    }
}

/// A service's own words as far as they are passed on.
fn shown(text: &str) -> String {
    let mut words = text.trim().chars().filter(|c| !c.is_control());
    let short: String = words.by_ref().take(WORDS).collect();
    match words.next() {
        Some(_) => short + "…",
        None => short,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?;
    // The other form, a date, is no better than a guess where clocks differ.
    let seconds: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The last cause, which says what happened; those around it repeat each other and the address.
fn innermost(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(status: u16, headers: &[(&'static str, &str)], body: &str, expect: Expect) {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        let failure = Failure::of_status(
            "http://a",
            status,
            &headers,
            body.as_bytes(),
            Some(("adapter", "qa")),
        );
        let kind = format!("{:?}", failure.error);
        let kind = kind.split([' ', '{']).next().unwrap_or_default();
        expect.assert_eq(&format!(
            "{kind}: {}\n{:?}, elsewhere {}",
            failure.error, failure.ended, failure.elsewhere
        ));
    }

    #[test]
    fn statuses_become_errors() {
        check(
            400,
            &[],
            r#"{"error": {"message": "max_tokens is too large", "type": "invalid_request_error"}}"#,
            expect![[r#"
                Invalid: http://a answered 400 Bad Request: max_tokens is too large
                Well, elsewhere false"#]],
        );
        check(
            404,
            &[],
            r#"{"object": "error", "message": "The model `qa` does not exist."}"#,
            expect![[r#"
                NotFound: adapter "qa" does not exist
                Well, elsewhere false"#]],
        );
        check(
            404,
            &[],
            r#"{"detail": "Not Found"}"#,
            expect![[r#"
                Failed: http://a answered 404 Not Found: Not Found; is the address right?
                Badly, elsewhere true"#]],
        );
        check(
            401,
            &[],
            "",
            expect![[r#"
                Failed: http://a answered 401 Unauthorized; is the `api-key` right?
                Badly, elsewhere true"#]],
        );
        check(
            429,
            &[("retry-after", "2.5")],
            r#"{"error": "Model is overloaded", "error_type": "overloaded"}"#,
            expect![[r#"
                Full: too many requests are waiting
                Full(2.5s), elsewhere true"#]],
        );
        check(
            503,
            &[("retry-after", "7")],
            "busy",
            expect![[r#"
                Unavailable: http://a answered 503 Service Unavailable: busy
                Full(7s), elsewhere true"#]],
        );
        check(
            502,
            &[],
            "<html>",
            expect![[r#"
                Unavailable: http://a answered 502 Bad Gateway: <html>
                Badly, elsewhere true"#]],
        );
        check(
            500,
            &[],
            r#"{"message": "CUDA error"}"#,
            expect![[r#"
                Failed: http://a answered 500 Internal Server Error: CUDA error
                Badly, elsewhere true"#]],
        );
        check(
            302,
            &[],
            "",
            expect![[r#"
                Failed: http://a answered 302 Found
                Badly, elsewhere true"#]],
        );
    }

    #[test]
    fn long_words_are_cut() {
        assert_eq!(words("ä".repeat(600).as_bytes()).chars().count(), 501);
    }
}
