//! From declarations to a [`Program`]: every problem is found in one go, and what comes out needs
//! no second look.
//!
//! The files are the steps: `world` (models and indexes), `routes`, `resources`, then for each
//! graph `draft` (templates parsed, references found), `order` (cycles), `bind` (arguments to typed
//! expressions), `kinds` (what each kind takes and yields), `runs` (when a node runs), and `graph`,
//! which goes through them with `inputs` (what a node takes) and `rules` (what else must hold).

mod bind;
mod draft;
mod graph;
mod inputs;
mod kinds;
mod order;
mod resources;
mod routes;
mod rules;
mod runs;
mod world;

pub use routes::OWN_ROUTES;

use crate::{Facts, Program, problems::Problems};
use schema::{Diagnostic, Document, Server};
use std::sync::Arc;

/// Checks a file with its includes.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file, together with what is merely
/// suspicious.
pub fn check(document: Document, facts: &Facts) -> Result<Program, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let world = world::World::new(&document, facts, &mut problems);
    routes::check(&document, &mut problems);
    resources::check(&document, facts, &mut problems);
    let timeout = document
        .server
        .as_deref()
        .unwrap_or(&Server::default())
        .timeout;
    let graphs: Vec<_> = document
        .graphs
        .iter()
        .map(|decl| graph::check(decl, &world, timeout, &mut problems))
        .collect();
    let failed = problems.errors() > 0;
    let found = problems.into_list();
    if failed {
        return Err(found);
    }
    Ok(Program {
        server: document
            .server
            .map(|server| server.value)
            .unwrap_or_default(),
        models: document.models,
        indexes: document.indexes,
        graphs: graphs.into_iter().map(Arc::new).collect(),
        warnings: found,
        content: facts.content.clone(),
    })
}
