//! The way into a graph: which generation, which graph of it, and whether it lets requests in now.

use super::{
    Front,
    generations::Next,
    identity,
    infer::{Asked, note, problem_of},
    problem::Problem,
};
use crate::{
    execute::RequestError,
    topology::{Inside, Outside, Served, Topology},
};
use http::{HeaderMap, Method, request::Parts};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// A request that is inside of a graph.
pub(super) struct Entered {
    pub(super) topology: Arc<Topology>,
    /// Which of its graphs.
    pub(super) graph: usize,
    /// To be kept until the last of the answer is made.
    _inside: Inside,
    /// Who gets a copy of it.
    pub(super) copy: Option<Next>,
    /// Whether the answer names its generation.
    named: bool,
}

/// Finds the graph that is meant and goes in, if the request may ask it; waits while its turnstile is
/// closed.
pub(super) async fn enter(
    front: &Front,
    request: &Parts,
    asked: &Asked,
) -> Result<Entered, Problem> {
    loop {
        let chosen = front.choose(request)?;
        let graph = find(&chosen.topology, request)?;
        let served = &chosen.topology.graphs()[graph];
        if let Some(inside) = served.turnstile().enter() {
            return Ok(Entered {
                topology: chosen.topology,
                graph,
                _inside: inside,
                copy: chosen.copy,
                named: chosen.named,
            });
        }
        let (allowed, deadline) = asked.time(&request.headers, served)?;
        let waited = served.turnstile().wait(deadline, allowed).await;
        if let Err(Outside { node, error }) = waited {
            let error = RequestError {
                graph: served.graph().id().as_str().into(),
                node: Some(node),
                error,
            };
            let problem = problem_of(&error, served);
            note(&problem, served, asked);
            return Err(problem);
        }
    }
}

/// Which graph is meant, if the request may ask it.
fn find(topology: &Topology, request: &Parts) -> Result<usize, Problem> {
    super::authorize(topology, &request.headers)?;
    let path = request.uri.path();
    let found = topology
        .index_at(path)
        .ok_or_else(|| Problem::no_route(path))?;
    match request.method {
        Method::POST => Ok(found),
        _ => Err(Problem::method("POST")),
    }
}

impl Entered {
    /// The graph.
    pub(super) fn served(&self) -> &Served {
        &self.topology.graphs()[self.graph]
    }

    /// The generation, where the answer is to name it.
    pub(super) fn named(&self) -> Option<u64> {
        self.named.then(|| self.topology.generation())
    }
}

impl Asked {
    /// How long a request may take, and until when.
    pub(super) fn time(
        &self,
        headers: &HeaderMap,
        served: &Served,
    ) -> Result<(Duration, Option<Instant>), Problem> {
        let longest = served.graph().timeout();
        let allowed = identity::timeout(headers)?.map_or(longest, |asked| asked.min(longest));
        Ok((allowed, self.begun.checked_add(allowed)))
    }
}
