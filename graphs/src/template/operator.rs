//! Operators: what they take, and the subtraction that was meant as a name.

use super::{
    infer::{Infer, with_article},
    place::{extent, subject},
};
use crate::types;
use minijinja::machinery::ast::{BinOp, BinOpKind, Expr};
use schema::{Diagnostic, Type, codes};
use std::ops::Range;

impl<'a> Infer<'_, 'a> {
    pub(super) fn binary(&mut self, whole: &Expr<'a>, op: &BinOp<'a>) -> Type {
        if matches!(op.op, BinOpKind::Sub) && self.is_hyphenated_name(whole, op) {
            return Type::Any;
        }
        let left = self.expr(&op.left);
        let right = match op.op {
            BinOpKind::ScAnd => self.given(&op.left, true, |this| this.expr(&op.right)),
            BinOpKind::ScOr => self.given(&op.left, false, |this| this.expr(&op.right)),
            _ => self.expr(&op.right),
        };
        match op.op {
            BinOpKind::Eq | BinOpKind::Ne => {
                self.compare_choice(&op.left, &op.right);
                Type::Boolean
            }
            BinOpKind::In => {
                self.choice_in_list(&op.left, &op.right);
                Type::Boolean
            }
            BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => Type::Boolean,
            BinOpKind::ScAnd => types::join(left, right),
            BinOpKind::ScOr => types::join(types::required(left).0, right),
            BinOpKind::Concat => Type::Text,
            _ => {
                let places = (extent(&op.left), extent(&op.right));
                self.arithmetic(op.op, (left, places.0), (right, places.1))
            }
        }
    }

    pub(super) fn arithmetic(
        &mut self,
        op: BinOpKind,
        (left, left_place): (Type, Range<usize>),
        (right, right_place): (Type, Range<usize>),
    ) -> Type {
        let sign = sign(op);
        let left = self.present(sign, left, left_place.clone());
        let right = self.present(sign, right, right_place.clone());
        let number = |found: &Type| matches!(found, Type::Integer | Type::Number);
        let text = |found: &Type| matches!(found, Type::Text | Type::Choice(_) | Type::TextStream);
        match (op, &left, &right) {
            (_, Type::Any, _) | (_, _, Type::Any) => Type::Any,
            (BinOpKind::Div, a, b) if number(a) && number(b) => Type::Number,
            (_, a, b) if number(a) && number(b) => types::join(left, right),
            (BinOpKind::Add, a, b) if text(a) && text(b) => Type::Text,
            (BinOpKind::Add, Type::List(_), Type::List(_)) => types::join(left, right),
            (BinOpKind::Mul, a, Type::Integer) if text(a) => Type::Text,
            (BinOpKind::Mul, Type::List(_), Type::Integer) => left,
            (BinOpKind::Add, a, b) => {
                let message = format!("cannot add {} and {}", with_article(a), with_article(b));
                let place = self.template.place(left_place.start..right_place.end);
                let problem = Diagnostic::error(codes::TYPE_MISMATCH, message, place);
                let help = "`~` joins values as text";
                let texts = text(a) || text(b);
                self.problems
                    .push(if texts { problem.help(help) } else { problem });
                Type::Any
            }
            (_, a, _) if !number(a) => self.number(sign, &left, left_place),
            _ => self.number(sign, &right, right_place),
        }
    }

    /// The type without none, saying so where there might be one.
    pub(super) fn present(&mut self, taker: &str, found: Type, place: Range<usize>) -> Type {
        let (bare, may_be_none) = types::required(found);
        if may_be_none {
            let source = self.source(place.clone()).to_owned();
            let message = format!("`{source}` may be none, which {taker} fails on");
            let place = self.template.place(place);
            let problem = Diagnostic::warning(codes::NONE_POSSIBLE, message, place);
            let help = format!("say what it is then, such as `{source} | default(0)`");
            self.problems.push(problem.help(help));
        }
        bare
    }

    /// A number, or a diagnostic and `Any`.
    pub(super) fn number(&mut self, taker: &str, found: &Type, place: Range<usize>) -> Type {
        let found = self.present(taker, found.clone(), place.clone());
        match found {
            Type::Integer | Type::Number | Type::Any => found,
            other => {
                let message = format!("{taker} takes a number, not {}", with_article(&other));
                self.report(codes::TYPE_MISMATCH, message, place);
                Type::Any
            }
        }
    }

    /// Whether the subtraction is a name written with `-`, such as `top-k`; says how to write it.
    pub(super) fn is_hyphenated_name(&mut self, whole: &Expr<'a>, op: &BinOp<'a>) -> bool {
        let place = extent(whole).start..extent(subject(&op.right)).end;
        let written = self.source(place.clone()).to_owned();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if !written.bytes().all(is_name) || !written.contains('-') {
            return false;
        }
        let spelled = written.replace('-', "_");
        let mut steps = spelled.split('.');
        let root = steps.next().unwrap_or_default();
        let field = steps.next();
        let Some(known) = self.scope.get(root).map(|known| known.root) else {
            return false;
        };
        if root == "input" && field.is_none_or(|field| self.scope.field(field).is_none()) {
            return false;
        }
        if self.operands_known(whole) {
            return false;
        }
        self.read(root, known, place.clone());
        let message = format!("\"{written}\" is a subtraction here");
        let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, self.template.place(place));
        let help = format!("in templates a \"-\" in a name is written \"_\": `{spelled}`");
        self.problems.push(problem.help(help));
        true
    }

    /// Whether every name of a chain of subtractions is known.
    pub(super) fn operands_known(&self, expr: &Expr<'a>) -> bool {
        let mut rest = expr;
        loop {
            let (operand, next) = match rest {
                Expr::BinOp(op) if matches!(op.op, BinOpKind::Sub) => (&op.right, Some(&op.left)),
                other => (other, None),
            };
            let known = match subject(operand) {
                Expr::Var(var) => self.local(var.id).is_some() || self.scope.get(var.id).is_some(),
                Expr::GetAttr(attr) => self.scope.field(attr.name).is_some(),
                _ => true,
            };
            match next {
                _ if !known => return false,
                Some(next) => rest = next,
                None => return true,
            }
        }
    }
}

fn sign(op: BinOpKind) -> &'static str {
    match op {
        BinOpKind::Add => "`+`",
        BinOpKind::Sub => "`-`",
        BinOpKind::Mul => "`*`",
        BinOpKind::Div => "`/`",
        BinOpKind::FloorDiv => "`//`",
        BinOpKind::Rem => "`%`",
        BinOpKind::Pow => "`**`",
        _ => "this operator",
    }
}
