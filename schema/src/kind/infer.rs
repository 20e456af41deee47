//! `infer`: a call of an Open Inference Protocol server.

use super::{Port, endpoint::is_address, http::named_value};
use crate::{
    Argument, Diagnostic, Spanned, Text, Type, codes,
    decode::{Fields, block},
};

block! {
    /// Calls a model on Triton, TorchServe, KServe or another server of the Open Inference Protocol.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Infer {
        /// The server's addresses: `http://` and `https://` for REST, `grpc://` and `grpcs://` for
        /// gRPC. Load is spread over them.
        pub urls: Vec<Spanned<Text>> = option("url").many_required(),
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

/// What an address of REST begins with, and one of gRPC.
const REST: [&str; 2] = ["http://", "https://"];
const GRPC: [&str; 2] = ["grpc://", "grpcs://"];

impl Infer {
    pub(super) fn read(f: &mut Fields) -> Self {
        let infer = Self::fields(f);
        f.exactly_one(&[&["input"]]);
        infer.check(f);
        infer
    }

    /// Whether the servers are spoken to over gRPC.
    pub fn is_grpc(&self) -> bool {
        self.urls.first().is_some_and(|url| of_grpc(url))
    }

    fn check(&self, f: &mut Fields) {
        for url in &self.urls {
            let text = url.expose();
            // One of gRPC has no path.
            let path = of_grpc(url)
                && text
                    .splitn(4, '/')
                    .nth(3)
                    .is_some_and(|path| !path.is_empty());
            if path || !(is_address(text, &REST) || is_address(text, &GRPC)) {
                f.report(|| {
                    let message = format!("\"{}\" is no address of a server", url.value);
                    Diagnostic::error(codes::UNKNOWN_VALUE, message, url.span).help(
                        "write one such as \"http://localhost:8000\" or \"grpc://localhost:8001\"",
                    )
                });
            }
        }
        let odd = self.urls.iter().find(|url| of_grpc(url) != self.is_grpc());
        if let Some(odd) = odd {
            f.report(|| {
                let message = "the addresses of a node are all of REST or all of gRPC";
                Diagnostic::error(codes::CONFLICTING_OPTIONS, message, odd.span)
                    .help("make a node of its own for this one")
            });
        }
    }
}

fn of_grpc(url: &Text) -> bool {
    GRPC.iter().any(|scheme| url.expose().starts_with(scheme))
}

impl Infer {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        self.inputs
            .iter()
            .map(|(name, argument)| Port::new(&name.value, Type::Any, argument))
            .collect()
    }
}
