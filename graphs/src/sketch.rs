//! Graphs for tests, sketched as nodes that read each other.

use crate::{Facts, Graph, check};
use schema::{
    Argument, Document, Fallback, GraphDecl, Name, NodeDecl, OutputField, PoolSpec, Span, Spanned,
    Template, Work, kind,
};
use std::sync::Arc;

/// A node: the nodes that it reads, and its fallback.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sketch {
    pub(crate) reads: Vec<usize>,
    pub(crate) fallback: SketchFallback,
}

#[derive(Debug, Clone, Default)]
pub(crate) enum SketchFallback {
    #[default]
    None,
    Value,
    Node(usize),
}

/// A checked graph of `template` nodes `n0`, `n1`, … in this order.
pub(crate) fn graph(nodes: &[Sketch]) -> Arc<Graph> {
    let program = check(document(nodes), &Facts::default());
    let program = program.unwrap_or_else(|problems| panic!("{nodes:#?}\n{problems:#?}"));
    Arc::clone(&program.graphs()[0])
}

fn document(nodes: &[Sketch]) -> Document {
    let name = |index: usize| Spanned::new(Name::new(format!("n{index}")), Span::default());
    let template =
        |text: String| Argument::Template(Template::new(text, Span::default(), vec![(0, 0)]));
    let node = |(index, sketch): (usize, &Sketch)| NodeDecl {
        id: name(index),
        work: Work::Template(kind::Template {
            text: template(
                std::iter::once("{{ input }} ".to_owned())
                    .chain(
                        sketch
                            .reads
                            .iter()
                            .map(|read| format!("{{{{ n{read} }}}} ")),
                    )
                    .collect(),
            ),
        }),
        pool: PoolSpec::default(),
        when: None,
        each: None,
        fallback: match sketch.fallback {
            SketchFallback::None => None,
            SketchFallback::Value => Some(Fallback::Value(template("{{ input }} instead".into()))),
            SketchFallback::Node(node) => Some(Fallback::Node(name(node))),
        },
        span: Span::default(),
    };
    Document {
        graphs: vec![GraphDecl {
            id: Spanned::new(Name::new("sketch"), Span::default()),
            route: None,
            timeout: None,
            input: Vec::new(),
            nodes: nodes.iter().enumerate().map(node).collect(),
            output: vec![OutputField {
                id: Spanned::new(Name::new("answer"), Span::default()),
                value: template("{{ input }}".into()),
            }],
            output_span: Some(Span::default()),
            span: Span::default(),
        }],
        ..Document::default()
    }
}
