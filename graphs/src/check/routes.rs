//! Graphs do not share a name or a route, and leave the engine its own routes.

use super::world::duplicate;
use crate::problems::Problems;
use schema::{Diagnostic, Document, GraphDecl, Name, Span, Spanned, codes};
use std::collections::HashMap;

/// Paths that the engine serves itself, with everything below them.
pub const OWN_ROUTES: [&str; 6] = ["/-", "/docs", "/health", "/openapi.json", "/v1", "/v2"];

/// Where a graph is served, and the place that says so.
pub(super) fn route(decl: &GraphDecl) -> (String, Span) {
    match &decl.route {
        Some(route) => (route.value.clone(), route.span),
        None => (format!("/{}", *decl.id), decl.id.span),
    }
}

pub(super) fn check(document: &Document, problems: &mut Problems) {
    let mut names: HashMap<String, &Spanned<Name>> = HashMap::new();
    let mut routes: HashMap<String, Span> = HashMap::new();
    for decl in &document.graphs {
        match names.get(&decl.id.in_template()) {
            Some(first) => {
                duplicate("graph", &decl.id, first, problems);
                // Without a route of its own it would be reported again for its route.
                if decl.route.is_none() {
                    continue;
                }
            }
            None => {
                names.insert(decl.id.in_template(), &decl.id);
            }
        }
        let (route, span) = route(decl);
        let path = route.trim_end_matches('/').to_owned();
        if let Some(own) = own_route(&path) {
            let message = format!("route \"{route}\" belongs to the engine");
            let problem = Diagnostic::error(codes::DUPLICATE_ROUTE, message, span);
            problems.push(problem.help(format!(
                "the engine serves {own} and what is below it itself"
            )));
        }
        match routes.get(&path) {
            Some(first) => problems.push(
                Diagnostic::error(
                    codes::DUPLICATE_ROUTE,
                    format!("a second graph is served at \"{route}\""),
                    span,
                )
                .also(*first, "the first one"),
            ),
            None => {
                routes.insert(path, span);
            }
        }
    }
}

fn own_route(path: &str) -> Option<&'static str> {
    OWN_ROUTES.into_iter().find(|own| {
        path.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}
