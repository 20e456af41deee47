//! What a good file may have, or lack, so that it cannot be run: options whose behaviour is not built
//! yet, and nothing to serve. It is refused at the start: nothing is accepted and ignored.

use graphs::{GraphNode, Program};
use schema::{Diagnostic, PoolSpec, SourceId, Span, codes};

/// One diagnostic for every option of the program whose behaviour is not built yet, or one that says
/// that there is no graph.
pub fn unbuilt(program: &Program) -> Vec<Diagnostic> {
    if program.graphs().is_empty() {
        return vec![no_graph()];
    }
    let nodes = program.graphs().iter().flat_map(|graph| graph.nodes());
    nodes.flat_map(|(_, node)| of_node(node)).collect()
}

fn of_node(node: &GraphNode) -> Vec<Diagnostic> {
    of_pool(&node.decl.pool, node.decl.id.span)
}

/// `place` is where the node is named, for options whose own place is not known.
fn of_pool(pool: &PoolSpec, place: Span) -> Vec<Diagnostic> {
    let gpu = pool.resources.gpu != 0.0;
    gpu.then(|| refused("resources gpu", place))
        .into_iter()
        .collect()
}

/// A file without a graph is good to be included. Where it is run, it is more likely one that is
/// just being written, and must not take the place of what runs.
fn no_graph() -> Diagnostic {
    let start = Span::new(SourceId(0), 0, 0);
    Diagnostic::error(codes::NO_GRAPH, "there is no graph to serve", start)
        .help("add a `graph` block, or include a file that has one")
}

fn refused(option: &str, span: Span) -> Diagnostic {
    Diagnostic::error(
        codes::NOT_BUILT_YET,
        format!("`{option}` is not built yet"),
        span,
    )
    .help("the option is part of the language, but this version cannot run it; remove it")
}
