//! The kinds of node: one file each, which states its options, arguments, defaults and result once.

mod embed;
mod endpoint;
mod generate;
mod http;
mod infer;
mod merge;
mod placement;
mod python;
mod rerank;
mod search;
mod split;
mod switch;
mod template;

pub use embed::Embed;
pub use endpoint::{Endpoint, Protocol};
pub use generate::{ChatMessage, Generate};
pub use http::{Header, HeaderValue, Http, Query};
pub use infer::Infer;
pub use merge::Merge;
pub use placement::Placement;
pub use python::{Python, PythonEntry};
pub use rerank::Rerank;
pub use search::{Search, SearchMode};
pub use split::{Split, SplitBy};
pub use switch::{Case, Switch};
pub use template::Template;

use crate::{
    Argument, Name, Spanned, Type,
    decode::{Fields, block},
};

/// What a node does, with its options. Two equal works can share replicas.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each node of a file, and matches read better without a box"
)]
pub enum Work {
    /// Text to vector.
    Embed(Embed),
    /// Query to documents.
    Search(Search),
    /// Documents to better ordered documents.
    Rerank(Rerank),
    /// Prompt to text.
    Generate(Generate),
    /// A value put together from others.
    Template(Template),
    /// The name of a branch.
    Switch(Switch),
    /// The first result that is there.
    Merge(Merge),
    /// Text to pieces.
    Split(Split),
    /// A call of an HTTP service.
    Http(Http),
    /// A call of a Python function.
    Python(Python),
    /// A call of an Open Inference Protocol server.
    Infer(Infer),
}

/// The kind of a node: a [`Work`] without its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "each variant is documented at the variant of `Work`"
)]
pub enum Kind {
    Embed,
    Search,
    Rerank,
    Generate,
    Template,
    Switch,
    Merge,
    Split,
    Http,
    Python,
    Infer,
}

impl Kind {
    /// All kinds, in the order of the reference.
    pub const ALL: [Kind; 11] = [
        Kind::Embed,
        Kind::Search,
        Kind::Rerank,
        Kind::Generate,
        Kind::Template,
        Kind::Switch,
        Kind::Merge,
        Kind::Split,
        Kind::Http,
        Kind::Python,
        Kind::Infer,
    ];

    /// The word that opens a node of this kind.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Embed => "embed",
            Kind::Search => "search",
            Kind::Rerank => "rerank",
            Kind::Generate => "generate",
            Kind::Template => "template",
            Kind::Switch => "switch",
            Kind::Merge => "merge",
            Kind::Split => "split",
            Kind::Http => "http",
            Kind::Python => "python",
            Kind::Infer => "infer",
        }
    }

    /// The kind that opens with this word, one of [`Kind::name`].
    pub(crate) fn named(word: &str) -> Self {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == word);
        found.expect("callers take the word from `Kind::name`")
    }

    /// Whether nodes of this kind run in the walk itself, without a pool: they neither wait nor
    /// compute.
    pub fn is_inline(self) -> bool {
        matches!(self, Kind::Template | Kind::Switch | Kind::Merge)
    }
}

/// One value that a node takes for each request.
#[derive(Debug, Clone, PartialEq)]
pub struct Port<'a> {
    /// Its name; the node's behaviour finds the value by it.
    pub name: &'a str,
    /// What the node can take.
    pub accepts: Type,
    /// What the file gives.
    pub argument: &'a Argument,
}

impl<'a> Port<'a> {
    fn new(name: &'a str, accepts: Type, argument: &'a Argument) -> Self {
        Self {
            name,
            accepts,
            argument,
        }
    }
}

block! {
    /// A model and, where wanted, one of its adapters.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ModelUse {
        /// The model's name.
        pub model: Spanned<Name> = argument("name").required(),
        /// The adapter, chosen for each request; the bare model if absent.
        pub adapter: Option<Argument> = option("adapter").optional(),
    }
}

/// Where `embed`, `rerank` and `generate` compute.
#[derive(Debug, Clone, PartialEq)]
pub enum Backend {
    /// In this process.
    Local(ModelUse),
    /// On a service.
    Remote(Spanned<Endpoint>),
}

