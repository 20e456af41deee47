//! `GET /v1/models`: the models and adapters that requests can name, as OpenAI and vLLM list them.

use super::{Front, Problem, enter};
use axum::{
    Json,
    extract::{Request, State},
};
use nodes::NodeError;
use serde::Serialize;
use std::{sync::Arc, time::UNIX_EPOCH};

/// The list.
#[derive(Debug, Serialize)]
pub(super) struct Models {
    object: &'static str,
    data: Vec<Model>,
}

/// A model, or an adapter over one.
#[derive(Debug, Serialize)]
struct Model {
    id: String,
    object: &'static str,
    /// When the engine started, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
    /// The model that an adapter is over; none for a model.
    parent: Option<String>,
}

pub(super) async fn list(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Json<Models>, Problem> {
    let topology = enter(&front, request.headers())?;
    let started = UNIX_EPOCH.elapsed().unwrap_or_default();
    let created = started.saturating_sub(front.uptime()).as_secs();
    let model = |id: &str, parent: Option<&str>| Model {
        id: id.to_owned(),
        object: "model",
        created,
        owned_by: "engine",
        parent: parent.map(str::to_owned),
    };
    let mut data = Vec::new();
    for declared in topology.program().models() {
        let id = declared.id.as_str();
        data.push(model(id, None));
        let Some(store) = topology.adapters().get(id) else {
            continue;
        };
        let adapters = store.list().await;
        let adapters = adapters.map_err(|error: NodeError| Problem::of_order(&error))?;
        let there = adapters.iter().filter(|adapter| adapter.is_there());
        data.extend(there.map(|adapter| model(&adapter.name, Some(id))));
    }
    // One that lingers beside its own next generation is listed once.
    data.dedup_by(|one, other| one.id == other.id && one.parent == other.parent);
    let object = "list";
    Ok(Json(Models { object, data }))
}
