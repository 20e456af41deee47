//! What a node takes: its ports, its clauses, and what they say about when it runs.

use super::{
    bind::{self, BoundArgument},
    draft::{Draft, DraftFallback, title},
    graph::Checker,
    kinds::{self, Takes},
    runs::{self, Runs},
};
use crate::{
    Bound, BoundFallback, Expression, Root,
    template::{Known, Parsed, with_article},
    types,
};
use schema::{Diagnostic, Literal, Span, Type, codes};
use std::sync::Arc;

impl Checker<'_, '_> {
    /// A condition; narrows down when the node runs.
    pub(super) fn when(&mut self, parsed: &Parsed<'_>, runs: &mut Runs) -> BoundArgument {
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
    pub(super) fn narrow(&mut self, runs: &mut Runs, other: Runs, place: Span) {
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
    pub(super) fn when_there(&self, bound: &BoundArgument) -> Runs {
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
    pub(super) fn each(
        &mut self,
        parsed: &Parsed<'_>,
        draft: &Draft<'_>,
        runs: &mut Runs,
    ) -> BoundArgument {
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
    pub(super) fn ports(
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

    pub(super) fn check_port(
        &mut self,
        port: &str,
        draft: &Draft<'_>,
        takes: &Takes,
        bound: &BoundArgument,
    ) {
        let taker = format!("`{port}` of {}", title(draft.decl));
        let declared = takes.declared.as_ref();
        bind::check_fit(&taker, &takes.types, declared, bound, self.problems);
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
    pub(super) fn sources(&mut self, draft: &Draft<'_>, runs: &mut Runs) -> Vec<Type> {
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

    pub(super) fn fallback(
        &mut self,
        draft: &Draft<'_>,
        yields: &mut Type,
    ) -> Option<BoundFallback> {
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
        bind::check_fit(&taker, &[wanted], None, &bound, self.problems);
        if matches!(bound.value_type, Type::Option(_)) {
            *yields = types::optional(yields.clone());
        }
        Some(fallback)
    }
}
