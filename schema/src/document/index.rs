//! `index`: a collection of documents.

use crate::{
    Name, Span, Spanned, Text,
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
            .block("qdrant", Self::qdrant);
        let milvus = f
            .doc("It is kept on a Milvus server.")
            .block("milvus", Self::milvus);
        let pgvector = f
            .doc("It is kept in PostgreSQL with pgvector.")
            .block("pgvector", Self::pgvector);
        let remote: Option<Self> = qdrant.or(milvus).or(pgvector);
        remote.unwrap_or(IndexBackend::Embedded {
            path: path.unwrap_or(nowhere),
        })
    }

    fn qdrant(f: &mut Fields) -> Self {
        IndexBackend::Qdrant {
            url: f.doc("Its address.").argument("url").required(),
            collection: collection(f),
            api_key: f.doc("Its API key.").option("api-key").optional(),
        }
    }

    fn milvus(f: &mut Fields) -> Self {
        IndexBackend::Milvus {
            url: f.doc("Its address.").argument("url").required(),
            collection: collection(f),
            token: f.doc("Its token.").option("token").optional(),
        }
    }

    fn pgvector(f: &mut Fields) -> Self {
        IndexBackend::Pgvector {
            url: f.doc("The connection string.").argument("url").required(),
            table: f.doc("The table's name.").option("table").required(),
        }
    }
}

fn collection(f: &mut Fields) -> Spanned<Text> {
    f.doc("The collection's name.")
        .option("collection")
        .required()
}
