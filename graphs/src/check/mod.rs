//! From declarations to a [`Program`]: every problem is found in one go, and what comes out needs
//! no second look.
//!
//! The files are the steps: `world` (models and indexes), `routes`, `resources`, then for each
//! graph `draft` (templates parsed, references found), `order` (cycles), `bind` (arguments to typed
//! expressions), `kinds` (what each kind takes and yields), `runs` (when a node runs), and `graph`,
//! which goes through them.

mod bind;
mod draft;
mod graph;
mod kinds;
mod order;
mod resources;
mod routes;
mod runs;
mod world;

pub use routes::OWN_ROUTES;

use crate::{Facts, Program, problems::Problems};
use schema::{Diagnostic, Document, Server, Spanned, Text};
use std::{sync::Arc, time::Duration};

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
    let timeout = document.server.as_ref().map(|server| server.timeout);
    let graphs: Vec<_> = document
        .graphs
        .iter()
        .map(|decl| graph::check(decl, &world, timeout, &mut problems))
        .collect();
    let mut found = problems.found;
    found.sort_by_key(|problem| {
        let place = problem.labels.first().map(|label| label.span);
        place.map(|span| (span.source, span.start))
    });
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    Ok(Program {
        server: document
            .server
            .map_or_else(default_server, |server| server.value),
        models: document.models,
        indexes: document.indexes,
        graphs: graphs.into_iter().map(Arc::new).collect(),
        warnings: found,
    })
}

/// How long a request may take where neither the server nor its graph says.
fn default_timeout() -> Duration {
    default_server().timeout
}

fn default_server() -> Server {
    let text = |text: &str| Spanned::new(Text::plain(text), schema::Span::default());
    Server {
        listen: text("127.0.0.1:8000"),
        admin: text("127.0.0.1:8001"),
        api_keys: Vec::new(),
        max_body: schema::ByteSize(1 << 20),
        timeout: Duration::from_secs(60),
        graceful_shutdown_timeout: Duration::from_secs(20),
    }
}
