//! What conditions say: comparisons that never hold, and values that are not none where one holds.

use super::{
    infer::Infer,
    parse::{literal, range},
    place::extent,
};
use crate::problems::listed;
use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};
use schema::{Diagnostic, Literal, Type, codes};
use std::ops::Range;

impl<'a> Infer<'_, 'a> {
    /// A text that a choice is compared with must be one that it can be.
    pub(super) fn compare_choice(&mut self, left: &Expr<'a>, right: &Expr<'a>) {
        for (choice, other) in [(left, right), (right, left)] {
            if let Some(Literal::Text(case)) = literal(other) {
                self.check_case(choice, &case, range(other.span()));
            }
        }
    }

    pub(super) fn choice_in_list(&mut self, choice: &Expr<'a>, list: &Expr<'a>) {
        let items = match list {
            Expr::List(list) => &list.items,
            Expr::Tuple(tuple) => &tuple.items,
            _ => return,
        };
        for item in items {
            if let Some(Literal::Text(case)) = literal(item) {
                self.check_case(choice, &case, range(item.span()));
            }
        }
    }

    pub(super) fn check_case(&mut self, choice: &Expr<'a>, case: &str, place: Range<usize>) {
        let known = match choice {
            Expr::Var(var) if self.local(var.id).is_none() => self.scope.get(var.id),
            Expr::GetAttr(attr) => match &attr.expr {
                Expr::Var(var) if var.id == "input" => self.scope.field(attr.name),
                _ => None,
            },
            _ => None,
        };
        let Some(known) = known else { return };
        let cases = match &known.value_type {
            Type::Choice(cases) => cases,
            Type::Option(some) => match &**some {
                Type::Choice(cases) => cases,
                _ => return,
            },
            _ => return,
        };
        // Without cases it is the declaration that is wrong.
        if cases.is_empty() || cases.iter().any(|other| other == case) {
            return;
        }
        let source = self.source(extent(choice));
        let message = format!("`{source}` is never \"{case}\"");
        let mut problem =
            Diagnostic::error(codes::UNREACHABLE, message, self.template.place(place));
        let all = listed(cases.iter().map(String::as_str));
        if let Some(declared) = known.declared {
            problem = problem.also(declared, format!("one of {all}"));
        }
        let otherwise = Some(format!("it is one of {all}"));
        let names = cases.iter().map(String::as_str);
        self.problems
            .push_with_guess(problem, case, names, otherwise);
    }

    /// Takes note of what cannot be none if `test` holds, or does not.
    pub(super) fn learn(&mut self, test: &Expr<'a>, holds: bool) {
        match test {
            Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) if holds => self.remember(test),
            Expr::UnaryOp(unary) if matches!(unary.op, UnaryOpKind::Not) => {
                self.learn(&unary.expr, !holds);
            }
            Expr::BinOp(op) => match op.op {
                BinOpKind::ScAnd if holds => {
                    self.learn(&op.left, true);
                    self.learn(&op.right, true);
                }
                BinOpKind::ScOr if !holds => {
                    self.learn(&op.left, false);
                    self.learn(&op.right, false);
                }
                BinOpKind::Ne | BinOpKind::Eq => {
                    let is_none = matches!(literal(&op.right), Some(Literal::Null));
                    if is_none && holds == matches!(op.op, BinOpKind::Ne) {
                        self.remember(&op.left);
                    }
                }
                _ => {}
            },
            Expr::Test(test) => match test.name {
                "none" | "undefined" if !holds => self.remember(&test.expr),
                _ => {}
            },
            _ => {}
        }
    }

    pub(super) fn remember(&mut self, expr: &Expr<'a>) {
        let source = self.source(extent(expr)).to_owned();
        self.certain.push(source);
    }

    pub(super) fn is_certain(&self, expr: &Expr<'a>) -> bool {
        if self.certain.is_empty() {
            return false;
        }
        let source = self.source(extent(expr));
        self.certain.iter().any(|certain| certain == source)
    }
}
