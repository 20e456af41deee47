//! Text to declarations.

use crate::{
    Diagnostic, Document, Source,
    decode::{Fields, Reader},
    problems::Problems,
    syntax,
};

/// Reads what `source` declares, and everything that is wrong with how it says so.
///
/// `environment` yields the value of a variable for `(env)"NAME"`. The document holds whatever could
/// be read; where something that a block needs is missing, an empty [`Name`](crate::Name) or a
/// [`Literal::Null`](crate::Literal) stands for it, so that the check can go on. A document with an
/// error among its diagnostics must not be run.
///
/// Takes time linear in the length of the text, whatever the text.
pub fn parse(
    source: &Source,
    environment: &dyn Fn(&str) -> Option<String>,
) -> (Document, Vec<Diagnostic>) {
    let mut problems = Problems::default();
    let nodes = syntax::tree(source, &mut problems);
    let reader = Reader {
        source: source.id,
        problems: &mut problems,
        environment,
    };
    let document = Fields::decode_document(&nodes, reader, Document::fields);
    (document, problems.into_list())
}
