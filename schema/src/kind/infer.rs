//! `infer`: a call of an Open Inference Protocol server.

use super::Port;
use crate::{Argument, Spanned, Text, Type};

/// Calls a model on Triton, TorchServe, KServe or another server of the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Infer {
    /// The server's address.
    pub url: Spanned<Text>,
    /// The model's name there.
    pub model: Spanned<Text>,
    /// The model's version there; the server's choice if absent.
    pub version: Option<Text>,
    /// Input tensors, by name.
    pub inputs: Vec<(Spanned<String>, Argument)>,
    /// The output tensor that is the result; the only one if absent.
    pub output: Option<Spanned<String>>,
}

impl Infer {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        self.inputs
            .iter()
            .map(|(name, argument)| Port::new(&name.value, Type::Any, argument))
            .collect()
    }
}