impl Backend {
    /// Reads where a node computes that can speak one of `protocols` with a service.
    fn read(f: &mut Fields, protocols: &[Protocol]) -> Self {
        f.exactly_one(&[&["model"], &["endpoint"]]);
        let head = f.head();
        let local = f
            .doc("It computes in this process, with this model.")
            .block("model", ModelUse::fields);
        let remote: Option<Spanned<Endpoint>> = f
            .doc("It computes on a service.")
            .block("endpoint", Endpoint::fields);
        if let Some(remote) = &remote {
            remote.check(protocols, f);
        }
        match (local, remote) {
            (None, Some(remote)) => Backend::Remote(remote),
            (local, _) => Backend::Local(local.unwrap_or(ModelUse {
                model: Spanned::new(Name::new(""), head),
                adapter: None,
            })),
        }
    }

    fn ports(&self) -> Vec<Port<'_>> {
        let (adapter, extra) = match self {
            Backend::Local(local) => (&local.adapter, &None),
            Backend::Remote(remote) => (&remote.adapter, &remote.extra),
        };
        let adapter = adapter.iter();
        let adapter = adapter.map(|adapter| Port::new("adapter", Type::Text, adapter));
        let extra = extra.iter();
        adapter
            .chain(extra.map(|extra| Port::new("extra", Type::Map, extra)))
            .collect()
    }

    /// The local model and the adapter over it, if there is one.
    fn adapter(&self) -> Option<(&Spanned<Name>, &Argument)> {
        match self {
            Backend::Local(local) => Some((&local.model, local.adapter.as_ref()?)),
            Backend::Remote(_) => None,
        }
    }

    /// The local model, if it is one.
    pub fn model(&self) -> Option<&Spanned<Name>> {
        match self {
            Backend::Local(local) => Some(&local.model),
            Backend::Remote(_) => None,
        }
    }
}

impl Work {
    /// Reads the options of a node of this kind.
    pub(crate) fn read(kind: Kind, f: &mut Fields) -> Self {
        match kind {
            Kind::Embed => Work::Embed(Embed::fields(f)),
            Kind::Search => Work::Search(Search::fields(f)),
            Kind::Rerank => Work::Rerank(Rerank::fields(f)),
            Kind::Generate => Work::Generate(Generate::fields(f)),
            Kind::Template => Work::Template(Template::fields(f)),
            Kind::Switch => Work::Switch(Switch::read(f)),
            Kind::Merge => Work::Merge(Merge::fields(f)),
            Kind::Split => Work::Split(Split::read(f)),
            Kind::Http => Work::Http(Http::fields(f)),
            Kind::Python => Work::Python(Python::fields(f)),
            Kind::Infer => Work::Infer(Infer::read(f)),
        }
    }

    /// The kind without its options.
    pub fn kind(&self) -> Kind {
        match self {
            Work::Embed(_) => Kind::Embed,
            Work::Search(_) => Kind::Search,
            Work::Rerank(_) => Kind::Rerank,
            Work::Generate(_) => Kind::Generate,
            Work::Template(_) => Kind::Template,
            Work::Switch(_) => Kind::Switch,
            Work::Merge(_) => Kind::Merge,
            Work::Split(_) => Kind::Split,
            Work::Http(_) => Kind::Http,
            Work::Python(_) => Kind::Python,
            Work::Infer(_) => Kind::Infer,
        }
    }

    /// The values that this work takes for each request, in a fixed order.
    pub fn ports(&self) -> Vec<Port<'_>> {
        match self {
            Work::Embed(work) => work.ports(),
            Work::Search(work) => work.ports(),
            Work::Rerank(work) => work.ports(),
            Work::Generate(work) => work.ports(),
            Work::Template(work) => work.ports(),
            Work::Switch(work) => work.ports(),
            Work::Merge(_) => Vec::new(),
            Work::Split(work) => work.ports(),
            Work::Http(work) => work.ports(),
            Work::Python(work) => work.ports(),
            Work::Infer(work) => work.ports(),
        }
    }

    /// The local model that this work computes with.
    pub fn model(&self) -> Option<&Spanned<Name>> {
        match self {
            Work::Embed(work) => work.backend.model(),
            Work::Rerank(work) => work.backend.model(),
            Work::Generate(work) => work.backend.model(),
            _ => None,
        }
    }

    /// The adapter that this work chooses for each request, and the local model that it is over.
    pub fn adapter(&self) -> Option<(&Spanned<Name>, &Argument)> {
        match self {
            Work::Embed(work) => work.backend.adapter(),
            Work::Rerank(work) => work.backend.adapter(),
            Work::Generate(work) => work.backend.adapter(),
            _ => None,
        }
    }

    /// Whether this work is done by the walk itself, without a pool: it neither waits nor computes.
    pub fn is_inline(&self) -> bool {
        self.kind().is_inline()
    }
}
