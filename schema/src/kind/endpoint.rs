//! A service that stands in for a local model.

use super::Placement;
use crate::{
    Argument, Diagnostic, Spanned, Text, codes,
    decode::{Choice, Fields, block},
};

block! {
    /// A remote service that stands in for a local model.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Endpoint {
        /// Its addresses; load is spread over them. To one without a path, `/v1` is added where the
        /// protocol has it.
        pub urls: Vec<Spanned<Text>> = argument("url").many_required(),
        /// What it speaks; `openai` for `embed` and `generate` and `cohere` for `rerank` if absent.
        pub protocol: Option<Spanned<Protocol>> = option("protocol").optional(),
        /// The model's name there.
        pub model: Option<Text> = option("model").optional(),
        /// The adapter, chosen for each request; sent as the model's name, as vLLM takes it.
        pub adapter: Option<Argument> = option("adapter").optional(),
        /// Where calls go that name an adapter, where there are several addresses.
        pub placement: Placement = option("placement").or(Placement::Warm),
        /// Its API key.
        pub api_key: Option<Text> = option("api-key").optional(),
        /// Further fields of the request's body as a map, such as `response_format`; one that is
        /// none is left out.
        pub extra: Option<Argument> = option("extra").optional(),
    }
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OpenAI's: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`.
    OpenAi,
    /// Cohere's and Jina's: `/v1/rerank`.
    Cohere,
    /// Text Embeddings Inference's own: `/embed`, `/rerank`.
    Tei,
}

impl Choice for Protocol {
    const CHOICES: &'static [(&'static str, Self, &'static str)] = &[
        (
            "openai",
            Protocol::OpenAi,
            "`/chat/completions`, `/completions`, `/embeddings`",
        ),
        (
            "cohere",
            Protocol::Cohere,
            "`/rerank` as Cohere and Jina have it",
        ),
        (
            "tei",
            Protocol::Tei,
            "`/embed` and `/rerank` of Text Embeddings Inference",
        ),
    ];
}

impl Endpoint {
    /// Reports addresses that cannot be called, and a protocol that is not among `known`.
    pub(super) fn check(&self, known: &[Protocol], f: &mut Fields) {
        for url in &self.urls {
            if is_address(url.expose(), &["http://", "https://"]) {
                continue;
            }
            f.report(|| {
                let message = format!("\"{}\" is no address of a service", url.value);
                Diagnostic::error(codes::UNKNOWN_VALUE, message, url.span)
                    .help("write one such as \"http://localhost:8000\"")
            });
        }
        let Some(protocol) = self.protocol.filter(|given| !known.contains(&given.value)) else {
            return;
        };
        f.report(|| {
            let message = format!("this node cannot speak `{}`", protocol.value.name());
            let names: Vec<_> = known.iter().map(|known| known.name()).collect();
            Diagnostic::error(codes::UNKNOWN_VALUE, message, protocol.span)
                .help(format!("it speaks {}", names.join(" and ")))
        });
    }
}

/// Whether a text begins with one of these schemes, and then names a host.
pub(super) fn is_address(text: &str, schemes: &[&str]) -> bool {
    let mut rests = schemes
        .iter()
        .filter_map(|scheme| text.strip_prefix(scheme));
    rests.any(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

impl Protocol {
    /// As it is written.
    pub fn name(self) -> &'static str {
        let mut choices = Self::CHOICES.iter();
        let found = choices.find(|(_, choice, _)| *choice == self);
        found.map_or("", |(name, _, _)| name)
    }
}
