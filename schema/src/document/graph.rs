//! `graph`: the fields of a request, nodes, and the fields of the answer.

use super::InputField;
use crate::{
    Argument, Diagnostic, Kind, Name, NodeDecl, Span, Spanned, codes,
    decode::{Fields, block},
    syntax::shorten,
};
use std::time::Duration;

block! {
    /// A graph: the fields of a request, nodes, and the fields of the answer.
    ///
    /// Besides these it has nodes, each a kind and a name: `embed question { … }`.
    #[derive(Debug, Clone)]
    pub struct GraphDecl {
        /// Its name.
        pub id: Spanned<Name> = id(),
        /// Where it is served; `/NAME` if absent.
        pub route: Option<Spanned<String>> = option("route").optional(),
        /// How long a request may take; the server's `timeout` if absent.
        pub timeout: Option<Spanned<Duration>> = option("timeout")
            .at_least(Duration::from_millis(1))
            .optional(),
        /// The fields of a request.
        pub input: Vec<InputField> = block("input", InputField::all).unwrap_or_default(),
        /// The nodes, as written.
        pub nodes: Vec<NodeDecl> = then(NodeDecl::all),
        /// The place of the `output` block, if there is one.
        pub output_span: Option<Span> = first_place("output").map(|(_, place)| place),
        /// The fields of the answer.
        pub output: Vec<OutputField> = block("output", OutputField::all).unwrap_or_default(),
        /// The whole block.
        pub span: Span = whole(),
    }
}

block! {
    /// A field of the answer.
    #[derive(Debug, Clone, PartialEq)]
    pub struct OutputField {
        /// Its name in the answer; a `-` becomes `_`.
        pub id: Spanned<Name> = own_name(),
        /// Its value.
        pub value: Argument = argument("value").required(),
    }
}

impl PartialEq for GraphDecl {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            id,
            route,
            timeout,
            input,
            nodes,
            output_span,
            output,
            span: _,
        } = self;
        *id == other.id
            && *route == other.route
            && *timeout == other.timeout
            && *input == other.input
            && *nodes == other.nodes
            && output_span.is_some() == other.output_span.is_some()
            && *output == other.output
    }
}

impl GraphDecl {
    pub(super) fn read(f: &mut Fields) -> Self {
        let graph = Self::fields(f);
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        if let Some(route) = &graph.route
            && (!route.starts_with('/') || !route.chars().all(plain))
        {
            f.report(|| {
                let message = format!("\"{}\" is not a route", shorten(route));
                Diagnostic::error(codes::BAD_ROUTE, message, route.span)
                    .help("a route begins with `/` and has letters, digits, `/`, `-`, `_`, `.`")
            });
        }
        graph
    }
}

impl OutputField {
    fn all(f: &mut Fields) -> Vec<Self> {
        f.about("The fields of the answer, each a name and a value.");
        f.doc("A field.").named("NAME", OutputField::fields)
    }
}

impl NodeDecl {
    fn all(f: &mut Fields) -> Vec<Self> {
        let kinds = Kind::ALL.map(|kind| (kind.name(), ""));
        f.blocks_of(&kinds, NodeDecl::read)
    }
}
