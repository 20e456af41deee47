//! What there is to draw, in no particular notation.

use crate::{BoundFallback, Expression, Graph, GraphNode, NodeIx, Path, Root, Step};
use schema::{Kind, Literal};
use std::collections::BTreeMap;

/// How much of an expression is shown.
const MAX_SHOWN: usize = 48;

/// A graph as boxes and arrows. The first box is the request, the last one the answer, and between
/// them stand the nodes in their order; arrows lead from earlier boxes to later ones.
pub(super) struct Picture {
    pub(super) boxes: Vec<PictureBox>,
    pub(super) arrows: Vec<Arrow>,
}

pub(super) struct PictureBox {
    /// `None` for the request and the answer.
    pub(super) kind: Option<Kind>,
    pub(super) title: String,
    /// Conditions and the like, a line each.
    pub(super) notes: Vec<String>,
}

/// Everything that flows from one box to another.
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    /// What it is for, such as the ports that it goes to.
    pub(super) label: String,
    /// It is there only if something fails.
    pub(super) fallback: bool,
}

impl Picture {
    pub(super) fn new(graph: &Graph) -> Self {
        let mut boxes = vec![PictureBox {
            kind: None,
            title: "input".to_owned(),
            notes: graph
                .input()
                .iter()
                .map(|field| field.id.in_template())
                .collect(),
        }];
        boxes.extend(graph.nodes().map(|(_, node)| PictureBox {
            kind: Some(node.decl.work.kind()),
            title: format!("{} {}", node.decl.work.kind().name(), *node.decl.id),
            notes: notes(graph, node),
        }));
        boxes.push(PictureBox {
            kind: None,
            title: "output".to_owned(),
            notes: Vec::new(),
        });
        let answer = boxes.len() - 1;
        let mut labels: BTreeMap<(usize, usize, bool), Vec<String>> = BTreeMap::new();
        let mut add = |from: usize, to: usize, fallback: bool, label: &str| {
            let labels = labels.entry((to, from, fallback)).or_default();
            if !labels.iter().any(|other| other == label) {
                labels.push(label.to_owned());
            }
        };
        for (ix, node) in graph.nodes() {
            let to = box_of(ix);
            for (label, fallback, expression) in arguments(node) {
                for from in roots(expression).filter_map(source_box) {
                    add(from, to, fallback, label);
                }
            }
            for (place, source) in node.from.iter().enumerate() {
                add(box_of(*source), to, false, &format!("{}.", place + 1));
            }
            if let Some(BoundFallback::Node(other)) = node.fallback {
                add(box_of(other), to, true, "fallback");
            }
        }
        for field in graph.output() {
            for from in roots(&field.expression).filter_map(source_box) {
                add(from, answer, false, &field.name);
            }
        }
        let arrows = labels
            .into_iter()
            .map(|((to, from, fallback), labels)| Arrow {
                from,
                to,
                label: labels.join(", "),
                fallback,
            });
        Self {
            arrows: arrows.collect(),
            boxes,
        }
    }
}

/// Every expression of a node, with the port or clause that it belongs to and whether only a
/// failure needs it.
pub(super) fn arguments(node: &GraphNode) -> impl Iterator<Item = (&str, bool, &Expression)> {
    let ports = node
        .ports
        .iter()
        .map(|bound| (&*bound.port, false, &bound.expression));
    let when = node.when.iter().map(|when| ("when", false, when));
    let each = node.each.iter().map(|each| ("each", false, &each.list));
    let fallback = match &node.fallback {
        Some(BoundFallback::Value(value)) => Some(("fallback", true, value)),
        _ => None,
    };
    when.chain(each).chain(ports).chain(fallback)
}

/// The expression as its author would write it, cut to a line.
pub(super) fn written(graph: &Graph, expression: &Expression) -> String {
    let whole = match expression {
        Expression::Constant(Literal::Text(text)) => format!("{text:?}"),
        Expression::Constant(Literal::Integer(integer)) => integer.to_string(),
        Expression::Constant(Literal::Number(number)) => number.to_string(),
        Expression::Constant(Literal::Boolean(boolean)) => boolean.to_string(),
        Expression::Constant(Literal::Null) => "none".to_owned(),
        Expression::Path(path) => written_path(graph, path),
        Expression::Template(template) if template.native => template.source.clone(),
        Expression::Template(template) => format!("{:?}", template.source),
    };
    let line = whole.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn written_path(graph: &Graph, path: &Path) -> String {
    let mut written = match path.root {
        Root::Input => "input".to_owned(),
        Root::Header => "header".to_owned(),
        Root::Item => "item".to_owned(),
        Root::Node(node) => graph.node(node).decl.id.in_template(),
    };
    for step in &path.steps {
        match step {
            Step::Field(name) => {
                written.push('.');
                written.push_str(name);
            }
            Step::Index(index) => written.push_str(&format!("[{index}]")),
        }
    }
    written
}

fn notes(graph: &Graph, node: &GraphNode) -> Vec<String> {
    let when = node
        .when
        .iter()
        .map(|when| format!("when {}", written(graph, when)));
    let each = node
        .each
        .iter()
        .map(|each| format!("each {}", written(graph, &each.list)));
    let on_demand = node.on_demand.then(|| "only as a fallback".to_owned());
    when.chain(each).chain(on_demand).collect()
}

/// Where the values of an expression come from.
fn roots(expression: &Expression) -> impl Iterator<Item = Root> {
    let (path, template) = match expression {
        Expression::Path(path) => (Some(path.root), None),
        Expression::Template(template) => (None, Some(template)),
        Expression::Constant(_) => (None, None),
    };
    let reads = template.map_or(&[][..], |template| template.reads.as_slice());
    path.into_iter().chain(reads.iter().map(|(_, root)| *root))
}

fn source_box(root: Root) -> Option<usize> {
    match root {
        Root::Input | Root::Header => Some(0),
        Root::Node(node) => Some(box_of(node)),
        // What `item` is comes from the list, which has an arrow of its own.
        Root::Item => None,
    }
}

fn box_of(node: NodeIx) -> usize {
    node.index() + 1
}
