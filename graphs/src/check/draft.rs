//! A graph with its templates parsed and its references found, before anything has a type.

use super::world::{duplicate, unknown};
use crate::{
    NodeIx, Root,
    problems::Problems,
    template::{self, Known, Parsed, Scope},
};
use schema::{
    Argument, Fallback, GraphDecl, Kind, Name, NodeDecl, OutputField, Port, Span, Spanned, Type,
    Work,
};
use std::collections::HashMap;

/// What these names mean in templates is not the result of a node.
const RESERVED: [&str; 4] = ["input", "header", "item", "loop"];

/// A node with its arguments parsed. Other nodes are named by their place in the file.
pub(super) struct Draft<'a> {
    pub(super) decl: &'a NodeDecl,
    pub(super) ports: Vec<(Port<'a>, Parsed<'a>)>,
    pub(super) when: Option<Parsed<'a>>,
    pub(super) each: Option<Parsed<'a>>,
    pub(super) fallback: Option<DraftFallback<'a>>,
    /// The sources of a `merge`.
    pub(super) from: Vec<(usize, Span)>,
    /// Every node whose result it reads, with the first place where it does so.
    pub(super) reads: Vec<(usize, Span)>,
}

/// What stands in for a failed node's result.
pub(super) enum DraftFallback<'a> {
    Value(Parsed<'a>),
    Node(usize, Span),
}

/// A field of the answer with its value parsed.
pub(super) struct DraftOutput<'a> {
    pub(super) decl: &'a OutputField,
    pub(super) value: Parsed<'a>,
    pub(super) reads: Vec<(usize, Span)>,
}

/// Parses what a graph declares and finds what reads what.
pub(super) fn draft<'a>(
    decl: &'a GraphDecl,
    problems: &mut Problems,
) -> (Vec<Draft<'a>>, Vec<DraftOutput<'a>>) {
    let names = node_names(decl, problems);
    let mut drafts: Vec<Draft<'a>> = decl
        .nodes
        .iter()
        .map(|node| parse_node(node, &names, problems))
        .collect();
    let mut outputs: Vec<DraftOutput<'a>> = unique_outputs(decl, problems)
        .into_iter()
        .map(|output| DraftOutput {
            decl: output,
            value: parse(&output.value, problems),
            reads: Vec::new(),
        })
        .collect();
    let scope = names_only(&names);
    for draft in &mut drafts {
        draft.reads = node_reads(draft, &scope);
    }
    for output in &mut outputs {
        argument_reads(&output.value, &scope, &mut output.reads);
    }
    (drafts, outputs)
}

/// The nodes by name in template spelling.
fn node_names(decl: &GraphDecl, problems: &mut Problems) -> HashMap<String, usize> {
    let mut names: HashMap<String, usize> = HashMap::new();
    for (index, node) in decl.nodes.iter().enumerate() {
        let spelled = node.id.in_template();
        // One that could not be read has no name; one that is reserved has been reported.
        if spelled.is_empty() || RESERVED.contains(&&*spelled) {
            continue;
        }
        match names.get(&spelled) {
            Some(first) => duplicate("node", &node.id, &decl.nodes[*first].id, problems),
            None => {
                names.insert(spelled, index);
            }
        }
    }
    names
}

fn unique_outputs<'a>(decl: &'a GraphDecl, problems: &mut Problems) -> Vec<&'a OutputField> {
    let mut seen: HashMap<String, &Spanned<Name>> = HashMap::new();
    let mut outputs = Vec::new();
    for output in &decl.output {
        match seen.get(&output.id.in_template()) {
            Some(first) => duplicate("field of the answer", &output.id, first, problems),
            None => {
                seen.insert(output.id.in_template(), &output.id);
                outputs.push(output);
            }
        }
    }
    outputs
}

fn parse_node<'a>(
    decl: &'a NodeDecl,
    names: &HashMap<String, usize>,
    problems: &mut Problems,
) -> Draft<'a> {
    let ports = decl.work.ports().into_iter();
    let ports = ports.map(|port| {
        let parsed = parse(port.argument, problems);
        (port, parsed)
    });
    let ports = ports.collect();
    let mut resolve = |name: &Spanned<Name>| {
        let found = names.get(&name.in_template()).copied();
        if found.is_none() && !name.as_str().is_empty() {
            unknown("node", name, names.keys().map(String::as_str), problems);
        }
        found
    };
    let from = match &decl.work {
        Work::Merge(merge) => merge
            .from
            .iter()
            .filter_map(|name| Some((resolve(name)?, name.span)))
            .collect(),
        _ => Vec::new(),
    };
    let fallback = match &decl.fallback {
        None => None,
        Some(Fallback::Node(name)) => {
            resolve(name).map(|node| DraftFallback::Node(node, name.span))
        }
        Some(Fallback::Value(value)) => Some(DraftFallback::Value(parse(value, problems))),
    };
    Draft {
        decl,
        ports,
        when: decl.when.as_ref().map(|when| parse(when, problems)),
        each: decl.each.as_ref().map(|each| parse(&each.list, problems)),
        fallback,
        from,
        reads: Vec::new(),
    }
}

fn parse<'a>(argument: &'a Argument, problems: &mut Problems) -> Parsed<'a> {
    template::parse(argument).unwrap_or_else(|problem| {
        problems.push(problem);
        Parsed::Broken(argument.span())
    })
}

/// A scope in which every name is known and nothing has a type: it serves to find references.
fn names_only(names: &HashMap<String, usize>) -> Scope {
    let known = |root| Known {
        root,
        value_type: Type::Any,
        declared: None,
    };
    let mut scope = Scope::new(HashMap::new());
    for (name, index) in names {
        scope.add(name.clone(), known(Root::Node(NodeIx(*index as u32))));
    }
    scope.set_item(Some(known(Root::Item)));
    scope
}

fn node_reads(draft: &Draft<'_>, scope: &Scope) -> Vec<(usize, Span)> {
    let mut reads = draft.from.clone();
    let arguments = draft.ports.iter().map(|(_, parsed)| parsed);
    let fallback = match &draft.fallback {
        Some(DraftFallback::Value(value)) => Some(value),
        _ => None,
    };
    for parsed in arguments
        .chain(&draft.when)
        .chain(&draft.each)
        .chain(fallback)
    {
        argument_reads(parsed, scope, &mut reads);
    }
    let mut seen = std::collections::HashSet::new();
    reads.retain(|(node, _)| seen.insert(*node));
    reads
}

fn argument_reads(parsed: &Parsed<'_>, scope: &Scope, reads: &mut Vec<(usize, Span)>) {
    if let Parsed::Computed(tree) = parsed {
        let inferred = template::infer(tree, scope, &mut Problems::unheard());
        reads.extend(
            inferred
                .reads
                .into_iter()
                .filter_map(|(_, root, place)| match root {
                    Root::Node(node) => Some((node.index(), place)),
                    _ => None,
                }),
        );
    }
}

/// How a node is called in a diagnostic: its kind and its name.
pub(super) fn title(decl: &NodeDecl) -> String {
    format!("{} \"{}\"", Kind::name(decl.work.kind()), *decl.id)
}
