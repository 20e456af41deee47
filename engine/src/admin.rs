//! The face for operators: metrics, status, health. It has a listener of its own and is never on
//! the public one.

use crate::{
    ingress::{Front, Problem, health},
    load::Given,
    reload::Order,
};
use axum::{
    Json, Router,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Everything that is served on the admin listener.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/reload", post(reload).fallback(only_post))
        .route("/rollback", post(rollback).fallback(only_post))
        .route("/promote", post(promote).fallback(only_post))
        .route("/abort", post(abort).fallback(only_post))
        .route("/plan", post(plan).fallback(only_post))
        .merge(crate::adapters::routes())
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
        "last_reload": front.control().and_then(|control| control.last()),
        "rollout": front.control().and_then(|control| control.rollout()),
        "last_rollout": front.control().and_then(|control| control.last_rollout()),
        "ready": front.is_ready(),
        "uptime_seconds": front.uptime().as_secs_f64(),
        "version": env!("CARGO_PKG_VERSION"),
        "graphs": status.graphs,
    }))
    .into_response()
}

#[derive(Debug, Deserialize)]
struct Rollback {
    generation: Option<u64>,
}

async fn reload(State(front): State<Arc<Front>>, headers: HeaderMap) -> Response {
    carry_out(&front, &headers, Order::Reload).await
}

async fn rollback(
    State(front): State<Arc<Front>>,
    rollback: Result<Query<Rollback>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(Rollback { generation }) = rollback?;
    Ok(carry_out(&front, &headers, Order::Rollback(generation)).await)
}

async fn promote(State(front): State<Arc<Front>>, headers: HeaderMap) -> Response {
    carry_out(&front, &headers, Order::Promote).await
}

async fn abort(State(front): State<Arc<Front>>, headers: HeaderMap) -> Response {
    carry_out(&front, &headers, Order::Abort).await
}

async fn plan(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    texts: Result<Json<Vec<Given>>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(texts) = texts?;
    Ok(carry_out(&front, &headers, Order::Plan(texts)).await)
}

async fn only_post() -> Problem {
    Problem::method("POST")
}

/// 200 if the order was carried out, 409 if what runs goes on, and why.
async fn carry_out(front: &Front, headers: &HeaderMap, order: Order) -> Response {
    // A page in an operator's browser can reach this address; it must not give orders.
    if headers.contains_key(header::ORIGIN) {
        return Problem::not_for_pages().into_response();
    }
    let outcome = match front.control() {
        Some(control) => control.order(order).await,
        None => None,
    };
    match outcome {
        Some(outcome) if outcome.ok => Json(outcome).into_response(),
        Some(outcome) => (StatusCode::CONFLICT, Json(outcome)).into_response(),
        None => Problem::internal().into_response(),
    }
}
