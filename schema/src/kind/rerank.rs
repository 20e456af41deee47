//! `rerank`: documents to better ordered documents.

use super::{Backend, Port, Protocol};
use crate::{Argument, Type, decode::block};

block! {
    /// Scores each document against a query with a cross-encoder (a BERT or XLM-RoBERTa sequence
    /// classifier, or a service) and keeps the best, best first.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Rerank {
        /// Where it computes.
        pub backend: Backend = then(|f| Backend::read(f, &[Protocol::Cohere, Protocol::Tei])),
        /// The query.
        pub query: Argument = option("query").required(),
        /// The documents, or a list of texts.
        pub documents: Argument = option("documents").required(),
        /// How many to keep; all if absent.
        pub keep: Option<Argument> = option("keep").within(1.0, f64::INFINITY).optional(),
    }
}

impl Rerank {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        let mut ports = vec![
            Port::new("query", Type::Text, &self.query),
            // Documents or texts; the result is documents either way.
            Port::new("documents", Type::list(Type::Any), &self.documents),
        ];
        if let Some(keep) = &self.keep {
            ports.push(Port::new("keep", Type::Integer, keep));
        }
        ports.extend(self.backend.ports());
        ports
    }
}
