//! Arguments after the check: constants, plain paths, and templates.

use crate::NodeIx;
use schema::Literal;

/// How a value is had for each request.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// Always the same.
    Constant(Literal),
    /// `{{ name.field[0] }}`: a pointer copy, no template is run.
    Path(Path),
    /// Anything else.
    Template(TemplateExpression),
}

/// A reference without computation.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// Where it starts.
    pub root: Root,
    /// What is taken of it, in order.
    pub steps: Vec<Step>,
}

/// Where a reference starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Root {
    /// `input`: the request's fields.
    Input,
    /// `header`: the request's headers, lower case, `-` written `_`.
    Header,
    /// `item`: the element of `each`.
    Item,
    /// The result of a node.
    Node(NodeIx),
}

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// `.name`; for a field of `input` in template spelling (`top_k`).
    Field(String),
    /// `[3]`; negative counts from the end.
    Index(i64),
}

/// A template that has been checked: it parses, and what it reads exists.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateExpression {
    /// Its text; for a native one, the bare expression without `{{ }}`.
    pub source: String,
    /// Whether the whole template is one `{{ expression }}`, so that the value keeps its type.
    pub native: bool,
    /// What it reads, each root once, with the name that the template uses for it.
    pub reads: Vec<(String, Root)>,
}

impl Expression {
    /// The nodes whose results it reads.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIx> {
        let path = match self {
            Expression::Path(path) => Some(path.root),
            _ => None,
        };
        let reads = match self {
            Expression::Template(template) => template.reads.as_slice(),
            _ => &[],
        };
        let roots = path.into_iter().chain(reads.iter().map(|(_, root)| *root));
        roots.filter_map(|root| match root {
            Root::Node(node) => Some(node),
            _ => None,
        })
    }
}
