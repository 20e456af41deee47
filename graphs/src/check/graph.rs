//! One graph: its nodes in order, each with its arguments bound and its result typed.

use super::{
    bind::{self, BoundArgument},
    draft::{self, Draft, DraftFallback, DraftOutput, title},
    kinds::{self, Takes},
    order::{self, Order},
    routes,
    runs::{self, Runs},
    world::{World, duplicate},
};
use crate::{
    Bound, BoundEach, BoundFallback, BoundOutput, Expression, Graph, GraphNode, NodeIx, Root,
    codes,
    problems::Problems,
    template::{Known, Parsed, Scope, with_article},
    types, walk,
};
use petgraph::graph::{DiGraph, NodeIndex};
use schema::{Diagnostic, GraphDecl, InputField, Literal, Name, Span, Spanned, Type};
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
    let errors_before = errors(problems);
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

struct Checker<'c, 'a> {
    decl: &'a GraphDecl,
    world: &'c World<'a>,
    problems: &'c mut Problems,
    scope: Scope,
    drafts: &'c [Draft<'a>],
    /// The index that each node of the file has in the graph.
    place: Vec<NodeIx>,
    /// The nodes that are through, in order.
    done: Vec<Done>,
    on_demand: Vec<bool>,
    errors_before: usize,
}

/// A node that is through.
struct Done {
    node: GraphNode,
    /// The type of its result when it runs.
    yields: Type,
    runs: Runs,
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

    /// A condition; narrows down when the node runs.
    fn when(&mut self, parsed: &Parsed<'_>, runs: &mut Runs) -> BoundArgument {
        let bound = bind::bind(parsed, &self.scope, self.problems);
        let text = matches!(bound.expression, Expression::Constant(Literal::Text(_)));
        if bound.mixed || text {
            let message = "a text is no condition: it holds unless it is empty";
            let problem = Diagnostic::error(codes::TYPE_MISMATCH, message, bound.place);
            self.problems
                .push(problem.help("write the condition as one `{{ expression }}`"));
        }
        match (&bound.expression, parsed) {
            (Expression::Constant(literal), _) => {
                let never = matches!(literal, Literal::Boolean(false) | Literal::Null);
                if never {
                    let message = "the node never runs: its condition never holds";
                    self.problems
                        .push(Diagnostic::error(codes::UNREACHABLE, message, bound.place));
                }
            }
            (_, Parsed::Computed(tree)) => {
                let holds = tree
                    .native()
                    .map(|condition| runs::holds(condition, &self.scope));
                self.narrow(runs, holds.unwrap_or(Runs::Sometimes), bound.place);
            }
            _ => {}
        }
        bound
    }

    /// The node runs only when `other` does, too.
    fn narrow(&mut self, runs: &mut Runs, other: Runs, place: Span) {
        *runs = match runs.clone().and(other) {
            Some(both) => both,
            None => {
                let message = "the node never runs: its conditions exclude each other";
                self.problems
                    .push(Diagnostic::error(codes::UNREACHABLE, message, place));
                Runs::Sometimes
            }
        };
    }

    /// What a required value that may be none says about when its reader runs.
    fn when_there(&self, bound: &BoundArgument) -> Runs {
        match &bound.expression {
            Expression::Path(path) if path.steps.is_empty() => match path.root {
                Root::Node(node) => match self.done.get(node.index()) {
                    // A node that runs may still yield none.
                    Some(done) if !matches!(done.yields, Type::Option(_)) => done.runs.clone(),
                    _ => Runs::Sometimes,
                },
                _ => Runs::Sometimes,
            },
            _ => Runs::Sometimes,
        }
    }

    /// The list that a node is run over; puts `item` in scope.
    fn each(&mut self, parsed: &Parsed<'_>, draft: &Draft<'_>, runs: &mut Runs) -> BoundArgument {
        let bound = bind::bind(parsed, &self.scope, self.problems);
        let (list, may_be_none) = types::required(bound.value_type.clone());
        let element = match &list {
            Type::List(_) | Type::Vector(_) => types::element(&list).unwrap_or(Type::Any),
            Type::Any => Type::Any,
            other => {
                let taker = format!("`each` of {}", title(draft.decl));
                let message = format!("{taker} takes a list, not {}", with_article(other));
                let mut problem = Diagnostic::error(codes::TYPE_MISMATCH, message, bound.place)
                    .label(format!("this is {}", with_article(other)));
                if let Some((span, text)) = &bound.origin {
                    problem = problem.also(*span, text);
                }
                self.problems.push(problem);
                Type::Any
            }
        };
        if may_be_none {
            let there = self.when_there(&bound);
            self.narrow(runs, there, bound.place);
        }
        self.scope.set_item(Some(Known {
            root: Root::Item,
            value_type: element,
            declared: Some(bound.place),
        }));
        bound
    }

