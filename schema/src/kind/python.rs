//! `python`: a call of a Python function.

use super::Port;
use crate::{Argument, Spanned, Text, Type};

/// Calls a function or an object of a Python file, in worker processes.
#[derive(Debug, Clone, PartialEq)]
pub struct Python {
    /// The file.
    pub file: Spanned<Text>,
    /// What in it is called.
    pub entry: PythonEntry,
    /// A `requirements.txt` for an environment of its own.
    pub requirements: Option<Spanned<Text>>,
    /// Environment variables that the worker sees.
    pub env: Vec<Spanned<String>>,
    /// Keyword arguments of the call, by name.
    pub arguments: Vec<(Spanned<String>, Argument)>,
    /// What it yields. Default `any`.
    pub returns: Option<Spanned<Type>>,
}

/// What of a Python file is called.
#[derive(Debug, Clone, PartialEq)]
pub enum PythonEntry {
    /// A function.
    Function(Spanned<String>),
    /// A class: made once for each worker, its `__call__` once for each item.
    Class(Spanned<String>),
}

impl Python {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        self.arguments
            .iter()
            .map(|(name, argument)| Port::new(&name.value, Type::Any, argument))
            .collect()
    }
}
