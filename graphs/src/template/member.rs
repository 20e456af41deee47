//! Fields and elements of values, those of the request among them.

use super::{
    builtins::FILTERS,
    infer::{Infer, with_article},
    parse::{literal, range},
    place::{extent, last_name},
};
use crate::{
    Root,
    problems::listed,
    types::{self, Field},
};
use minijinja::machinery::ast::{Expr, GetAttr, GetItem, Slice};
use schema::{Diagnostic, Literal, Type, codes};
use std::ops::Range;

impl<'a> Infer<'_, 'a> {
    /// `base.name`
    pub(super) fn attribute(&mut self, whole: &Expr<'a>, attr: &GetAttr<'a>) -> Type {
        self.member(&attr.expr, attr.name, last_name(whole, attr.name))
    }

    /// `base[subscript]`
    pub(super) fn item(&mut self, whole: &Expr<'a>, item: &GetItem<'a>) -> Type {
        if let Some(Literal::Text(name)) = literal(&item.subscript_expr) {
            return self.member(&item.expr, &name, range(item.subscript_expr.span()));
        }
        let base = self.expr(&item.expr);
        let subscript = self.expr(&item.subscript_expr);
        let (bare, may_be_none) = types::required(base);
        let found = match &bare {
            Type::List(_) | Type::Vector(_) => types::element(&bare).unwrap_or(Type::Any),
            Type::Any | Type::Map | Type::Record(_) => Type::Any,
            Type::Document if subscript.fits(&Type::Text) => Type::Any,
            _ => {
                let message = format!("{} has no elements", with_article(&bare));
                let place = self.template.place(extent(whole));
                let problem = Diagnostic::error(codes::TYPE_MISMATCH, message, place);
                self.problems.push(match bare {
                    Type::Text | Type::Choice(_) => {
                        problem.help("the first letter of a text is `[:1]`")
                    }
                    _ => problem,
                });
                Type::Any
            }
        };
        if may_be_none {
            types::optional(found)
        } else {
            found
        }
    }

    /// The field `name` of the value of `base`.
    pub(super) fn member(&mut self, base: &Expr<'a>, name: &str, place: Range<usize>) -> Type {
        if let Expr::Var(var) = base
            && self.local(var.id).is_none()
        {
            match var.id {
                "input" => return self.input_field(name, range(var.span()), place),
                "header" => return self.header(name, range(var.span()), place),
                _ => {}
            }
        }
        let base_type = self.expr(base);
        self.field(&base_type, name, place)
    }

    pub(super) fn input_field(
        &mut self,
        name: &str,
        root: Range<usize>,
        place: Range<usize>,
    ) -> Type {
        self.read("input", Root::Input, root);
        if let Some(known) = self.scope.field(name) {
            return known.bounded();
        }
        if !self.first_miss(&format!("input.{name}")) {
            return Type::Any;
        }
        if self.problems.is_full() {
            self.problems.skip();
            return Type::Any;
        }
        let message = format!("no field \"{name}\" in the request");
        let problem = Diagnostic::error(codes::UNKNOWN_FIELD, message, self.template.place(place));
        let spelled = name.replace('-', "_");
        if spelled != name && self.scope.field(&spelled).is_some() {
            let help =
                format!("in templates a \"-\" in a name is written \"_\": `input.{spelled}`");
            self.problems.push(problem.help(help));
            return Type::Any;
        }
        let fields = self.scope.fields();
        let otherwise = match fields.is_empty() {
            true => Some("the graph's `input` block declares no fields".to_owned()),
            false => Some(format!("it has {}", listed(fields.iter().copied()))),
        };
        self.problems
            .push_with_guess(problem, name, fields, otherwise);
        Type::Any
    }

    pub(super) fn header(&mut self, name: &str, root: Range<usize>, place: Range<usize>) -> Type {
        self.read("header", Root::Header, root);
        let spelled = name.replace('-', "_").to_lowercase();
        if spelled != name {
            let message = format!("no header is named \"{name}\" in templates");
            let problem =
                Diagnostic::error(codes::UNKNOWN_FIELD, message, self.template.place(place));
            let help = format!("headers are lower case with \"_\" for \"-\": `header.{spelled}`");
            self.problems.push(problem.help(help));
        }
        types::optional(Type::Text)
    }

    /// The field `name` of a value of type `base`.
    pub(super) fn field(&mut self, base: &Type, name: &str, place: Range<usize>) -> Type {
        let place = self.template.place(place);
        match types::field(base, name) {
            Field::Is(found) => found,
            Field::Unknown(fields) => {
                let message = format!(
                    "no field \"{name}\" in {}",
                    with_article(&types::required(base.clone()).0)
                );
                let problem = Diagnostic::error(codes::UNKNOWN_FIELD, message, place);
                let names = fields.iter().map(String::as_str);
                let otherwise = Some(format!("it has {}", listed(names.clone())));
                self.problems
                    .push_with_guess(problem, name, names, otherwise);
                Type::Any
            }
            Field::NoFields => {
                let (bare, _) = types::required(base.clone());
                let message = format!("no field \"{name}\" in {}", with_article(&bare));
                let problem = Diagnostic::error(codes::UNKNOWN_FIELD, message, place);
                self.problems.push(match without_fields(&bare, name) {
                    Some(help) => problem.help(help),
                    None => problem,
                });
                Type::Any
            }
        }
    }

    pub(super) fn slice(&mut self, slice: &Slice<'a>) -> Type {
        let base = self.expr(&slice.expr);
        for bound in [&slice.start, &slice.stop, &slice.step]
            .into_iter()
            .flatten()
        {
            let found = self.expr(bound);
            self.number("a slice", &found, extent(bound));
        }
        let (bare, may_be_none) = types::required(base);
        let found = match bare {
            Type::List(_) => bare,
            Type::Text | Type::Choice(_) | Type::TextStream => Type::Text,
            Type::Vector(_) => Type::list(Type::Number),
            Type::Any => Type::Any,
            other => {
                let message = format!("{} cannot be sliced", with_article(&other));
                self.report(codes::TYPE_MISMATCH, message, extent(&slice.expr));
                Type::Any
            }
        };
        if may_be_none {
            types::optional(found)
        } else {
            found
        }
    }
}

/// What an author who wrote `x.name` of such a value may have meant.
fn without_fields(value_type: &Type, name: &str) -> Option<String> {
    match value_type {
        Type::List(_) => Some(format!(
            "one element is `[0]`; the fields of all are `| map(attribute='{name}') | list`"
        )),
        _ if FILTERS.contains(&name) => Some(format!("there is a filter of that name: `| {name}`")),
        _ => None,
    }
}