    /// The ports, and whether a required one may be none. Without `each` that decides whether the
    /// node runs; with it, whether an element has a result.
    fn ports(
        &mut self,
        draft: &Draft<'_>,
        runs: &mut Runs,
        for_each: bool,
    ) -> (Vec<Bound>, Vec<BoundArgument>, bool) {
        let mut ports = Vec::with_capacity(draft.ports.len());
        let mut arguments = Vec::with_capacity(draft.ports.len());
        let mut may_skip = false;
        for (port, parsed) in &draft.ports {
            let takes = kinds::takes(port, &draft.decl.work, self.world);
            let mut bound = bind::bind(parsed, &self.scope, self.problems);
            if bound.expression == Expression::Constant(Literal::Null) {
                // What could not be read stands with a null, and has been reported.
                bound.value_type = Type::Any;
            }
            self.check_port(port.name, draft, &takes, &bound);
            if takes.required && matches!(bound.value_type, Type::Option(_)) {
                may_skip = true;
                if !for_each {
                    let there = self.when_there(&bound);
                    self.narrow(runs, there, bound.place);
                }
            }
            ports.push(Bound {
                port: Arc::from(port.name),
                accepts: takes.types.into_iter().next().unwrap_or(Type::Any),
                expression: bound.expression.clone(),
                required: takes.required,
            });
            arguments.push(bound);
        }
        (ports, arguments, may_skip)
    }

    fn check_port(&mut self, port: &str, draft: &Draft<'_>, takes: &Takes, bound: &BoundArgument) {
        let before = self.problems.found.len();
        let taker = format!("`{port}` of {}", title(draft.decl));
        bind::check_fit(&taker, &takes.types, bound, self.problems);
        if let (Some(problem), Some((span, text))) =
            (self.problems.found.get_mut(before), &takes.declared)
        {
            *problem = problem.clone().also(*span, text);
        }
        if takes.required && types::is_nothing(&bound.value_type) {
            let message = format!("{} never runs: `{port}` is always none", title(draft.decl));
            self.problems
                .push(Diagnostic::error(codes::UNREACHABLE, message, bound.place));
        }
        let tunes = matches!(port, "max-tokens" | "temperature" | "top-k");
        if takes.required && tunes && matches!(bound.value_type, Type::Option(_)) {
            let message = format!("{} is skipped where `{port}` is none", title(draft.decl));
            let mut problem = Diagnostic::warning(codes::NONE_POSSIBLE, message, bound.place);
            if let Some((span, text)) = &bound.origin {
                problem = problem.also(*span, text);
            }
            self.problems
                .push(problem.help("say what it is then with `| default(…)`"));
        }
    }

    /// What a merge takes its result from; it runs when one of them does.
    fn sources(&mut self, draft: &Draft<'_>, runs: &mut Runs) -> Vec<Type> {
        let mut any: Option<Runs> = None;
        let mut types = Vec::new();
        for (source, span) in &draft.from {
            let Some(done) = self.done.get(self.place[*source].index()) else {
                continue;
            };
            if any == Some(Runs::Always) {
                let message = format!(
                    "\"{}\" is never taken: one of those before it always has a result",
                    *self.drafts[*source].decl.id
                );
                self.problems
                    .push(Diagnostic::warning(codes::UNREACHABLE, message, *span));
            }
            let source_runs = match &done.yields {
                Type::Option(_) => Runs::Sometimes,
                _ => done.runs.clone(),
            };
            any = Some(match any {
                Some(any) => any.or(source_runs),
                None => source_runs,
            });
            types.push(done.yields.clone());
        }
        if let Some(any) = any {
            *runs = runs.clone().and(any).unwrap_or(Runs::Sometimes);
        }
        types
    }

