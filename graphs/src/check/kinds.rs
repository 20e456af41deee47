//! What each kind of node takes and yields, beyond what its ports say by themselves.

use super::{bind::BoundArgument, draft::title, world::World};
use crate::{codes, problems::Problems, types};
use schema::{Diagnostic, NodeDecl, Port, Span, Type, Work, kind::Backend};

/// What a port takes.
pub(super) struct Takes {
    /// Any of these types.
    pub(super) types: Vec<Type>,
    /// Whether the node is skipped when it is none.
    pub(super) required: bool,
    /// Where that is declared, and what to say about it.
    pub(super) declared: Option<(Span, String)>,
}

/// What the port of a node takes. Ports whose absence means something take a none as well.
pub(super) fn takes(
    port: &Port<'_>,
    work: &Work,
    world: &World<'_>,
    problems: &mut Problems,
) -> Takes {
    let mut takes = Takes {
        types: vec![port.accepts.clone()],
        required: port.accepts != Type::Any,
        declared: None,
    };
    match (work, port.name) {
        (_, "adapter") => takes.required = false,
        (Work::Embed(_), "text") => {
            takes.types = vec![Type::Text, Type::list(Type::Text)];
            takes.required = true;
        }
        (Work::Rerank(_), "documents") => {
            takes.types = vec![
                Type::documents(),
                Type::list(Type::Text),
                Type::list(Type::Map),
            ];
        }
        (Work::Search(search), "vector") => {
            takes.required = search.text.is_none();
            if let Some(index) = world.index(&search.index, problems)
                && let Some(size) = world.index_size(index)
            {
                takes.types = vec![Type::Vector(Some(size.dimensions))];
                let text = format!(
                    "index \"{}\" holds vectors of {}",
                    *index.id, size.dimensions
                );
                takes.declared = Some((size.declared, text));
            }
        }
        (Work::Search(search), "text") => takes.required = search.vector.is_none(),
        (Work::Search(_), "filter")
        | (Work::Rerank(_), "keep")
        | (
            Work::Generate(_),
            "top-k" | "top-p" | "min-p" | "repetition-penalty" | "seed" | "stop",
        ) => takes.required = false,
        _ => {}
    }
    takes
}

/// What the node yields when it runs once, from what its ports are given and, for a `merge`, what
/// its sources yield.
pub(super) fn yields(
    decl: &NodeDecl,
    given: &[(&str, &BoundArgument)],
    sources: Vec<Type>,
    world: &World<'_>,
) -> Type {
    let of = |port: &str| {
        let argument = given.iter().find(|(name, _)| *name == port);
        argument.map_or(Type::Any, |(_, argument)| argument.value_type.clone())
    };
    match &decl.work {
        Work::Embed(embed) => {
            let size = match &embed.backend {
                Backend::Local(local) => world.model_size(&local.model).map(|size| size.dimensions),
                Backend::Remote(_) => None,
            };
            match types::required(of("text")).0 {
                Type::Any => Type::Any,
                Type::List(_) => Type::list(Type::Vector(size)),
                _ => Type::Vector(size),
            }
        }
        Work::Search(_) | Work::Rerank(_) => Type::documents(),
        Work::Generate(_) => Type::TextStream,
        Work::Template(_) => of("text"),
        Work::Switch(switch) => Type::Choice(switch.outcomes()),
        Work::Merge(_) => {
            let sources = sources.into_iter().map(|source| types::required(source).0);
            sources.reduce(types::join).unwrap_or(Type::Any)
        }
        Work::Split(_) => Type::list(Type::Text),
        Work::Python(python) => python
            .returns
            .as_ref()
            .map_or(Type::Any, |returns| returns.value.clone()),
        Work::Http(_) | Work::Infer(_) => Type::Any,
    }
}

/// The rules of single kinds that are neither names nor types.
pub(super) fn check_work(decl: &NodeDecl, world: &World<'_>, problems: &mut Problems) {
    let title = title(decl);
    let place = decl.id.span;
    if let Some(model) = decl.work.model() {
        world.check_model(model, problems);
    }
    let missing = |message: String| Diagnostic::error(codes::MISSING_ARGUMENT, message, place);
    match &decl.work {
        Work::Generate(generate) => {
            let ways = [
                generate.prompt.is_some(),
                !generate.messages.is_empty(),
                generate.chat.is_some(),
            ];
            let help =
                "give either `prompt`, or messages (`system`, `user`, `assistant`), or `chat`";
            match ways.into_iter().filter(|given| *given).count() {
                1 => {}
                0 => problems.push(missing(format!("{title} has no prompt")).help(help)),
                _ => problems.push(missing(format!("{title} has more than one prompt")).help(help)),
            }
        }
        Work::Search(search) if search.vector.is_none() && search.text.is_none() => {
            let help = "give `vector`, `text`, or both for a hybrid search";
            problems.push(missing(format!("{title} has nothing to look for")).help(help));
            world.index(&search.index, problems);
        }
        Work::Search(search) if search.vector.is_none() => {
            world.index(&search.index, problems);
        }
        Work::Merge(merge) if merge.from.len() < 2 => {
            let help = "with one node, read its result instead";
            problems.push(missing(format!("{title} needs at least two nodes")).help(help));
        }
        Work::Switch(switch) => {
            for (index, case) in switch.cases.iter().enumerate() {
                let first = switch.cases[..index].iter().find(|other| {
                    other.name == case.name && (other.when.is_none() || case.when == other.when)
                });
                if let Some(first) = first {
                    let message = format!("case \"{}\" is never reached", *case.name);
                    problems.push(
                        Diagnostic::error(codes::UNREACHABLE, message, case.name.span)
                            .also(first.name.span, "this one comes first"),
                    );
                }
            }
        }
        _ => {}
    }
}
