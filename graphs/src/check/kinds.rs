//! What each kind of node takes and yields, beyond what its ports say by themselves.

use super::{bind::BoundArgument, draft::title, world::World};
use crate::{
    PythonFacts,
    problems::{Problems, listed},
    template, types,
};
use schema::{
    Argument, Diagnostic, Literal, NodeDecl, Port, Span, Type, Work, codes,
    kind::{Backend, Case, Http, Python, PythonEntry, Switch},
};
use std::collections::HashMap;

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
pub(super) fn takes(port: &Port<'_>, work: &Work, world: &World<'_>) -> Takes {
    let mut takes = Takes {
        types: vec![port.accepts.clone()],
        required: port.accepts != Type::Any,
        declared: None,
    };
    match (work, port.name) {
        (_, "adapter" | "extra") => takes.required = false,
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
            if let Some(index) = world.index(&search.index)
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
            "top-k" | "top-p" | "min-p" | "repetition-penalty" | "seed" | "stop" | "tools",
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
    if let Some(model) = decl.work.model() {
        world.check_model(model, problems);
    }
    if let Some((model, adapter)) = decl.work.adapter()
        && let Argument::Literal(written) = adapter
        && let Literal::Text(name) = &written.value
    {
        world.check_adapter(model, name, written.span, problems);
    }
    match &decl.work {
        Work::Search(search) => world.check_index(&search.index, problems),
        Work::Merge(merge) if merge.from.len() == 1 => {
            let message = format!("{} has one node to choose from", title(decl));
            let problem = Diagnostic::warning(codes::UNREACHABLE, message, merge.from[0].span);
            problems.push(problem.help("read that node instead"));
        }
        Work::Switch(switch) => check_cases(switch, problems),
        Work::Python(python) => check_python(python, world, problems),
        Work::Http(http) => check_http(http, problems),
        Work::Generate(generate) if generate.backend.model().is_some() => {
            if let Some(tools) = &generate.tools {
                let message = "a model in this process calls no tools";
                let problem = Diagnostic::error(codes::UNREACHABLE, message, tools.span());
                problems.push(problem.help("remove `tools`, or write an `endpoint` for the model"));
            }
        }
        _ => {}
    }
}

/// The file of a Python node must be there and define what is called, as far as its text says.
fn check_python(python: &Python, world: &World<'_>, problems: &mut Problems) {
    let (file, name) = (&python.file, python.entry.name());
    match world.python(file.value.expose()) {
        Some(PythonFacts::Unreadable(reason)) => {
            let message = format!("cannot read {}: {reason}", file.value);
            problems.push(Diagnostic::error(
                codes::UNREADABLE_FILE,
                message,
                file.span,
            ));
        }
        Some(PythonFacts::Defines(names)) if !names.contains(&name.value) => {
            let what = match python.entry {
                PythonEntry::Function(_) => "function",
                PythonEntry::Class(_) => "class",
            };
            let message = format!("{} has no {what} `{}`", file.value, name.value);
            let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, name.span);
            problems.push_with_guess(problem, name, names.iter().map(String::as_str), None);
        }
        _ => {}
    }
}

/// A host that a request may choose must be one of those that the file allows. A template over the
/// response reads nothing of the graph, so only its syntax is looked at.
fn check_http(http: &Http, problems: &mut Problems) {
    if http.origin().is_none() && http.allow_hosts.is_empty() {
        let message = "the host of this address is not fixed";
        let problem = Diagnostic::error(codes::MISSING_OPTION, message, http.url.span());
        problems
            .push(problem.help("write the host out, or name those it may be with `allow-host`"));
    }
    if let Some(result) = &http.result
        && let Err(problem) = template::parse(result)
    {
        problems.push(problem);
    }
}

/// A case is in vain if one before it has its name, and holds whenever it does.
fn check_cases(switch: &Switch, problems: &mut Problems) {
    let mut firsts: HashMap<&str, &Case> = HashMap::new();
    for case in &switch.cases {
        let first = *firsts.entry(&case.name).or_insert(case);
        let comes_later = !std::ptr::eq(first, case);
        if comes_later && (first.when.is_none() || first.when == case.when) {
            let message = format!("case \"{}\" is never reached", *case.name);
            problems.push(
                Diagnostic::error(codes::UNREACHABLE, message, case.name.span)
                    .also(first.name.span, "this one comes first"),
            );
        }
    }
}

/// The rules of single kinds about what their ports are given.
pub(super) fn check_given(
    decl: &NodeDecl,
    given: &[(&str, &BoundArgument)],
    problems: &mut Problems,
) {
    let Work::Switch(switch) = &decl.work else {
        return;
    };
    let on = switch.on.as_ref().and_then(|_| given.first());
    let Some((_, on)) = on else { return };
    let (choice, may_be_none) = types::required(on.value_type.clone());
    if may_be_none && switch.default.is_none() {
        let message = format!("{} fails where `on` is none", title(decl));
        let problem = Diagnostic::warning(codes::NONE_POSSIBLE, message, on.place);
        problems.push(problem.help("add a `default`"));
    }
    let Type::Choice(cases) = choice else { return };
    for case in switch.cases.iter().filter(|case| case.when.is_none()) {
        if cases.contains(&case.name.value) {
            continue;
        }
        let all = listed(cases.iter().map(String::as_str));
        let message = format!("case \"{}\" is never reached", *case.name);
        let problem = Diagnostic::error(codes::UNREACHABLE, message, case.name.span)
            .also(on.place, format!("this is one of {all}"));
        let names = cases.iter().map(String::as_str);
        problems.push_with_guess(problem, &case.name, names, None);
    }
}
