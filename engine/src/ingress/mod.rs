//! The public face: HTTP in, graphs walked, JSON or server-sent events out.
//!
//! Routes of graphs are looked up in the published [`Topology`] for each request and not in the
//! router, because a reload changes them. Metrics, status and control are on another listener
//! ([`crate::admin`]) and never here.

mod arrive;
mod docs;
mod enter;
mod events;
mod generations;
mod identity;
mod infer;
mod input;
mod listen;
mod models;
mod openapi;
mod problem;
mod shadow;

pub use generations::Next;
pub use listen::{Connections, Doors, Doorways, serve};
pub use openapi::document as openapi;
pub use problem::Problem;

use crate::{metrics::Metrics, reload::Control, topology::Topology};
use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use generations::Generations;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

/// What the listeners share: the generations that are served, and whether the engine is about to stop.
#[derive(Debug)]
pub struct Front {
    generations: ArcSwap<Generations>,
    /// Requests that were divided between two generations.
    requests: AtomicU64,
    metrics: Arc<Metrics>,
    stopping: AtomicBool,
    started: Instant,
    body_timeout: Duration,
    control: Option<Arc<Control>>,
}

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

impl Front {
    /// Serves this topology until another is published.
    pub fn new(topology: Topology, metrics: Arc<Metrics>) -> Self {
        metrics.set_generation(topology.generation());
        metrics.watch_adapters(Arc::clone(topology.adapters()));
        Self {
            generations: ArcSwap::from_pointee(Generations::of(Arc::new(topology), None)),
            requests: AtomicU64::new(0),
            metrics,
            stopping: AtomicBool::new(false),
            started: Instant::now(),
            body_timeout: BODY_TIMEOUT,
            control: None,
        }
    }

    /// The same with another bound on the time that a body takes to arrive; 30 s if not set.
    #[must_use]
    pub fn with_body_timeout(mut self, body_timeout: Duration) -> Self {
        self.body_timeout = body_timeout;
        self
    }

    /// The same with somebody who carries out orders of the admin listener.
    #[must_use]
    pub fn with_control(mut self, control: Arc<Control>) -> Self {
        self.control = Some(control);
        self
    }

    /// Who carries out orders of the admin listener, if anybody does.
    pub fn control(&self) -> Option<&Arc<Control>> {
        self.control.as_ref()
    }

    /// The topology that new requests run on, unless a rollout gives them another one.
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(self.generations.load().stable())
    }

    /// Puts another topology in the place of the current one, for all requests. Those that run stay on
    /// theirs.
    pub fn publish(&self, topology: Arc<Topology>) -> Arc<Topology> {
        self.metrics.set_generation(topology.generation());
        self.metrics.watch_adapters(Arc::clone(topology.adapters()));
        let generations = Arc::new(Generations::of(topology, None));
        Arc::clone(self.generations.swap(generations).stable())
    }

    /// The engine's series.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether new requests are welcome.
    pub fn is_ready(&self) -> bool {
        !self.stopping.load(Relaxed)
    }

    /// How long the engine has been up.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }
}

/// Everything that is served on the public listener.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/-/routes", get(routes))
        .route("/openapi.json", get(openapi_json))
        .route("/docs", get(docs::page))
        .route("/v1/models", get(models::list))
        .merge(health())
        .method_not_allowed_fallback(|| async { Problem::method("GET") })
        .fallback(infer::answer)
        .layer(CatchPanicLayer::custom(|_| {
            Problem::internal().into_response()
        }))
        .with_state(front)
}

/// The health checks, which both listeners have.
pub(crate) fn health() -> Router<Arc<Front>> {
    Router::new()
        .route("/-/healthz", get(alive))
        .route("/health", get(ready))
        .route("/-/readyz", get(ready))
}

async fn alive() -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

/// A topology is published only when all its pools are ready, so what is left to ask is whether
/// the engine is stopping, and whether a node has broken since.
async fn ready(State(front): State<Arc<Front>>) -> Response {
    let topology = front.topology();
    let graphs = topology.graphs().iter();
    let graphs: Vec<_> = graphs
        .map(|served| served.graph().id().to_string())
        .collect();
    let generation = topology.generation();
    let unhealthy = topology.unhealthy();
    match front.is_ready() {
        true if !unhealthy.is_empty() => {
            let body = Json(json!({ "status": "unhealthy", "nodes": unhealthy }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
        true => Json(json!({ "status": "ready", "generation": generation, "graphs": graphs }))
            .into_response(),
        false => {
            let body = Json(json!({ "status": "stopping" }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn routes(State(front): State<Arc<Front>>, request: Request) -> Response {
    let topology = match enter(&front, request.headers()) {
        Ok(topology) => topology,
        Err(problem) => return problem.into_response(),
    };
    let graphs = topology.graphs().iter();
    let routes = graphs.map(|served| {
        let graph = served.graph();
        (graph.route().to_owned(), json!(graph.id().as_str()))
    });
    Json(routes.collect::<serde_json::Map<_, _>>()).into_response()
}

async fn openapi_json(State(front): State<Arc<Front>>, request: Request) -> Response {
    let topology = match enter(&front, request.headers()) {
        Ok(topology) => topology,
        Err(problem) => return problem.into_response(),
    };
    const TYPE: HeaderValue = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, TYPE)], topology.openapi().clone()).into_response()
}

/// The generation that the request asks for, if it may see it.
fn enter(front: &Front, headers: &HeaderMap) -> Result<Arc<Topology>, Problem> {
    let topology = front.asked_for(headers)?;
    authorize(&topology, headers)?;
    Ok(topology)
}

fn authorize(topology: &Topology, headers: &HeaderMap) -> Result<(), Problem> {
    identity::authorize(headers, &topology.program().server().api_keys)
}
