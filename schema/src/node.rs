//! A node of a graph: what it does, when, and in which pool.

use crate::{
    Argument, Diagnostic, Kind, Name, PoolSpec, Span, Spanned, Work, codes, decode::Fields,
};

/// A node as declared.
///
/// The split matters at a reload: a changed `work` needs new replicas, a changed `pool` is adjusted
/// in place, and the rest changes only how requests walk.
#[derive(Debug, Clone)]
pub struct NodeDecl {
    /// Its name, by which other nodes refer to its result.
    pub id: Spanned<Name>,
    /// What it does.
    pub work: Work,
    /// Its replicas, queue, batching and scaling.
    pub pool: PoolSpec,
    /// It runs only if this is true, and yields none otherwise.
    pub when: Option<Argument>,
    /// It runs once for every element of a list.
    pub each: Option<Each>,
    /// What it yields when it fails.
    pub fallback: Option<Fallback>,
    /// The whole block.
    pub span: Span,
}

/// Fan-out over a list: the node runs for each element, named `item` in its templates, and yields
/// the list of results in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Each {
    /// The list.
    pub list: Argument,
    /// How many elements are under way at once.
    pub width: Spanned<u32>,
}

/// What stands in for the result of a node that failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Fallback {
    /// This value.
    Value(Argument),
    /// The result of this node, which runs only then.
    Node(Spanned<Name>),
}

impl PartialEq for NodeDecl {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            id,
            work,
            pool,
            when,
            each,
            fallback,
            span: _,
        } = self;
        *id == other.id
            && *work == other.work
            && *pool == other.pool
            && *when == other.when
            && *each == other.each
            && *fallback == other.fallback
    }
}

/// Names that mean something else in templates.
const RESERVED: [&str; 19] = [
    "input", "header", "item", "output", "loop", "and", "or", "not", "in", "is", "if", "else",
    "true", "false", "none", "True", "False", "None", "self",
];

impl NodeDecl {
    /// Reads a node whose kind is called `kind`.
    pub(crate) fn read(kind: &'static str, f: &mut Fields) -> Self {
        f.doc("Its name, by which templates refer to its result.");
        let id = f.id();
        check_reserved(&id, f);
        let kind = Kind::named(kind);
        NodeDecl {
            work: Work::read(kind, f),
            when: when(f),
            each: each(f),
            fallback: f
                .doc("What stands in for its result when it fails.")
                .block("fallback", Fallback::read),
            pool: PoolSpec::read(kind, f),
            span: f.whole(),
            id,
        }
    }

    /// The options that every node has, pool or not.
    pub(crate) fn flow(f: &mut Fields) {
        when(f);
        each(f);
        f.doc("What stands in for its result when it fails.")
            .block::<_, Fallback>("fallback", Fallback::read);
    }
}

fn check_reserved(id: &Spanned<Name>, f: &mut Fields) {
    if RESERVED.contains(&id.as_str()) {
        f.report(|| {
            let message = format!("a node cannot be called \"{}\"", id.value);
            Diagnostic::error(codes::RESERVED_NAME, message, id.span)
                .label("this means something else in templates")
                .help("choose another name")
        });
    }
}

fn when(f: &mut Fields) -> Option<Argument> {
    f.doc("It runs only if this is true, and yields none otherwise.")
        .option("when")
        .optional()
}

fn each(f: &mut Fields) -> Option<Each> {
    let list = f
        .doc("It runs once for every element of this list, which its templates call `item`, and yields the list of results in order.")
        .option("each")
        .optional();
    let width = f
        .doc("How many elements of `each` are under way at once.")
        .option("each-width")
        .at_least(1)
        .or(16);
    if let (None, Some((_, place))) = (&list, f.first_place("each-width"))
        && !f.has("each")
    {
        f.report(|| {
            Diagnostic::error(codes::MISSING_OPTION, "`each-width` without `each`", place)
                .help("add `each`, or remove `each-width`")
        });
    }
    list.map(|list| Each { list, width })
}

impl Fallback {
    fn read(f: &mut Fields) -> Self {
        let value = f.doc("This value.").argument("value").optional();
        let node: Option<Spanned<Name>> = f
            .doc("The result of this node, which runs only then.")
            .option("node")
            .optional();
        let head = f.head();
        match (value, node) {
            (Some(value), None) => Fallback::Value(value),
            (None, Some(node)) => Fallback::Node(node),
            (Some(value), Some(node)) => {
                f.report(|| {
                    let message = "`fallback` has both a value and a node";
                    Diagnostic::error(codes::CONFLICTING_OPTIONS, message, node.span)
                        .also(value.span(), "the value")
                        .help("keep one of them")
                });
                Fallback::Value(value)
            }
            (None, None) => {
                let missing = !f.has("node");
                if missing {
                    f.report(|| {
                        let message = "`fallback` has neither a value nor a node";
                        Diagnostic::error(codes::MISSING_OPTION, message, head)
                            .help("write `fallback \"text\"` or `fallback node=name`")
                    });
                }
                Fallback::Node(Spanned::new(Name::new(""), head))
            }
        }
    }
}
