//! `embed`: text to vector.

use super::{Backend, Port};
use crate::{Argument, Type};

/// Turns a text, or each of a list of texts, into a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Embed {
    /// A BERT-family encoder, or a service.
    pub backend: Backend,
    /// The text, or a list of texts.
    pub text: Argument,
}

impl Embed {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        // A text or a list of texts: which of the two decides the type of the result.
        let mut ports = vec![Port::new("text", Type::Any, &self.text)];
        ports.extend(self.backend.ports());
        ports
    }
}
