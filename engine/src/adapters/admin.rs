//! Orders of operators about adapters, on the admin listener and nowhere else.
//!
//! `/v1/load_lora_adapter` and `/v1/unload_lora_adapter` are vLLM's, for tools that speak to it. Unlike
//! there, a path must lead into the model's own folder of adapters: the file says what is read from
//! this machine, and not who reaches the socket.

use super::{Done, ModelAdapters, Report, Shelves};
use crate::ingress::{Front, Problem};
use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use nodes::{NodeError, residency::AdapterStore};
use serde::Deserialize;
use std::{path::PathBuf, sync::Arc};

/// What an operator can have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Load,
    Unload,
    Pin,
    Unpin,
}

#[derive(Debug, Deserialize)]
struct Which {
    /// May be left out where one model alone takes adapters.
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Named {
    model: Option<String>,
    name: String,
}

/// The body of `/v1/load_lora_adapter`; other fields are vLLM's own affair.
#[derive(Debug, Deserialize)]
struct LoadLora {
    lora_name: String,
    lora_path: PathBuf,
    model: Option<String>,
}

/// The body of `/v1/unload_lora_adapter`.
#[derive(Debug, Deserialize)]
struct UnloadLora {
    lora_name: String,
    model: Option<String>,
}

/// The routes for the admin listener.
pub fn routes() -> Router<Arc<Front>> {
    async fn only_post() -> Problem {
        Problem::method("POST")
    }
    Router::new()
        .route("/adapters", get(list))
        .route("/adapters/{verb}", post(order).fallback(only_post))
        .route("/v1/load_lora_adapter", post(load_lora).fallback(only_post))
        .route(
            "/v1/unload_lora_adapter",
            post(unload_lora).fallback(only_post),
        )
}

async fn list(
    State(front): State<Arc<Front>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Report>, Problem> {
    let Query(Which { model }) = which?;
    let topology = front.topology();
    let shelves = topology.adapters();
    let mut models = Vec::new();
    for one in shelves.models() {
        if model.as_deref().is_some_and(|wanted| wanted != one) {
            continue;
        }
        models.push(of_model(one, shelves.get(one)).await?);
    }
    match (models.is_empty(), model) {
        (true, Some(model)) => Err(no_model(&model)),
        _ => Ok(Json(Report { models })),
    }
}

async fn of_model(
    model: &str,
    store: Option<Arc<dyn AdapterStore>>,
) -> Result<ModelAdapters, Problem> {
    let mut report = ModelAdapters {
        model: model.to_owned(),
        ..ModelAdapters::default()
    };
    if let Some(store) = store {
        let lines = store.list().await.map_err(|error| refused(&error))?;
        report.adapters = lines.into_iter().map(Into::into).collect();
        report.bytes = store.snapshot().bytes;
    }
    Ok(report)
}

async fn order(
    State(front): State<Arc<Front>>,
    Path(verb): Path<String>,
    named: Result<Query<Named>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<Done>, Problem> {
    let verb = match verb.as_str() {
        "load" => Verb::Load,
        "unload" => Verb::Unload,
        "pin" => Verb::Pin,
        "unpin" => Verb::Unpin,
        other => return Err(Problem::no_admin_route(&format!("/adapters/{other}"))),
    };
    let Query(Named { model, name }) = named?;
    let (model, store) = choose(&front, &headers, model.as_deref())?;
    let changed = match verb {
        Verb::Load => store.load(&name).await.map(|()| true),
        Verb::Pin => store.pin(&name).await.map(|()| true),
        Verb::Unload => Ok(store.unload(&name).await),
        Verb::Unpin => Ok(store.unpin(&name).await),
    };
    let changed = changed.map_err(|error| refused(&error))?;
    tracing::info!(%model, adapter = name, ?verb, changed, "carried out an order about an adapter");
    Ok(Json(Done {
        model,
        adapter: name,
        changed,
    }))
}

async fn load_lora(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    body: Result<Json<LoadLora>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(body) = body?;
    let (model, store) = choose(&front, &headers, body.model.as_deref())?;
    let name = &body.lora_name;
    let added = store.add(name, &body.lora_path).await;
    added.map_err(|error| refused(&error))?;
    tracing::info!(%model, adapter = name, path = %body.lora_path.display(), "added an adapter");
    let said = format!("Success: LoRA adapter '{name}' added successfully.");
    Ok(said.into_response())
}

async fn unload_lora(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    body: Result<Json<UnloadLora>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(body) = body?;
    let (model, store) = choose(&front, &headers, body.model.as_deref())?;
    let name = &body.lora_name;
    if !store.unload(name).await {
        let not_loaded = NodeError::NotFound {
            what: "loaded adapter",
            name: name.clone(),
        };
        return Err(refused(&not_loaded));
    }
    tracing::info!(%model, adapter = name, "removed an adapter");
    let said = format!("Success: LoRA adapter '{name}' removed successfully.");
    Ok(said.into_response())
}

/// The model that an order is about.
fn choose(
    front: &Front,
    headers: &HeaderMap,
    model: Option<&str>,
) -> Result<(String, Arc<dyn AdapterStore>), Problem> {
    // A page in an operator's browser can reach this address; it must not give orders.
    if headers.contains_key(header::ORIGIN) {
        return Err(Problem::not_for_pages());
    }
    let topology = front.topology();
    let shelves: &Shelves = topology.adapters();
    let known: Vec<&str> = shelves.models().collect();
    let model = match (model, known.as_slice()) {
        (Some(model), known) if known.contains(&model) => model,
        (Some(model), _) => return Err(no_model(model)),
        (None, [only]) => only,
        (None, []) => return Err(Problem::order("no model takes adapters")),
        (None, several) => {
            let several = several.join(", ");
            let reason = format!("name the model: there are {several}");
            return Err(Problem::order(&reason));
        }
    };
    let store = shelves.get(model).ok_or_else(|| {
        let reason = format!("model {model:?} is not loaded; its first request loads it");
        refused(&NodeError::unavailable(reason))
    })?;
    Ok((model.to_owned(), store))
}

fn no_model(model: &str) -> Problem {
    refused(&NodeError::NotFound {
        what: "model with adapters",
        name: model.to_owned(),
    })
}

fn refused(error: &NodeError) -> Problem {
    Problem::of_order(error)
}
