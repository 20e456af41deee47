//! One graph: its nodes in order, each with its arguments bound and its result typed.

use super::{
    bind::{self, BoundArgument},
    draft::{self, Draft, DraftFallback, DraftOutput},
    kinds,
    order::{self, Order},
    routes,
    runs::Runs,
    world::World,
};
use crate::{
    BoundEach, BoundOutput, Graph, GraphNode, NodeIx, Root,
    problems::Problems,
    template::{Known, Scope},
    types, walk,
};
use petgraph::graph::{DiGraph, NodeIndex};
use schema::{Diagnostic, GraphDecl, InputField, Type, codes};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// Checks a graph. What comes out is good only if no error was added to `problems`.
pub(super) fn check(
    decl: &GraphDecl,
    world: &World<'_>,
    server_timeout: Duration,
    problems: &mut Problems,
) -> Graph {
    let errors_before = problems.errors();
    let (drafts, outputs) = draft::draft(decl, problems);
    let Order {
        nodes: order,
        acyclic,
    } = order::order(&drafts, problems);
    let mut checker = Checker {
        decl,
        world,
        problems,
        scope: request_scope(decl),
        drafts: &drafts,
        place: vec![NodeIx(0); drafts.len()],
        done: Vec::with_capacity(drafts.len()),
        on_demand: on_demand(&drafts),
        errors_before,
    };
    checker.check_input();
    for (place, node) in order.iter().enumerate() {
        checker.place[*node] = NodeIx(place as u32);
    }
    // Nodes of a cycle have results of which nothing is known; the cycle has been reported.
    for node in &order[acyclic..] {
        checker.announce(*node, Type::Any);
    }
    for node in &order {
        checker.node(*node);
    }
    let output = checker.outputs(&outputs);
    checker.check_reads(&outputs);
    let timeout = decl.timeout.as_ref().map(|timeout| timeout.value);
    let timeout = timeout.unwrap_or(server_timeout);
    checker.check_timeouts(timeout);
    let dag = checker.dag(&order);
    Graph {
        id: decl.id.value.clone(),
        route: routes::route(decl).0,
        timeout,
        input: decl.input.clone(),
        slots: walk::initial_slots(&dag),
        dag,
        output,
    }
}

pub(super) struct Checker<'c, 'a> {
    pub(super) decl: &'a GraphDecl,
    pub(super) world: &'c World<'a>,
    pub(super) problems: &'c mut Problems,
    pub(super) scope: Scope,
    pub(super) drafts: &'c [Draft<'a>],
    /// The index that each node of the file has in the graph.
    pub(super) place: Vec<NodeIx>,
    /// The nodes that are through, in order.
    pub(super) done: Vec<Done>,
    pub(super) on_demand: Vec<bool>,
    pub(super) errors_before: usize,
}

/// A node that is through.
pub(super) struct Done {
    pub(super) node: GraphNode,
    /// The type of its result when it runs.
    pub(super) yields: Type,
    pub(super) runs: Runs,
}

impl Checker<'_, '_> {
    /// Binds a node's arguments, checks them, and makes its result known to the nodes after it.
    fn node(&mut self, index: usize) {
        let draft = &self.drafts[index];
        kinds::check_work(draft.decl, self.world, self.problems);
        let mut runs = Runs::Always;
        let when = draft.when.as_ref().map(|when| self.when(when, &mut runs));
        let each = draft
            .each
            .as_ref()
            .map(|each| self.each(each, draft, &mut runs));
        let (ports, bound, may_skip) = self.ports(draft, &mut runs, each.is_some());
        self.scope.set_item(None);

        let given = draft.ports.iter().map(|(port, _)| port.name).zip(&bound);
        let given: Vec<(&str, &BoundArgument)> = given.collect();
        kinds::check_given(draft.decl, &given, self.problems);
        let sources = self.sources(draft, &mut runs);
        let once = kinds::yields(draft.decl, &given, sources, self.world);
        let mut yields = match (&each, may_skip) {
            (None, _) => once,
            (Some(_), true) => types::bounded(&Type::list(types::optional(collected(once)))),
            (Some(_), false) => types::bounded(&Type::list(collected(once))),
        };
        let fallback = self.fallback(draft, &mut yields);
        let output = match runs {
            Runs::Always => yields.clone(),
            _ => types::optional(yields.clone()),
        };
        self.announce(index, output.clone());
        let node = GraphNode {
            decl: draft.decl.clone(),
            ports,
            from: draft
                .from
                .iter()
                .map(|(source, _)| self.place[*source])
                .collect(),
            when: when.map(|when| when.expression),
            each: each.map(|list| BoundEach {
                list: list.expression,
                width: draft
                    .decl
                    .each
                    .as_ref()
                    .map_or(1, |each| each.width.value as usize),
            }),
            fallback,
            on_demand: self.on_demand[index],
            output: types::shown(output),
        };
        self.check_batch(&node);
        self.done.push(Done { node, yields, runs });
    }

