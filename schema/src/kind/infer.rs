//! `infer`: a call of an Open Inference Protocol server.

use super::{Port, http::named_value};
use crate::{
    Argument, Spanned, Text, Type,
    decode::{Fields, block},
};

block! {
    /// Calls a model on Triton, TorchServe, KServe or another server of the Open Inference Protocol.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Infer {
        /// The server's address.
        pub url: Spanned<Text> = option("url").required(),
        /// The model's name there.
        pub model: Spanned<Text> = option("model").required(),
        /// The model's version there; the server's choice if absent.
        pub version: Option<Text> = option("version").optional(),
        /// An input tensor, `input NAME VALUE`.
        pub inputs: Vec<(Spanned<String>, Argument)> = blocks("input", named_value),
        /// The output tensor that is the result; the only one if absent.
        pub output: Option<Spanned<String>> = option("output").optional(),
    }
}

impl Infer {
    pub(super) fn read(f: &mut Fields) -> Self {
        let infer = Self::fields(f);
        f.exactly_one(&[&["input"]]);
        infer
    }
}

impl Infer {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        self.inputs
            .iter()
            .map(|(name, argument)| Port::new(&name.value, Type::Any, argument))
            .collect()
    }
}
