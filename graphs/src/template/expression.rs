//! The types of expressions, and what they read. Their parts are in `member`, `call`, `operator` and
//! `condition`.

use super::{
    builtins::FUNCTIONS,
    infer::Infer,
    parse::{literal, range},
    place::extent,
};
use crate::types;
use minijinja::machinery::ast::{CompareOpKind, Expr, IfExpr, Map, UnaryOpKind};
use schema::{Diagnostic, Literal, Name, Type, codes};
use std::ops::Range;

impl<'a> Infer<'_, 'a> {
    /// The type of an expression. Whatever is wrong with it has been said; its type is then `Any`,
    /// so that one mistake is one diagnostic.
    pub(super) fn expr(&mut self, expr: &Expr<'a>) -> Type {
        let found = match expr {
            Expr::Var(var) => self.name(var.id, range(var.span())),
            Expr::Const(_) => literal(expr).map_or(Type::Any, |literal| literal_type(&literal)),
            Expr::GetAttr(attr) => self.attribute(expr, attr),
            Expr::GetItem(item) => self.item(expr, item),
            Expr::Slice(slice) => self.slice(slice),
            Expr::UnaryOp(unary) => {
                let found = self.expr(&unary.expr);
                match unary.op {
                    UnaryOpKind::Not => Type::Boolean,
                    UnaryOpKind::Neg => self.number("`-`", &found, extent(&unary.expr)),
                }
            }
            Expr::BinOp(op) => self.binary(expr, op),
            Expr::Compare(compare) => {
                self.expr(&compare.expr);
                for op in &compare.ops {
                    self.expr(&op.expr);
                }
                let firsts =
                    std::iter::once(&compare.expr).chain(compare.ops.iter().map(|op| &op.expr));
                for (left, op) in firsts.zip(&compare.ops) {
                    if matches!(op.op, CompareOpKind::Eq | CompareOpKind::Ne) {
                        self.compare_choice(left, &op.expr);
                    }
                }
                Type::Boolean
            }
            Expr::IfExpr(choice) => self.if_expr(choice),
            Expr::Filter(filter) => self.filter(expr, filter),
            Expr::Test(test) => self.test(test, range(test.span()).start),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.list(&list.items),
            Expr::Tuple(tuple) => self.list(&tuple.items),
            Expr::Map(map) => self.map(map),
        };
        if matches!(found, Type::Option(_)) && self.is_certain(expr) {
            return types::required(found).0;
        }
        found
    }

    /// A name on its own.
    fn name(&mut self, name: &str, place: Range<usize>) -> Type {
        if let Some(local) = self.local(name) {
            return local.clone();
        }
        if let Some(known) = self.scope.get(name) {
            let (root, found) = (known.root, known.bounded());
            self.read(name, root, place);
            return found;
        }
        if !FUNCTIONS.contains(&name) {
            self.unknown_name(name, place);
        }
        Type::Any
    }

    fn unknown_name(&mut self, name: &str, place: Range<usize>) {
        if !self.first_miss(name) {
            return;
        }
        if self.problems.is_full() {
            return self.problems.skip();
        }
        let message = format!("unknown name \"{name}\"");
        let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, self.template.place(place));
        let help = match name {
            "item" => Some("only the arguments of a node with `each` have an `item`"),
            "loop" => Some("only the body of {% for %} has a `loop`"),
            _ => None,
        };
        if let Some(help) = help {
            return self.problems.push(problem.help(help));
        }
        if self.scope.field(name).is_some() {
            let help = format!("a field of the request is written `input.{name}`");
            return self.problems.push(problem.help(help));
        }
        let candidates = self.scope.names().into_iter().chain(self.locals());
        let candidates: Vec<&str> = candidates.chain(FUNCTIONS.iter().copied()).collect();
        self.problems
            .push_with_guess(problem, name, candidates, None);
    }

    fn if_expr(&mut self, choice: &IfExpr<'a>) -> Type {
        self.expr(&choice.test_expr);
        let yes = self.given(&choice.test_expr, true, |this| this.expr(&choice.true_expr));
        let no = match &choice.false_expr {
            Some(no) => self.given(&choice.test_expr, false, |this| this.expr(no)),
            None => types::nothing(),
        };
        types::join(yes, no)
    }

    fn list(&mut self, items: &[Expr<'a>]) -> Type {
        let mut found: Option<Type> = None;
        for item in items {
            let item = self.expr(item);
            found = Some(match found {
                Some(found) => types::join(found, item),
                None => item,
            });
        }
        types::bounded(&Type::list(found.unwrap_or(Type::Any)))
    }

    fn map(&mut self, map: &Map<'a>) -> Type {
        let mut fields = Vec::new();
        let mut all_known = true;
        for (key, value) in map.keys.iter().zip(&map.values) {
            self.expr(key);
            let value = self.expr(value);
            match literal_text(key) {
                Some(name) if !name.contains('-') => fields.push((Name::new(name), value)),
                _ => all_known = false,
            }
        }
        match all_known {
            true => types::bounded(&Type::Record(fields)),
            false => Type::Map,
        }
    }
}

/// The type of a literal.
pub(crate) fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Text(_) => Type::Text,
        Literal::Integer(_) => Type::Integer,
        Literal::Number(_) => Type::Number,
        Literal::Boolean(_) => Type::Boolean,
        Literal::Null => types::nothing(),
    }
}

pub(super) fn literal_text(expr: &Expr<'_>) -> Option<String> {
    match literal(expr) {
        Some(Literal::Text(text)) => Some(text),
        _ => None,
    }
}
