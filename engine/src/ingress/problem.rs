//! Errors as clients see them: `application/problem+json` (RFC 9457). The only place where an error
//! becomes a status.

use crate::execute::RequestError;
use axum::{
    extract::rejection::{JsonRejection, QueryRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use nodes::{Misfit, NodeError};
use schema::WhenFull;
use serde::Serialize;
use std::time::Duration;

/// Why a request was not answered.
#[derive(Debug, Clone)]
pub struct Problem(Box<Content>);

#[derive(Debug, Clone, Serialize)]
struct Content {
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
    fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Content {
            kind: format!("urn:engine:problem:{kind}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            detail: detail.into(),
            graph: None,
            node: None,
            request_id: None,
            errors: Vec::new(),
            retry_after: None,
            allow: None,
        }))
    }

    /// The path leads nowhere.
    pub(super) fn no_route(path: &str) -> Self {
        let detail = format!("nothing is served at {path}; /-/routes lists what is");
        Self::new(StatusCode::NOT_FOUND, "no-route", detail)
    }

    /// The path leads nowhere on the admin listener.
    pub(crate) fn no_admin_route(path: &str) -> Self {
        let detail =
            format!("nothing is served at {path}; there are /metrics, /status and /adapters");
        Self::new(StatusCode::NOT_FOUND, "no-route", detail)
    }

    /// A page of a browser asks what only operators may.
    pub(crate) fn not_for_pages() -> Self {
        let detail = "orders are not taken from pages; use the command line";
        Self::new(StatusCode::FORBIDDEN, "not-for-pages", detail)
    }

    /// The path is there, the method is not.
    pub(crate) fn method(allow: &'static str) -> Self {
        let detail = format!("send a {allow} request");
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail);
        problem.0.allow = Some(allow);
        problem
    }

    /// No key, or a wrong one.
    pub(super) fn unauthorized() -> Self {
        let detail = "send a valid key as `authorization: Bearer KEY`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// The body is too large.
    pub(super) fn too_large(most: u64) -> Self {
        let detail = format!("the body has more than {}", schema::ByteSize(most));
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    /// The body did not arrive in time.
    pub(super) fn slow(after: Duration) -> Self {
        let detail = format!("the body did not arrive within {after:?}");
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow-body", detail)
    }

    /// The body did not arrive as a whole.
    pub(super) fn broken_body(reason: impl std::fmt::Display) -> Self {
        let detail = format!("the body cannot be read: {reason}");
        Self::new(StatusCode::BAD_REQUEST, "broken-body", detail)
    }

    /// The body is something other than JSON, by its own words.
    pub(super) fn content_type() -> Self {
        let detail = "send JSON with `content-type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", detail)
    }

    /// The body is compressed, which is not taken: it could grow without bound.
    pub(super) fn content_encoding() -> Self {
        let detail = "send the body without a `content-encoding`";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-encoding",
            detail,
        )
    }

    /// The body is not the JSON that it claims to be.
    pub(super) fn not_json(reason: impl std::fmt::Display) -> Self {
        let detail = format!("the body is not valid JSON: {reason}");
        Self::new(StatusCode::BAD_REQUEST, "invalid-json", detail)
    }

    /// A header makes no sense.
    pub(super) fn header(name: &str, reason: &str) -> Self {
        let detail = format!("the header `{name}` {reason}");
        Self::new(StatusCode::BAD_REQUEST, "invalid-header", detail)
    }

    /// The body does not fit the graph's input.
    pub(super) fn input(misfits: Vec<Misfit>) -> Self {
        let detail = match misfits.len() {
            1 => "one field does not fit the graph's input".to_owned(),
            many => format!("{many} fields do not fit the graph's input"),
        };
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "invalid-input", detail);
        let errors = misfits.into_iter().map(|misfit| FieldError {
            field: misfit.place,
            reason: misfit.reason,
        });
        problem.0.errors = errors.collect();
        problem
    }

    /// A generation is asked for that is not there.
    pub(super) fn no_next() -> Self {
        let detail = "no next generation is waiting; leave the header `x-engine-generation` out";
        Self::new(StatusCode::NOT_FOUND, "no-generation", detail)
    }

    /// A defect of the engine.
    pub(crate) fn internal() -> Self {
        let detail = "the engine failed to answer";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// A request's failure. `when_full` is how its node wants a full queue to be answered.
    pub(super) fn of_request(error: &RequestError, when_full: WhenFull) -> Self {
        use StatusCode as S;
        let (status, kind) = match (&error.error, when_full) {
            (NodeError::Invalid { .. }, _) => (S::BAD_REQUEST, "invalid"),
            (NodeError::NotFound { .. }, _) => (S::NOT_FOUND, "not-found"),
            (NodeError::Full { .. }, WhenFull::Unavailable) => (S::SERVICE_UNAVAILABLE, "full"),
            (NodeError::Full { .. }, WhenFull::TooManyRequests) => (S::TOO_MANY_REQUESTS, "full"),
            (NodeError::Unavailable { .. }, _) => (S::SERVICE_UNAVAILABLE, "unavailable"),
            (NodeError::Timeout { .. }, _) => (S::GATEWAY_TIMEOUT, "timeout"),
            (NodeError::Failed { .. } | NodeError::Lost { .. }, _) => {
                (S::INTERNAL_SERVER_ERROR, "failed")
            }
        };
        let mut problem = Self::new(status, kind, error.error.to_string());
        problem.0.graph = Some(error.graph.to_string());
        problem.0.node = error.node.as_ref().map(ToString::to_string);
        problem.0.retry_after = match &error.error {
            NodeError::Full { retry_after } => Some(*retry_after),
            NodeError::Unavailable { retry_after, .. } => {
                Some(retry_after.unwrap_or(Duration::from_secs(1)))
            }
            _ => None,
        };
        problem
    }

    /// An operator's order that was not carried out.
    pub(crate) fn of_order(error: &NodeError) -> Self {
        let graph = "".into();
        let error = error.clone();
        let node = None;
        let mut problem =
            Self::of_request(&RequestError { graph, node, error }, WhenFull::default());
        problem.0.graph = None;
        problem
    }

    /// An order that makes no sense.
    pub(crate) fn order(reason: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", reason)
    }

    /// Names the graph that was asked.
    pub(super) fn in_graph(mut self, graph: &str) -> Self {
        self.0.graph.get_or_insert_with(|| graph.to_owned());
        self
    }

    /// Names the request.
    pub(super) fn for_request(mut self, id: &str) -> Self {
        self.0.request_id = Some(id.to_owned());
        self
    }

    /// The status that it is answered with.
    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What went wrong, for logs.
    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The node at fault, for logs.
    pub(super) fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> String {
        // A struct of texts and numbers can be written.
        serde_json::to_string(&*self.0).unwrap_or_default()
    }
}

/// Of an order, whose body was not understood. Requests of graphs are read elsewhere.
impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::order(&rejection.body_text())
    }
}

/// Of an order, whose query was not understood.
impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::order(&rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        const TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
        let mut response = (self.0.status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, TYPE);
        if let Some(retry_after) = self.0.retry_after {
            // The header knows whole seconds, and none would be an invitation to come at once.
            let seconds = (retry_after.as_secs_f64().ceil() as u64).max(1);
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self.0.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
