//! `embed`: text to vector.

use super::{Backend, Port, Protocol};
use crate::{Argument, Type, decode::block};

block! {
    /// Turns a text, or each of a list of texts, into a vector, with a BERT-family encoder or a
    /// service.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Embed {
        /// Where it computes.
        pub backend: Backend = then(|f| Backend::read(f, &[Protocol::OpenAi, Protocol::Tei])),
        /// The text, or a list of texts.
        pub text: Argument = option("text").required(),
    }
}

impl Embed {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        // A text or a list of texts: which of the two decides the type of the result.
        let mut ports = vec![Port::new("text", Type::Any, &self.text)];
        ports.extend(self.backend.ports());
        ports
    }
}
