//! `index`: a collection of documents.

use crate::{
    Diagnostic, Name, Span, Spanned, Text, codes,
    decode::{Fields, block},
};

block! {
    /// A collection of documents that `search` nodes name. It is kept in one of `path`, `qdrant`,
    /// `milvus` and `pgvector`.
    #[derive(Debug, Clone)]
    pub struct IndexDecl {
        /// Its name.
        pub id: Spanned<Name> = id(),
        /// Where it is kept.
        pub backend: IndexBackend = then(IndexBackend::read),
        /// The model that embedded its documents, and embeds them when it is built.
        pub model: Option<Spanned<Name>> = option("model").optional(),
        /// Size of its vectors; taken from the model if absent.
        pub dimensions: Option<Spanned<u32>> = option("dimensions")
            .at_least(1)
            .at_most(65_536)
            .optional(),
        /// What it is built from if it is absent.
        pub from: Option<Spanned<Corpus>> = block("from", Corpus::fields),
        /// The whole block.
        pub span: Span = whole(),
    }
}

block! {
    /// Documents that an index is built from.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Corpus {
        /// A folder of Markdown or text, or a JSON-lines file.
        pub path: Text = argument("path").required(),
        /// A file or folder inside the folder that is left out.
        pub exclude: Vec<Text> = option("exclude").many(),
        /// Most characters of a passage, its heading included. 900 are about 256 tokens, which is
        /// what small embedding models read.
        pub passage_size: u32 = option("passage-size").at_least(100).at_most(100_000).or(900),
    }
}

impl Default for Corpus {
    /// How documents are read that the file does not name.
    fn default() -> Self {
        Fields::defaults(Corpus::fields)
    }
}

impl PartialEq for IndexDecl {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            id,
            backend,
            model,
            dimensions,
            from,
            span: _,
        } = self;
        *id == other.id
            && *backend == other.backend
            && *model == other.model
            && *dimensions == other.dimensions
            && *from == other.from
    }
}

impl IndexDecl {
    pub(super) fn read(f: &mut Fields) -> Self {
        Self::fields(f)
    }
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
    Qdrant(QdrantIndex),
    /// On a Milvus server.
    Milvus(MilvusIndex),
    /// In PostgreSQL with pgvector.
    Pgvector(PgvectorIndex),
}

block! {
    /// It is kept on a Qdrant server.
    #[derive(Debug, Clone, PartialEq)]
    pub struct QdrantIndex {
        /// Its address, as of its REST interface.
        pub url: Spanned<Text> = argument("url").required(),
        /// The collection's name.
        pub collection: Spanned<Text> = option("collection").required(),
        /// Its API key.
        pub api_key: Option<Text> = option("api-key").optional(),
        /// The field of the payload that is a document's id.
        pub id: Text = option("id").or(Text::plain("id")),
        /// The field of the payload that is its text.
        pub text: Text = option("text").or(Text::plain("text")),
        /// The field of the payload that is its metadata.
        pub metadata: Text = option("metadata").or(Text::plain("metadata")),
        /// The name of its vector.
        pub vector: Text = option("vector").or(Text::plain("vector")),
        /// The name of the sparse vector that words are found by.
        pub words: Text = option("words").or(Text::plain("words")),
    }
}

block! {
    /// It is kept on a Milvus server.
    #[derive(Debug, Clone, PartialEq)]
    pub struct MilvusIndex {
        /// Its address, as of its gRPC interface; a path names the database.
        pub url: Spanned<Text> = argument("url").required(),
        /// The collection's name.
        pub collection: Spanned<Text> = option("collection").required(),
        /// Its token, or `USER:PASSWORD`.
        pub token: Option<Text> = option("token").optional(),
        /// The field that is a document's text.
        pub text: Text = option("text").or(Text::plain("text")),
        /// The JSON field that is its metadata.
        pub metadata: Text = option("metadata").or(Text::plain("metadata")),
        /// The field that is its vector.
        pub vector: Text = option("vector").or(Text::plain("vector")),
    }
}

