//! What the language has and the engine cannot do yet.
//!
//! Such an option is decoded and checked like any other, so that files can be written against the
//! whole language, and refused before anything starts: it is never accepted and ignored. Each line
//! here goes when its feature comes.

use graphs::{GraphNode, Program};
use schema::{Diagnostic, IndexBackend, PoolSpec, Span, Work, codes, kind::Backend};

/// One diagnostic for each thing that the program asks for and the engine cannot do yet.
pub fn find(program: &Program) -> Vec<Diagnostic> {
    let indexes = program.indexes().iter().filter_map(|index| {
        let (what, span) = match &index.backend {
            IndexBackend::Embedded { .. } => return None,
            IndexBackend::Qdrant { url, .. } => ("indexes on Qdrant", url.span),
            IndexBackend::Milvus { url, .. } => ("indexes on Milvus", url.span),
            IndexBackend::Pgvector { url, .. } => ("indexes in PostgreSQL", url.span),
        };
        Some((what, span))
    });
    let graphs = program.graphs().iter();
    let nodes = graphs.flat_map(|graph| graph.nodes().flat_map(|(_, node)| in_node(node)));
    indexes.chain(nodes).map(|(what, span)| not_built(what, span)).collect()
}

fn not_built(what: &str, span: Span) -> Diagnostic {
    Diagnostic::error(codes::NOT_BUILT_YET, format!("{what} are not built yet"), span)
        .label("asked for here")
        .help("the file is fine; this version of the engine cannot run it")
}

fn in_node(node: &GraphNode) -> Vec<(&'static str, Span)> {
    let decl = &node.decl;
    let mut found = in_pool(&decl.pool);
    found.extend(match &decl.work {
        Work::Http(_) => Some(("http nodes", decl.id.span)),
        Work::Python(_) => Some(("python nodes", decl.id.span)),
        Work::Infer(_) => Some(("infer nodes", decl.id.span)),
        Work::Embed(work) => remote(&work.backend),
        Work::Rerank(work) => remote(&work.backend),
        Work::Generate(work) => remote(&work.backend),
        _ => None,
    });
    found
}

fn remote(backend: &Backend) -> Option<(&'static str, Span)> {
    match backend {
        Backend::Local(_) => None,
        Backend::Remote(endpoint) => Some(("endpoints", endpoint.span)),
    }
}

fn in_pool(pool: &PoolSpec) -> Vec<(&'static str, Span)> {
    let replicas = &pool.replicas;
    let scaling = replicas.max.value > replicas.min.value.max(1) || replicas.min.value == 0;
    let asked = [
        ("replicas that scale", scaling.then_some(replicas.max.span)),
        ("retries", pool.retry.as_ref().map(|retry| retry.span)),
        ("breakers", pool.breaker.as_ref().map(|breaker| breaker.span)),
        ("hedges", pool.hedge.as_ref().map(|hedge| hedge.span)),
        ("result caches", pool.cache.as_ref().map(|cache| cache.span)),
        (
            "periodic health checks",
            pool.health_check_period.as_ref().map(|period| period.span),
        ),
        ("recycled replicas", pool.recycle.as_ref().map(|recycle| recycle.span)),
    ];
    asked
        .into_iter()
        .filter_map(|(what, span)| Some((what, span?)))
        .collect()
}
