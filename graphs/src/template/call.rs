//! Filters, tests and functions.

use super::{
    builtins::{FILTERS, FUNCTIONS, OPERATOR_TESTS, TESTS},
    expression::literal_text,
    filters::{self, Given},
    infer::{Infer, with_article},
    parse::{literal, range},
    place::{extent, last_name},
};
use crate::types;
use minijinja::machinery::ast::{Call, CallArg, Expr, Filter, GetAttr, Test};
use schema::{Diagnostic, Literal, Type, codes};
use std::ops::Range;

impl<'a> Infer<'_, 'a> {
    pub(super) fn filter(&mut self, whole: &Expr<'a>, filter: &Filter<'a>) -> Type {
        let base = match &filter.expr {
            Some(base) => self.expr(base),
            // The text of the block that the filter is applied to.
            None => Type::Text,
        };
        let given = self.arguments(&filter.args);
        let start = range(whole.span()).start;
        let place = start..start + filter.name.len();
        if !FILTERS.contains(&filter.name) {
            let message = format!("unknown filter \"{}\"", filter.name);
            let place = self.template.place(place);
            let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, place);
            let names = FILTERS.iter().copied();
            self.problems
                .push_with_guess(problem, filter.name, names, None);
            return Type::Any;
        }
        if filters::wants_elements(filter.name) && types::element(&base).is_none() {
            let message = format!(
                "`{}` takes a list, not {}",
                filter.name,
                with_article(&base)
            );
            self.report(codes::TYPE_MISMATCH, message, place);
            return Type::Any;
        }
        self.filter_names(filter, &base);
        filters::result(filter.name, &base, &given)
    }

    /// Attributes, filters and tests that a filter is given by name.
    pub(super) fn filter_names(&mut self, filter: &Filter<'a>, base: &Type) {
        let element = types::element(base).unwrap_or(Type::Any);
        let attribute = filters::attribute_argument(filter.name);
        let test = filters::names_test(filter.name);
        for (index, arg) in filter.args.iter().enumerate() {
            let (expr, is_attribute) = match arg {
                CallArg::Pos(expr) => (expr, attribute == Some(index)),
                CallArg::Kwarg(name, expr) => (expr, *name == "attribute" && attribute.is_some()),
                _ => return,
            };
            let Some(Literal::Text(name)) = literal(expr) else {
                continue;
            };
            let place = range(expr.span());
            if is_attribute {
                let mut found = element.clone();
                for step in name.split('.') {
                    found = self.field(&found, step, place.clone());
                }
            } else if matches!(arg, CallArg::Pos(_)) && test == Some(index) {
                if !TESTS.contains(&&*name) && !OPERATOR_TESTS.contains(&&*name) {
                    self.unknown_test(&name, place);
                }
            } else if filter.name == "map" && index == 0 && !FILTERS.contains(&&*name) {
                let message = format!("unknown filter \"{name}\"");
                let place = self.template.place(place);
                let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, place);
                let help = format!("the field of each element is `map(attribute='{name}')`");
                let names = FILTERS.iter().copied();
                self.problems
                    .push_with_guess(problem, &name, names, Some(help));
            }
        }
    }

    pub(super) fn test(&mut self, test: &Test<'a>, start: usize) -> Type {
        self.expr(&test.expr);
        self.arguments(&test.args);
        if !TESTS.contains(&test.name) {
            self.unknown_test(test.name, start..start + test.name.len());
        }
        if matches!(test.name, "eq" | "equalto" | "ne")
            && let [CallArg::Pos(other)] = test.args.as_slice()
        {
            self.compare_choice(&test.expr, other);
        }
        Type::Boolean
    }

    pub(super) fn unknown_test(&mut self, name: &str, place: Range<usize>) {
        let message = format!("unknown test \"{name}\"");
        let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, self.template.place(place));
        let names = TESTS.iter().copied();
        self.problems.push_with_guess(problem, name, names, None);
    }

    /// A call of a function; values have no methods.
    pub(super) fn call(&mut self, call: &Call<'a>) -> Type {
        let found = match &call.expr {
            Expr::Var(var) => self.function(var.id, range(var.span())),
            Expr::GetAttr(attr) => self.method(&call.expr, attr),
            other => {
                self.expr(other);
                self.report(
                    codes::TYPE_MISMATCH,
                    "this is not a function".to_owned(),
                    extent(other),
                );
                Type::Any
            }
        };
        self.arguments(&call.args);
        found
    }

    pub(super) fn function(&mut self, name: &str, place: Range<usize>) -> Type {
        let is_value = self.local(name).is_some() || self.scope.get(name).is_some();
        match name {
            _ if is_value => {
                let message = format!("\"{name}\" is not a function");
                self.report(codes::TYPE_MISMATCH, message, place);
                Type::Any
            }
            "range" => Type::list(Type::Integer),
            "dict" => Type::Map,
            "debug" => Type::Text,
            _ if FUNCTIONS.contains(&name) => Type::Any,
            _ => {
                let message = format!("unknown function \"{name}\"");
                let problem =
                    Diagnostic::error(codes::UNKNOWN_NAME, message, self.template.place(place));
                if FILTERS.contains(&name) {
                    let help = format!("\"{name}\" is a filter: write `x | {name}`");
                    self.problems.push(problem.help(help));
                } else {
                    let names = FUNCTIONS.iter().copied();
                    self.problems.push_with_guess(problem, name, names, None);
                }
                Type::Any
            }
        }
    }

    pub(super) fn method(&mut self, whole: &Expr<'a>, attr: &GetAttr<'a>) -> Type {
        let is_loop = matches!(&attr.expr, Expr::Var(var) if var.id == "loop");
        self.expr(&attr.expr);
        match attr.name {
            "cycle" if is_loop => Type::Any,
            "changed" if is_loop => Type::Boolean,
            name => {
                let message = format!("values have no methods, so no \"{name}\"");
                let place = self.template.place(last_name(whole, name));
                let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, place);
                self.problems.push(if FILTERS.contains(&name) {
                    let source = self.template.text().get(extent(&attr.expr)).unwrap_or("x");
                    problem.help(format!(
                        "there is a filter of that name: `{source} | {name}`"
                    ))
                } else {
                    problem
                });
                Type::Any
            }
        }
    }

    pub(super) fn arguments(&mut self, args: &[CallArg<'a>]) -> Given {
        let mut given = Given::default();
        for arg in args {
            match arg {
                CallArg::Pos(expr) => {
                    let found = self.expr(expr);
                    given.positional.push((found, literal_text(expr)));
                }
                CallArg::Kwarg(name, expr) => {
                    let found = self.expr(expr);
                    given
                        .named
                        .push(((*name).to_owned(), found, literal_text(expr)));
                }
                CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => {
                    self.expr(expr);
                }
            }
        }
        given
    }
}