block! {
    /// It is kept in PostgreSQL with pgvector.
    #[derive(Debug, Clone, PartialEq)]
    pub struct PgvectorIndex {
        /// The connection string, as libpq takes it.
        pub url: Spanned<Text> = argument("url").required(),
        /// The table's name, with that of its schema before it or without.
        pub table: Spanned<Text> = option("table").required(),
        /// The column that is a document's id.
        pub id: Text = option("id").or(Text::plain("id")),
        /// The column that is its text.
        pub text: Text = option("text").or(Text::plain("text")),
        /// The `jsonb` column that is its metadata.
        pub metadata: Text = option("metadata").or(Text::plain("metadata")),
        /// The column that is its vector.
        pub vector: Text = option("vector").or(Text::plain("embedding")),
        /// The `tsvector` column that words are found in; without it, they are looked for in the
        /// text, which is slow in a large table.
        pub words: Text = option("words").or(Text::plain("words")),
        /// PostgreSQL's text search configuration for its language.
        pub language: Text = option("language").or(Text::plain("english")),
        /// How many connections there are at most.
        pub connections: u32 = option("connections").at_least(1).at_most(1000).or(8),
    }
}

impl IndexBackend {
    fn read(f: &mut Fields) -> Self {
        f.exactly_one(&[&["path"], &["qdrant"], &["milvus"], &["pgvector"]]);
        let nowhere = Spanned::new(Text::plain(""), f.head());
        let path = f
            .doc("It is kept in this folder on this machine.")
            .option("path")
            .optional();
        let qdrant = f
            .doc("It is kept on a Qdrant server.")
            .block("qdrant", QdrantIndex::read);
        let milvus = f
            .doc("It is kept on a Milvus server.")
            .block("milvus", MilvusIndex::read);
        let pgvector = f
            .doc("It is kept in PostgreSQL with pgvector.")
            .block("pgvector", PgvectorIndex::read);
        let qdrant = qdrant.map(IndexBackend::Qdrant);
        let milvus = milvus.map(IndexBackend::Milvus);
        let remote = qdrant.or(milvus).or(pgvector.map(IndexBackend::Pgvector));
        remote.unwrap_or(IndexBackend::Embedded {
            path: path.unwrap_or(nowhere),
        })
    }
}

impl QdrantIndex {
    fn read(f: &mut Fields) -> Self {
        let qdrant = Self::fields(f);
        http_address(&qdrant.url, "http://localhost:6333", f);
        qdrant
    }
}

impl MilvusIndex {
    fn read(f: &mut Fields) -> Self {
        let milvus = Self::fields(f);
        http_address(&milvus.url, "http://localhost:19530", f);
        milvus
    }
}

impl PgvectorIndex {
    fn read(f: &mut Fields) -> Self {
        let pgvector = Self::fields(f);
        let url = pgvector.url.expose();
        let known = ["postgres://", "postgresql://"];
        let is_url = known.iter().any(|scheme| url.starts_with(scheme));
        if !is_url && !url.contains('=') {
            let example = "postgresql://localhost/documents";
            no_address(&pgvector.url, "a connection string", example, f);
        }
        pgvector
    }
}

/// Reports an address that cannot be called.
fn http_address(url: &Spanned<Text>, example: &str, f: &mut Fields) {
    let text = url.expose();
    let rest = text
        .strip_prefix("http://")
        .or(text.strip_prefix("https://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
        no_address(url, "an address of a server", example, f);
    }
}

fn no_address(url: &Spanned<Text>, what: &str, example: &str, f: &mut Fields) {
    // What could not be read was reported already, and of a secret nothing can be said.
    if url.expose().is_empty() || url.is_secret() {
        return;
    }
    f.report(|| {
        let message = format!("\"{}\" is not {what}", url.value);
        Diagnostic::error(codes::UNKNOWN_VALUE, message, url.span)
            .help(format!("write one such as \"{example}\""))
    });
}
