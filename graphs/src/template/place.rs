//! Where an expression stands in its template. minijinja's own ranges start too late for chains of
//! fields and filters, and too early for comparisons.

use super::parse::range;
use minijinja::machinery::ast::Expr;
use std::ops::Range;

/// The whole expression.
pub(crate) fn extent(expr: &Expr<'_>) -> Range<usize> {
    start(expr)..range(expr.span()).end
}

fn start(expr: &Expr<'_>) -> usize {
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::BinOp(op) => &op.left,
            Expr::Compare(compare) => &compare.expr,
            Expr::IfExpr(choice) => &choice.true_expr,
            Expr::Test(test) => &test.expr,
            Expr::GetAttr(attr) => &attr.expr,
            Expr::GetItem(item) => &item.expr,
            Expr::Slice(slice) => &slice.expr,
            Expr::Call(call) => &call.expr,
            Expr::Filter(filter) => match &filter.expr {
                Some(base) => base,
                None => return range(expr.span()).start,
            },
            _ => return range(expr.span()).start,
        }
    }
}

/// The last name of a field access: `id` of `hits[0].id`.
pub(crate) fn last_name(expr: &Expr<'_>, name: &str) -> Range<usize> {
    let end = range(expr.span()).end;
    end.saturating_sub(name.len())..end
}

/// What the expression is about: the name at the root of its fields, elements and filters.
pub(crate) fn subject<'e, 'a>(expr: &'e Expr<'a>) -> &'e Expr<'a> {
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::Slice(slice) => &slice.expr,
            Expr::GetItem(item) => &item.expr,
            Expr::GetAttr(attr) if !matches!(&attr.expr, Expr::Var(var) if var.id == "input") => {
                &attr.expr
            }
            Expr::Filter(filter) => match &filter.expr {
                Some(base) => base,
                None => return expr,
            },
            _ => return expr,
        }
    }
}
