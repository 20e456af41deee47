//! `search`: query to documents.

use super::Port;
use crate::{Argument, Literal, Name, Spanned, Type, decode::block};

block! {
    /// Finds the documents of an index that are nearest to a vector, a text, or both; with both, the
    /// two lists are joined by reciprocal rank fusion.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Search {
        /// The index.
        pub index: Spanned<Name> = option("index").required(),
        /// Look for neighbours of this vector.
        pub vector: Option<Argument> = option("vector").optional(),
        /// Look for these words (BM25).
        pub text: Option<Argument> = option("text").optional(),
        /// How many documents.
        pub top_k: Argument = option("top-k")
            .within(1.0, 10_000.0)
            .or(Argument::constant(Literal::Integer(10))),
        /// Only documents whose metadata fits: a map from field to value, list of values, or range
        /// `{gte, gt, lte, lt}`.
        pub filter: Option<Argument> = option("filter").optional(),
    }
}

/// What a search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchMode {
    /// Vectors only.
    Vector,
    /// Words only.
    Text,
    /// Both, joined by reciprocal rank fusion.
    Hybrid,
}

impl Search {
    /// What it looks at, as far as the file says; a request may leave one of the two empty.
    pub fn mode(&self) -> SearchMode {
        match (&self.vector, &self.text) {
            (Some(_), Some(_)) => SearchMode::Hybrid,
            (None, Some(_)) => SearchMode::Text,
            _ => SearchMode::Vector,
        }
    }

    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        let mut ports = Vec::new();
        if let Some(vector) = &self.vector {
            ports.push(Port::new("vector", Type::Vector(None), vector));
        }
        if let Some(text) = &self.text {
            ports.push(Port::new("text", Type::Text, text));
        }
        ports.push(Port::new("top-k", Type::Integer, &self.top_k));
        if let Some(filter) = &self.filter {
            ports.push(Port::new("filter", Type::Map, filter));
        }
        ports
    }
}
