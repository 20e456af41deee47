//! Goes through a template: finds what it reads, and the type of what it yields.
//!
//! This file follows statements and the scopes that they open; expressions are in `expression`.

use super::{
    parse::{Tree, range},
    place,
    scope::Scope,
};
use crate::{Root, problems::Problems, types};
use minijinja::machinery::ast::{Expr, ForLoop, IfCond, Set, SetBlock, Stmt, WithBlock};
use schema::{Diagnostic, Span, Template, Type, codes};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

/// What a template is found to be.
#[derive(Debug)]
pub(crate) struct Inferred {
    /// The type of what it yields.
    pub(crate) value_type: Type,
    /// What it reads: each root once, with its name and the place where it is first named.
    pub(crate) reads: Vec<(String, Root, Span)>,
}

/// Goes through a template, adding what is wrong with it to `problems`.
pub(crate) fn infer(tree: &Tree<'_>, scope: &Scope, problems: &mut Problems) -> Inferred {
    let mut walker = Infer {
        template: tree.template,
        scope,
        problems,
        frames: vec![HashMap::new()],
        conditional: 0,
        certain: Vec::new(),
        reads: Vec::new(),
        seen: HashSet::new(),
        unknown: HashSet::new(),
    };
    let value_type = match tree.native() {
        Some(expr) => walker.expr(expr),
        None => {
            walker.body(tree.body());
            Type::Text
        }
    };
    Inferred {
        value_type,
        reads: walker.reads,
    }
}

pub(super) struct Infer<'c, 'a> {
    pub(super) template: &'c Template,
    pub(super) scope: &'c Scope,
    pub(super) problems: &'c mut Problems,
    /// Variables of the template itself, innermost scope last.
    frames: Vec<HashMap<&'a str, Type>>,
    /// How many `{% if %}`s are open: what is set there may be set or not.
    conditional: usize,
    /// Expressions that an enclosing condition has found not to be none.
    pub(super) certain: Vec<String>,
    reads: Vec<(String, Root, Span)>,
    seen: HashSet<String>,
    unknown: HashSet<String>,
}

