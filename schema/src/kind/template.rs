//! `template`: a value put together from others.

use super::Port;
use crate::{Argument, Type, decode::block};

block! {
    /// Yields what its template yields: a text, or the native value of a single `{{ expression }}`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Template {
        /// The template.
        pub text: Argument = option("text").required(),
    }
}

impl Template {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        vec![Port::new("text", Type::Any, &self.text)]
    }
}