    fn fallback(&mut self, draft: &Draft<'_>, yields: &mut Type) -> Option<BoundFallback> {
        let (fallback, bound) = match draft.fallback.as_ref()? {
            DraftFallback::Value(parsed) => {
                let bound = bind::bind(parsed, &self.scope, self.problems);
                (BoundFallback::Value(bound.expression.clone()), bound)
            }
            DraftFallback::Node(node, span) => {
                let place = self.place[*node];
                let done = self.done.get(place.index());
                let value_type = done.map_or(Type::Any, |done| done.node.output.clone());
                let decl = self.drafts[*node].decl;
                let bound = BoundArgument {
                    expression: Expression::Constant(Literal::Null),
                    origin: Some((
                        decl.id.span,
                        format!("{} yields {}", title(decl), with_article(&value_type)),
                    )),
                    value_type,
                    place: *span,
                    mixed: false,
                };
                (BoundFallback::Node(place), bound)
            }
        };
        let wanted = match types::required(yields.clone()).0 {
            Type::TextStream => Type::Text,
            other => other,
        };
        let taker = format!("the fallback of {}", title(draft.decl));
        bind::check_fit(&taker, &[wanted], &bound, self.problems);
        if matches!(bound.value_type, Type::Option(_)) {
            *yields = types::optional(yields.clone());
        }
        Some(fallback)
    }

    fn outputs(&mut self, outputs: &[DraftOutput<'_>]) -> Vec<BoundOutput> {
        let missing = match self.decl.output_span {
            None => Some((self.decl.id.span, "has no `output` block")),
            Some(span) if outputs.is_empty() => Some((span, "answers with no fields")),
            _ => None,
        };
        if let Some((span, what)) = missing {
            let message = format!("graph \"{}\" {what}", *self.decl.id);
            let problem = Diagnostic::error(schema::codes::MISSING_OPTION, message, span);
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

    /// Nodes that nothing reads, and fallbacks that are read as if they always ran.
    fn check_reads(&mut self, outputs: &[DraftOutput<'_>]) {
        let mut read = self.on_demand.clone();
        let reads = self.drafts.iter().flat_map(|draft| &draft.reads);
        for (node, span) in reads.chain(outputs.iter().flat_map(|output| &output.reads)) {
            if self.on_demand[*node] {
                let name = &*self.drafts[*node].decl.id;
                let message =
                    format!("\"{name}\" runs only as a fallback, so it has no result to read");
                let problem = Diagnostic::error(codes::FALLBACK_READ, message, *span);
                self.problems
                    .push(problem.help("read the node that it stands in for"));
            }
            read[*node] = true;
        }
        // A name that is misspelt leaves a node unread as well; that is said first.
        if errors(self.problems) > self.errors_before {
            return;
        }
        for (index, draft) in self.drafts.iter().enumerate() {
            if !read[index] {
                let message = format!("nothing reads {}", title(draft.decl));
                self.problems.push(Diagnostic::warning(
                    codes::UNUSED_NODE,
                    message,
                    draft.decl.id.span,
                ));
            }
        }
    }

    fn check_batch(&mut self, node: &GraphNode) {
        let pool = &node.decl.pool;
        if let (Some(batch), Some(ongoing)) = (&pool.batch, &pool.max_ongoing_requests)
            && batch.max_size.value > ongoing.value
        {
            let message = format!(
                "a batch of {} never fills: a replica holds {} items at most",
                batch.max_size.value, ongoing.value
            );
            let problem = Diagnostic::warning(codes::BATCH_SIZE, message, batch.max_size.span)
                .also(ongoing.span, "the most that a replica holds");
            self.problems
                .push(problem.help("raise `max-ongoing-requests` or lower `max-size`"));
        }
    }

    fn check_timeouts(&mut self, graph: Duration) {
        for draft in self.drafts {
            let Some(timeout) = &draft.decl.pool.timeout else {
                continue;
            };
            // A graph whose timeout could not be read stands with none.
            if timeout.value <= graph || graph.is_zero() {
                continue;
            }
            let message = format!(
                "{} may take {:?}, longer than its whole graph",
                title(draft.decl),
                timeout.value
            );
            let problem = Diagnostic::error(codes::NESTED_TIMEOUT, message, timeout.span);
            let help = format!("give the graph a `timeout` of its own; it is {graph:?}");
            self.problems.push(match &self.decl.timeout {
                Some(limit) => problem.also(limit.span, format!("the graph may take {graph:?}")),
                None => problem.help(help),
            });
        }
    }

    fn check_input(&mut self) {
        let mut seen: HashMap<String, &Spanned<Name>> = HashMap::new();
        for field in &self.decl.input {
            match seen.get(&field.id.in_template()) {
                Some(first) => duplicate("field of the request", &field.id, first, self.problems),
                None => {
                    seen.insert(field.id.in_template(), &field.id);
                }
            }
        }
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

fn errors(problems: &Problems) -> usize {
    problems
        .found
        .iter()
        .filter(|problem| problem.is_error())
        .count()
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
