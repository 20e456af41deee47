//! What a file declares.

use crate::{Argument, ByteSize, Name, NodeDecl, Span, Spanned, Text, Type};
use std::time::Duration;

/// Everything that one source declares; the loader joins those of a file and its includes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// Paths of further sources, relative to this one.
    pub includes: Vec<Spanned<Text>>,
    /// How the engine listens; at most one in a file and its includes.
    pub server: Option<Spanned<Server>>,
    /// Models that nodes name.
    pub models: Vec<ModelDecl>,
    /// Document collections that nodes name.
    pub indexes: Vec<IndexDecl>,
    /// Graphs, each served at a route.
    pub graphs: Vec<GraphDecl>,
}

/// How the engine listens.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Where requests come in, `host:port`. Default `127.0.0.1:8000`.
    pub listen: Spanned<Text>,
    /// Where metrics, status and control are served, `host:port`. Default `127.0.0.1:8001`.
    pub admin: Spanned<Text>,
    /// Keys of which a request must bear one, as `authorization: Bearer …`. A public address needs one.
    pub api_keys: Vec<Spanned<Text>>,
    /// The largest request body taken. Default 1 MiB.
    pub max_body: ByteSize,
    /// How long a request may take where neither it nor its graph says. Default 60 s.
    pub timeout: Duration,
    /// How long running requests are given to finish at a stop. Default 20 s.
    pub graceful_shutdown_timeout: Duration,
}

/// A model that nodes name.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelDecl {
    /// Its name.
    pub id: Spanned<Name>,
    /// Where its files are had from, tried in order.
    pub sources: Vec<Spanned<ModelSource>>,
    /// LoRA adapters over it.
    pub adapters: Option<Spanned<AdapterSet>>,
    /// Number type of its weights at run time: `f32`, `int8` or `auto` (as the file has them).
    pub dtype: Spanned<String>,
    /// Where it computes: `cpu` or `cuda:N`.
    pub device: Spanned<String>,
    /// How many tokens it reads at most; the model's own limit if absent.
    pub max_tokens: Option<Spanned<u32>>,
    /// The whole block.
    pub span: Span,
}

/// One place where a model's files can be had.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSource {
    /// A URI: `file:PATH`, `hf:ORG/NAME[@REVISION][#FILE]`, `pip:NAME==VERSION[,NAME==VERSION…]#PATH`.
    pub uri: Text,
    /// Expected digest of the file, in hex. Only for a source that is a single file.
    pub sha256: Option<Spanned<String>>,
}

/// A folder of LoRA adapters in PEFT format.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSet {
    /// The folder, one sub-folder for each adapter.
    pub path: Text,
    /// How many stay loaded at most. Default 16.
    pub max_loaded: u32,
    /// How many bytes of them stay loaded at most. Default 512 MiB.
    pub max_bytes: ByteSize,
    /// Adapters that are loaded at start and stay.
    pub pin: Vec<Spanned<Name>>,
}

/// A document collection that `search` nodes name.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexDecl {
    /// Its name.
    pub id: Spanned<Name>,
    /// Where it is kept.
    pub backend: IndexBackend,
    /// The model that embedded its documents, and embeds them when it is built.
    pub model: Option<Spanned<Name>>,
    /// Size of its vectors; taken from the model if absent.
    pub dimensions: Option<Spanned<u32>>,
    /// A folder of Markdown or text, or a JSON-lines file, from which it is built if it is absent.
    pub from: Option<Spanned<Text>>,
    /// The whole block.
    pub span: Span,
}

/// Where a document collection is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum IndexBackend {
    /// In a folder on this machine.
    Embedded {
        /// The folder.
        path: Spanned<Text>,
    },
    /// On a Qdrant server.
    Qdrant {
        /// Its address.
        url: Spanned<Text>,
        /// The collection's name.
        collection: Spanned<Text>,
        /// Its API key.
        api_key: Option<Text>,
    },
    /// On a Milvus server.
    Milvus {
        /// Its address.
        url: Spanned<Text>,
        /// The collection's name.
        collection: Spanned<Text>,
        /// Its token.
        token: Option<Text>,
    },
    /// In PostgreSQL with pgvector.
    Pgvector {
        /// The connection string.
        url: Spanned<Text>,
        /// The table's name.
        table: Spanned<Text>,
    },
}

/// A graph: the fields of a request, nodes, and the fields of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphDecl {
    /// Its name.
    pub id: Spanned<Name>,
    /// Where it is served; `/NAME` if absent.
    pub route: Option<Spanned<String>>,
    /// How long a request may take, the server's `timeout` if absent.
    pub timeout: Option<Spanned<Duration>>,
    /// The fields of a request.
    pub input: Vec<InputField>,
    /// The nodes, as written.
    pub nodes: Vec<NodeDecl>,
    /// The fields of the answer.
    pub output: Vec<OutputField>,
    /// The place of the `output` block, if there is one.
    pub output_span: Option<Span>,
    /// The whole block.
    pub span: Span,
}

/// A field of a request and the rules it is held to.
#[derive(Debug, Clone, PartialEq)]
pub struct InputField {
    /// Its name in the request, as written; `-` and `_` are the same, and requests use `_`.
    pub id: Spanned<Name>,
    /// Its type.
    pub value_type: Spanned<Type>,
    /// Its value in a request that does not have it; without one, the field is required.
    pub default: Option<Spanned<crate::Literal>>,
    /// A request need not have it, and it is none then.
    pub optional: bool,
    /// Smallest number allowed.
    pub min: Option<f64>,
    /// Largest number allowed.
    pub max: Option<f64>,
    /// Fewest characters of a text, or elements of a list.
    pub min_length: Option<u32>,
    /// Most characters of a text, or elements of a list.
    pub max_length: Option<u32>,
    /// The only texts allowed.
    pub one_of: Vec<String>,
    /// What it is, for the OpenAPI document.
    pub description: Option<String>,
}

/// A field of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputField {
    /// Its name in the answer; a `-` becomes `_`.
    pub id: Spanned<Name>,
    /// Its value.
    pub value: Argument,
}
