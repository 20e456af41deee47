//! When a node runs: always, in certain cases of a switch, or sometimes. A merge whose sources
//! cover every case always has a result.

use crate::template::{self, Known, Scope};
use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};
use schema::{Literal, Type};
use std::collections::BTreeSet;

/// With more cases than this a choice is not followed: each node would carry the list.
const MAX_CASES: usize = 64;

/// When something runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Runs {
    Always,
    /// When `choice`, which can be any of `all`, is one of `cases`.
    InCases {
        choice: String,
        cases: BTreeSet<String>,
        all: BTreeSet<String>,
    },
    Sometimes,
}

impl Runs {
    /// When both do; `None` if that is never.
    pub(super) fn and(self, other: Runs) -> Option<Runs> {
        Some(match (self, other) {
            (Runs::Always, other) | (other, Runs::Always) => other,
            (
                Runs::InCases { choice, cases, all },
                Runs::InCases {
                    choice: other,
                    cases: more,
                    ..
                },
            ) if choice == other => {
                let cases: BTreeSet<String> = cases.intersection(&more).cloned().collect();
                if cases.is_empty() {
                    return None;
                }
                Runs::InCases { choice, cases, all }
            }
            _ => Runs::Sometimes,
        })
    }

    /// When one of the two does.
    pub(super) fn or(self, other: Runs) -> Runs {
        match (self, other) {
            (Runs::Always, _) | (_, Runs::Always) => Runs::Always,
            (
                Runs::InCases {
                    choice,
                    mut cases,
                    all,
                },
                Runs::InCases {
                    choice: other,
                    cases: more,
                    ..
                },
            ) if choice == other => {
                cases.extend(more);
                if cases == all {
                    return Runs::Always;
                }
                Runs::InCases { choice, cases, all }
            }
            _ => Runs::Sometimes,
        }
    }
}

/// When a condition holds.
pub(super) fn holds(condition: &Expr<'_>, scope: &Scope) -> Runs {
    match condition {
        Expr::BinOp(op) => match op.op {
            BinOpKind::Eq => in_case(&op.left, &op.right, scope),
            BinOpKind::Ne => except(in_case(&op.left, &op.right, scope)),
            BinOpKind::In => in_list(&op.left, &op.right, scope),
            BinOpKind::ScOr => holds(&op.left, scope).or(holds(&op.right, scope)),
            BinOpKind::ScAnd => {
                let both = holds(&op.left, scope).and(holds(&op.right, scope));
                both.unwrap_or(Runs::Sometimes)
            }
            _ => Runs::Sometimes,
        },
        Expr::UnaryOp(unary) if matches!(unary.op, UnaryOpKind::Not) => {
            except(holds(&unary.expr, scope))
        }
        _ => Runs::Sometimes,
    }
}

fn in_case(left: &Expr<'_>, right: &Expr<'_>, scope: &Scope) -> Runs {
    for (choice, case) in [(left, right), (right, left)] {
        if let (Some((name, known)), Some(Literal::Text(case))) =
            (choice_name(choice, scope), template::literal(case))
        {
            return cases(name, known, [case]);
        }
    }
    Runs::Sometimes
}

fn in_list(choice: &Expr<'_>, list: &Expr<'_>, scope: &Scope) -> Runs {
    let items = match list {
        Expr::List(list) => &list.items,
        Expr::Tuple(tuple) => &tuple.items,
        _ => return Runs::Sometimes,
    };
    let texts = items.iter().map(|item| match template::literal(item) {
        Some(Literal::Text(text)) => Some(text),
        _ => None,
    });
    match (
        choice_name(choice, scope),
        texts.collect::<Option<Vec<_>>>(),
    ) {
        (Some((name, known)), Some(texts)) => cases(name, known, texts),
        _ => Runs::Sometimes,
    }
}

fn cases(choice: String, known: &Known, named: impl IntoIterator<Item = String>) -> Runs {
    let all = match &known.value_type {
        Type::Choice(all) if all.len() <= MAX_CASES => all,
        _ => return Runs::Sometimes,
    };
    let all: BTreeSet<String> = all.iter().cloned().collect();
    let cases: BTreeSet<String> = named
        .into_iter()
        .filter(|case| all.contains(case))
        .collect();
    // An impossible case has been reported where it is written.
    match cases.is_empty() {
        true => Runs::Sometimes,
        false if cases == all => Runs::Always,
        false => Runs::InCases { choice, cases, all },
    }
}

fn except(runs: Runs) -> Runs {
    match runs {
        Runs::InCases { choice, cases, all } => {
            let cases = all.difference(&cases).cloned().collect();
            Runs::InCases { choice, cases, all }
        }
        _ => Runs::Sometimes,
    }
}

/// A switch, or a field of the request that is one of several texts.
fn choice_name<'s>(expr: &Expr<'_>, scope: &'s Scope) -> Option<(String, &'s Known)> {
    match expr {
        Expr::Var(var) => Some((var.id.to_owned(), scope.get(var.id)?)),
        Expr::GetAttr(attr) => match &attr.expr {
            Expr::Var(var) if var.id == "input" => {
                Some((format!("input.{}", attr.name), scope.field(attr.name)?))
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn when(cases: &[&str]) -> Runs {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Runs::InCases {
            choice: "lane".into(),
            cases: set(cases),
            all: set(&["fast", "slow", "off"]),
        }
    }

    #[test]
    fn cases_are_sets() {
        assert_eq!(when(&["fast"]).or(when(&["slow"])), when(&["fast", "slow"]));
        assert_eq!(when(&["fast", "off"]).or(when(&["slow"])), Runs::Always);
        assert_eq!(
            when(&["fast", "off"]).and(when(&["off"])),
            Some(when(&["off"]))
        );
        assert_eq!(when(&["fast"]).and(when(&["off"])), None);
        assert_eq!(except(when(&["fast"])), when(&["off", "slow"]));
        assert_eq!(when(&["fast"]).and(Runs::Sometimes), Some(Runs::Sometimes));
        assert_eq!(when(&["fast"]).or(Runs::Sometimes), Runs::Sometimes);
    }
}