impl<'a> Infer<'_, 'a> {
    fn body(&mut self, body: &[Stmt<'a>]) {
        for statement in body {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Stmt<'a>) {
        match statement {
            Stmt::Template(root) => self.body(&root.children),
            Stmt::EmitExpr(emit) => {
                self.expr(&emit.expr);
            }
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(each) => self.for_loop(each),
            Stmt::IfCond(condition) => self.if_condition(condition),
            Stmt::WithBlock(with) => self.with_block(with),
            Stmt::Set(set) => self.set(set),
            Stmt::SetBlock(set) => self.set_block(set),
            Stmt::AutoEscape(escape) => {
                self.expr(&escape.enabled);
                self.body(&escape.body);
            }
            Stmt::FilterBlock(block) => {
                self.body(&block.body);
                self.expr(&block.filter);
            }
            Stmt::Do(call) => {
                self.call(&call.call);
            }
            Stmt::Macro(block) => self.no_macros(range(block.span())),
            Stmt::CallBlock(block) => self.no_macros(range(block.span())),
            Stmt::Continue(_) | Stmt::Break(_) => {}
        }
    }

    /// What a macro yields depends on where it is called, which no type says.
    fn no_macros(&mut self, place: Range<usize>) {
        let message = "a template of a graph stands for itself: it has no macros".to_owned();
        self.report(codes::BAD_TEMPLATE, message, place);
    }

    fn for_loop(&mut self, each: &ForLoop<'a>) {
        let list = self.expr(&each.iter);
        let element = types::element(&list).unwrap_or_else(|| {
            let message = format!("cannot loop over {}", with_article(&list));
            self.report(codes::TYPE_MISMATCH, message, place::extent(&each.iter));
            Type::Any
        });
        self.frames.push(HashMap::new());
        self.assign(&each.target, &element);
        // `loop` is there in the body only, not in the condition that picks the elements.
        if let Some(condition) = &each.filter_expr {
            self.expr(condition);
        }
        self.declare("loop", types::loop_variable(&element));
        self.body(&each.body);
        self.frames.pop();
        self.frames.push(HashMap::new());
        self.body(&each.else_body);
        self.frames.pop();
    }

    fn if_condition(&mut self, condition: &IfCond<'a>) {
        self.expr(&condition.expr);
        self.conditional += 1;
        self.given(&condition.expr, true, |this| {
            this.body(&condition.true_body)
        });
        self.given(&condition.expr, false, |this| {
            this.body(&condition.false_body)
        });
        self.conditional -= 1;
    }

    fn with_block(&mut self, with: &WithBlock<'a>) {
        self.frames.push(HashMap::new());
        for (target, expr) in &with.assignments {
            let value_type = self.expr(expr);
            self.assign(target, &value_type);
        }
        self.body(&with.body);
        self.frames.pop();
    }

    fn set(&mut self, set: &Set<'a>) {
        let value_type = self.expr(&set.expr);
        self.assign(&set.target, &value_type);
    }

    fn set_block(&mut self, set: &SetBlock<'a>) {
        self.body(&set.body);
        let value_type = match &set.filter {
            Some(filter) => self.expr(filter),
            None => Type::Text,
        };
        self.assign(&set.target, &value_type);
    }

    /// Gives a value to a name, or to several names in a pattern.
    fn assign(&mut self, target: &Expr<'a>, value_type: &Type) {
        match target {
            Expr::Var(name) => self.declare(name.id, value_type.clone()),
            Expr::List(names) => {
                let element = match value_type {
                    Type::List(element) => (**element).clone(),
                    _ => Type::Any,
                };
                for name in &names.items {
                    self.assign(name, &element);
                }
            }
            // `ns.field = …`: the namespace was made by a `set` before.
            Expr::GetAttr(attr) => {
                self.expr(&attr.expr);
            }
            _ => {}
        }
    }

    fn declare(&mut self, name: &'a str, value_type: Type) {
        let conditional = self.conditional > 0;
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        let joined = match frame.remove(name) {
            Some(before) if conditional => types::join(before, value_type),
            _ => value_type,
        };
        frame.insert(name, types::bounded(&joined));
    }

    /// A variable of the template itself.
    pub(super) fn local(&self, name: &str) -> Option<&Type> {
        self.frames.iter().rev().find_map(|frame| frame.get(name))
    }

    /// The variables of the template itself, in order.
    pub(super) fn locals(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self
            .frames
            .iter()
            .flat_map(HashMap::keys)
            .copied()
            .collect();
        names.sort_unstable();
        names
    }

    /// Remembers that the template reads `root` by this name.
    pub(super) fn read(&mut self, name: &str, root: Root, place: Range<usize>) {
        if self.seen.insert(name.to_owned()) {
            let place = self.template.place(place);
            self.reads.push((name.to_owned(), root, place));
        }
    }

    /// Whether this unknown name is met for the first time.
    pub(super) fn first_miss(&mut self, name: &str) -> bool {
        self.unknown.insert(name.to_owned())
    }

    /// The text of an expression.
    pub(super) fn source(&self, place: Range<usize>) -> &str {
        self.template.text().get(place).unwrap_or_default()
    }

    /// Does something under the condition that `test` holds, or does not.
    pub(super) fn given<R>(
        &mut self,
        test: &Expr<'a>,
        holds: bool,
        then: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let before = self.certain.len();
        self.learn(test, holds);
        let result = then(self);
        self.certain.truncate(before);
        result
    }

    pub(super) fn report(&mut self, code: &'static str, message: String, place: Range<usize>) {
        let place = self.template.place(place);
        self.problems.push(Diagnostic::error(code, message, place));
    }
}

/// The type with `a` or `an`, where one belongs there.
pub(crate) fn with_article(value_type: &Type) -> String {
    let name = value_type.to_string();
    match value_type {
        nothing if types::is_nothing(nothing) => "none".to_owned(),
        Type::Option(some) => format!("{} or none", with_article(some)),
        Type::Any | Type::Choice(_) => name,
        Type::List(element) if **element == Type::Document => name,
        Type::Integer => format!("an {name}"),
        _ => format!("a {name}"),
    }
}
