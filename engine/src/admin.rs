//! The face for operators: metrics, status, health. It has a listener of its own and is never on
//! the public one.

use crate::ingress::{Front, Problem, health};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use std::sync::Arc;

/// Everything that is served on the admin listener.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .merge(health())
        .method_not_allowed_fallback(|| async { Problem::method("GET") })
        .fallback(|uri: axum::http::Uri| async move { Problem::no_admin_route(uri.path()) })
        .with_state(front)
}

async fn metrics(State(front): State<Arc<Front>>) -> Response {
    const TYPE: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, TYPE)], front.metrics().encode()).into_response()
}

async fn status(State(front): State<Arc<Front>>) -> Response {
    let topology = front.topology();
    let status = topology.status();
    Json(json!({
        "generation": status.generation,
        "ready": front.is_ready(),
        "uptime_seconds": front.uptime().as_secs_f64(),
        "version": env!("CARGO_PKG_VERSION"),
        "graphs": status.graphs,
    }))
    .into_response()
}
