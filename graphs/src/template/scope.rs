//! What a template can name.

use crate::{Root, types};
use schema::{Span, Type};
use std::collections::HashMap;

/// The names of one graph, in template spelling.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// `input`, `header`, and the results of nodes.
    roots: HashMap<String, Known>,
    /// The fields of `input`.
    fields: HashMap<String, Known>,
    /// What is looped over or fanned out: `item`, where there is one.
    item: Option<Known>,
}

/// Something that a template can name.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) root: Root,
    pub(crate) value_type: Type,
    /// Where it is declared, if it is.
    pub(crate) declared: Option<Span>,
}

impl Scope {
    /// A scope with the fields of a request.
    pub(crate) fn new(fields: HashMap<String, Known>) -> Self {
        let root = |root| Known {
            root,
            value_type: Type::Map,
            declared: None,
        };
        let roots = [
            ("input".to_owned(), root(Root::Input)),
            ("header".to_owned(), root(Root::Header)),
        ];
        Self {
            roots: roots.into(),
            fields,
            item: None,
        }
    }

    /// Adds the result of a node.
    pub(crate) fn add(&mut self, name: String, known: Known) {
        self.roots.insert(name, known);
    }

    /// Puts the element of a fan-out in scope, or takes it out.
    pub(crate) fn set_item(&mut self, item: Option<Known>) {
        self.item = item;
    }

    /// What the name stands for.
    pub(crate) fn get(&self, name: &str) -> Option<&Known> {
        match name {
            "item" => self.item.as_ref(),
            _ => self.roots.get(name),
        }
    }

    /// The field of `input`.
    pub(crate) fn field(&self, name: &str) -> Option<&Known> {
        self.fields.get(name)
    }

    /// The names of `input`'s fields, in order.
    pub(crate) fn fields(&self) -> Vec<&str> {
        sorted(self.fields.keys())
    }

    /// Everything that can be named, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = sorted(self.roots.keys());
        names.extend(self.item.is_some().then_some("item"));
        names
    }
}

impl Known {
    /// Its type, small enough to be copied freely.
    pub(crate) fn bounded(&self) -> Type {
        types::bounded(&self.value_type)
    }
}

fn sorted<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_unstable();
    names
}
