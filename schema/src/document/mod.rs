//! What a file declares.

mod graph;
mod index;
mod input;
mod model;
mod rollout;
mod server;

pub use graph::{GraphDecl, OutputField};
pub use index::{Corpus, IndexBackend, IndexDecl, MilvusIndex, PgvectorIndex, QdrantIndex};
pub use input::InputField;
pub(crate) use input::TypeWord;
pub use model::{AdapterDecl, AdapterSet, ModelDecl, ModelSource};
pub use rollout::{BlueGreen, Canary, CanaryStep, Rollout, Shadow};
pub use server::Server;

use crate::{
    Diagnostic, Spanned, Text, codes,
    decode::{Fields, block},
};

block! {
    /// Everything that one source declares. A file and its includes count as one.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Document {
        /// A further file, its path relative to this one. Its declarations count as if they stood here.
        pub includes: Vec<Spanned<Text>> = option("include").many(),
        /// How the engine listens; at most one in a file and its includes.
        pub server: Option<Spanned<Server>> = block("server", Server::read),
        /// A model that nodes name.
        pub models: Vec<ModelDecl> = blocks("model", ModelDecl::read),
        /// A collection of documents that nodes name.
        pub indexes: Vec<IndexDecl> = blocks("index", IndexDecl::read),
        /// A graph, served at a route.
        pub graphs: Vec<GraphDecl> = blocks("graph", GraphDecl::read),
    }
}

impl Default for Document {
    fn default() -> Self {
        Fields::defaults(Document::fields)
    }
}

impl Document {
    /// Adds what an included source declares. A second `server` is a problem, and the first stays.
    pub fn join(&mut self, other: Document) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        match (&self.server, other.server) {
            (Some(first), Some(second)) => problems.push(
                Diagnostic::error(codes::SECOND_SERVER, "there is one `server`", second.span)
                    .label("a second one")
                    .also(first.span, "the first one")
                    .help("remove one, or move what it says into the other"),
            ),
            (None, Some(server)) => self.server = Some(server),
            (_, None) => {}
        }
        self.includes.extend(other.includes);
        self.models.extend(other.models);
        self.indexes.extend(other.indexes);
        self.graphs.extend(other.graphs);
        problems
    }
}