    /// Makes a node's result known to the nodes after it.
    fn announce(&mut self, index: usize, output: Type) {
        let id = &self.drafts[index].decl.id;
        let known = Known {
            root: Root::Node(self.place[index]),
            value_type: output,
            declared: Some(id.span),
        };
        self.scope.add(id.in_template(), known);
    }

    fn outputs(&mut self, outputs: &[DraftOutput<'_>]) -> Vec<BoundOutput> {
        let missing = match self.decl.output_span {
            None => Some((self.decl.id.span, "has no `output` block")),
            Some(span) if outputs.is_empty() => Some((span, "answers with no fields")),
            _ => None,
        };
        if let Some((span, what)) = missing {
            let message = format!("graph \"{}\" {what}", *self.decl.id);
            let problem = Diagnostic::error(codes::MISSING_ARGUMENT, message, span);
            let help = "`output` names the fields of the answer, such as `answer \"{{ node }}\"`";
            self.problems.push(problem.help(help));
        }
        let bind = |output: &DraftOutput<'_>| {
            let bound = bind::bind(&output.value, &self.scope, self.problems);
            BoundOutput {
                name: Arc::from(output.decl.id.in_template()),
                expression: bound.expression,
                value_type: types::shown(bound.value_type),
            }
        };
        outputs.iter().map(bind).collect()
    }

    /// The nodes in order, with an edge for each that reads another.
    fn dag(&mut self, order: &[usize]) -> DiGraph<GraphNode, ()> {
        let mut dag = DiGraph::with_capacity(self.done.len(), self.done.len());
        for done in self.done.drain(..) {
            dag.add_node(done.node);
        }
        for (place, node) in order.iter().enumerate() {
            let mut seen = HashSet::new();
            let reads = self.drafts[*node].reads.iter();
            for read in reads
                .map(|(read, _)| self.place[*read])
                .filter(|read| seen.insert(*read))
            {
                dag.add_edge(NodeIndex::new(read.index()), NodeIndex::new(place), ());
            }
        }
        dag
    }
}

/// A stream is collected where a list of results is put together.
fn collected(yields: Type) -> Type {
    match yields {
        Type::TextStream => Type::Text,
        other => other,
    }
}

/// Which nodes run only as another's fallback.
fn on_demand(drafts: &[Draft<'_>]) -> Vec<bool> {
    let mut on_demand = vec![false; drafts.len()];
    for draft in drafts {
        if let Some(DraftFallback::Node(node, _)) = draft.fallback {
            on_demand[node] = true;
        }
    }
    on_demand
}

/// The scope before any node: the request.
fn request_scope(decl: &GraphDecl) -> Scope {
    let known = |field: &InputField| Known {
        root: Root::Input,
        value_type: field_type(field),
        declared: Some(field.id.span),
    };
    let mut fields = HashMap::new();
    for field in &decl.input {
        fields
            .entry(field.id.in_template())
            .or_insert_with(|| known(field));
    }
    Scope::new(fields)
}

/// The type of a field as templates see it.
fn field_type(field: &InputField) -> Type {
    let declared = match (&field.value_type.value, field.one_of.as_slice()) {
        (Type::Text, cases @ [_, ..]) => Type::Choice(cases.to_vec()),
        (declared, _) => declared.clone(),
    };
    match field.optional && field.default.is_none() {
        true => types::optional(declared),
        false => declared,
    }
}
