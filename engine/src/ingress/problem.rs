//! Errors as clients see them: `application/problem+json` (RFC 9457). The only place where an error
//! becomes a status.

use crate::execute::RequestError;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use nodes::{Misfit, NodeError};
use schema::WhenFull;
use serde::Serialize;
use std::time::Duration;

/// Why a request was not answered.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// A stable name of the kind of problem.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    graph: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    allow: Option<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
struct FieldError {
    field: String,
    reason: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:engine:problem:{kind}"),
            title,
            status,
            detail: detail.into(),
            graph: None,
            node: None,
            request_id: None,
            errors: Vec::new(),
            retry_after: None,
            allow: None,
        }
    }

    /// The path leads nowhere.
    pub(super) fn no_route(path: &str) -> Self {
        let detail = format!("nothing is served at {path}; /-/routes lists what is");
        Self::new(StatusCode::NOT_FOUND, "no-route", "Not found", detail)
    }

    /// The path leads nowhere on the admin listener.
    pub(crate) fn no_admin_route(path: &str) -> Self {
        let detail = format!("nothing is served at {path}; there are /metrics and /status");
        Self::new(StatusCode::NOT_FOUND, "no-route", "Not found", detail)
    }

    /// The path is there, the method is not.
    pub(crate) fn method(allow: &'static str) -> Self {
        let detail = format!("send a {allow} request");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self {
            allow: Some(allow),
            ..Self::new(status, "method", "Method not allowed", detail)
        }
    }

    /// No key, or a wrong one.
    pub(super) fn unauthorized() -> Self {
        let detail = "send a valid key as `authorization: Bearer KEY`";
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Unauthorized",
            detail,
        )
    }

    /// The body is too large.
    pub(super) fn too_large(most: u64) -> Self {
        let detail = format!("the body has more than {}", schema::ByteSize(most));
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "Body too large",
            detail,
        )
    }

    /// The body did not arrive in time.
    pub(super) fn slow(after: Duration) -> Self {
        let detail = format!("the body did not arrive within {after:?}");
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow-body",
            "Request timeout",
            detail,
        )
    }

    /// The body did not arrive as a whole.
    pub(super) fn broken_body(reason: impl std::fmt::Display) -> Self {
        let detail = format!("the body cannot be read: {reason}");
        Self::new(
            StatusCode::BAD_REQUEST,
            "broken-body",
            "Bad request",
            detail,
        )
    }

    /// The body is something other than JSON, by its own words.
    pub(super) fn content_type() -> Self {
        let detail = "send JSON with `content-type: application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "content-type", "Unsupported media type", detail)
    }

    /// The body is compressed, which is not taken: it could grow without bound.
    pub(super) fn content_encoding() -> Self {
        let detail = "send the body without a `content-encoding`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(
            status,
            "content-encoding",
            "Unsupported content encoding",
            detail,
        )
    }

    /// The body is not the JSON that it claims to be.
    pub(super) fn not_json(reason: impl std::fmt::Display) -> Self {
        let detail = format!("the body is not valid JSON: {reason}");
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid-json",
            "Invalid JSON",
            detail,
        )
    }

    /// A header makes no sense.
    pub(super) fn header(name: &str, reason: &str) -> Self {
        let detail = format!("the header `{name}` {reason}");
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid-header",
            "Invalid header",
            detail,
        )
    }

    /// The body does not fit the graph's input.
    pub(super) fn input(misfits: Vec<Misfit>) -> Self {
        let errors = misfits.into_iter().map(|misfit| FieldError {
            field: misfit.place,
            reason: misfit.reason,
        });
        let errors: Vec<_> = errors.collect();
        let detail = match errors.len() {
            1 => "one field does not fit the graph's input".to_owned(),
            many => format!("{many} fields do not fit the graph's input"),
        };
        Self {
            errors,
            ..Self::new(
                StatusCode::BAD_REQUEST,
                "invalid-input",
                "Invalid input",
                detail,
            )
        }
    }

    /// A defect of the engine.
    pub(super) fn internal() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(
            status,
            "internal",
            "Internal error",
            "the engine failed to answer",
        )
    }

    /// A request's failure. `when_full` is how its node wants a full queue to be answered.
    pub(super) fn of_request(error: &RequestError, when_full: WhenFull) -> Self {
        use StatusCode as S;
        let (status, kind, title) = match (&error.error, when_full) {
            (NodeError::Invalid { .. }, _) => (S::BAD_REQUEST, "invalid", "Invalid request"),
            (NodeError::NotFound { .. }, _) => (S::NOT_FOUND, "not-found", "Not found"),
            (NodeError::Full { .. }, WhenFull::Unavailable) => {
                (S::SERVICE_UNAVAILABLE, "full", "Overloaded")
            }
            (NodeError::Full { .. }, WhenFull::TooManyRequests) => {
                (S::TOO_MANY_REQUESTS, "full", "Too many requests")
            }
            (NodeError::Unavailable { .. }, _) => {
                (S::SERVICE_UNAVAILABLE, "unavailable", "Unavailable")
            }
            (NodeError::Timeout { .. }, _) => (S::GATEWAY_TIMEOUT, "timeout", "Timeout"),
            (NodeError::Failed { .. }, _) => (S::INTERNAL_SERVER_ERROR, "failed", "Node failed"),
        };
        let retry_after = match &error.error {
            NodeError::Full { retry_after } => Some(*retry_after),
            NodeError::Unavailable { .. } => Some(Duration::from_secs(1)),
            _ => None,
        };
        Self {
            graph: Some(error.graph.to_string()),
            node: error.node.as_ref().map(ToString::to_string),
            retry_after,
            ..Self::new(status, kind, title, error.error.to_string())
        }
    }

    /// Names the graph that was asked.
    pub(super) fn in_graph(mut self, graph: &str) -> Self {
        self.graph.get_or_insert_with(|| graph.to_owned());
        self
    }

    /// Names the request.
    pub(super) fn for_request(mut self, id: &str) -> Self {
        self.request_id = Some(id.to_owned());
        self
    }

    /// The status that it is answered with.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What went wrong, for logs.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The node at fault, for logs.
    pub(super) fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> String {
        // A struct of texts and numbers can be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        const TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, TYPE);
        if let Some(retry_after) = self.retry_after {
            let seconds = retry_after.as_secs_f64().ceil() as u64;
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
