//! `model`: weights that nodes compute with.

use crate::{
    ByteSize, Diagnostic, Name, Span, Spanned, Text, codes,
    decode::{Fields, block},
    place::Place,
    syntax::shorten,
};

block! {
    /// A model that nodes name.
    #[derive(Debug, Clone)]
    pub struct ModelDecl {
        /// Its name.
        pub id: Spanned<Name> = id(),
        /// Where its files are had from, at least one; several are tried in order.
        pub sources: Vec<Spanned<ModelSource>> = blocks("source", ModelSource::read),
        /// LoRA adapters over it: their folder, and how many stay loaded.
        pub adapters: Option<Spanned<AdapterSet>> = block("adapters", AdapterSet::read),
        /// A LoRA adapter that is had from elsewhere.
        pub named_adapters: Vec<AdapterDecl> = blocks("adapter", AdapterDecl::read),
        /// Number type of its weights at run time; `auto` is as the file has them.
        pub dtype: Spanned<String> = option("dtype")
            .one_of(&["auto", "f32", "int8"])
            .or("auto".to_owned()),
        /// Where it computes: `cpu` or `cuda:N`.
        pub device: Spanned<String> = option("device").or("cpu".to_owned()),
        /// How many tokens it reads at most; the model's own limit if absent.
        pub max_tokens: Option<Spanned<u32>> = option("max-tokens").at_least(1).optional(),
        /// The whole block.
        pub span: Span = whole(),
    }
}

block! {
    /// One place where a model's files can be had.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ModelSource {
        /// A URI: `file:PATH`, `hf:ORG/NAME[@REVISION][#FILE]`, `pip:NAME==VERSION[,NAME==VERSION…]#PATH`, `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, `az://CONTAINER/PATH`, `https://HOST/FILE`.
        pub uri: Spanned<Text> = argument("uri").required(),
        /// Expected digest of the file, in hex. Only for a source that is a single file.
        pub sha256: Option<Spanned<String>> = option("sha256").optional(),
    }
}

block! {
    /// LoRA adapters in PEFT format, loaded when a request names them.
    #[derive(Debug, Clone, PartialEq)]
    pub struct AdapterSet {
        /// The folder, one sub-folder for each adapter: a path, or `s3://BUCKET/PATH`, `gs://…` or `az://…`; none if absent.
        pub path: Option<Text> = argument("path").optional(),
        /// How many stay loaded at most.
        pub max_loaded: u32 = option("max-loaded").at_least(1).or(16),
        /// How many bytes of them stay loaded at most.
        pub max_bytes: ByteSize = option("max-bytes").at_least(ByteSize(1)).or(ByteSize(512 << 20)),
        /// Adapters that are loaded at start and stay.
        pub pin: Vec<Spanned<Name>> = option("pin").many(),
    }
}

block! {
    /// A LoRA adapter in PEFT format that is fetched when the engine starts.
    #[derive(Debug, Clone, PartialEq)]
    pub struct AdapterDecl {
        /// Its name.
        pub id: Spanned<Name> = id(),
        /// Where its files are had from, at least one; several are tried in order.
        pub sources: Vec<Spanned<ModelSource>> = blocks("source", ModelSource::read),
    }
}

impl Default for AdapterSet {
    fn default() -> Self {
        Fields::defaults(AdapterSet::fields)
    }
}

impl PartialEq for ModelDecl {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            id,
            sources,
            adapters,
            named_adapters,
            dtype,
            device,
            max_tokens,
            span: _,
        } = self;
        *id == other.id
            && *sources == other.sources
            && *adapters == other.adapters
            && *named_adapters == other.named_adapters
            && *dtype == other.dtype
            && *device == other.device
            && *max_tokens == other.max_tokens
    }
}

impl ModelDecl {
    /// Whether requests can choose adapters over it.
    pub fn takes_adapters(&self) -> bool {
        self.adapters.is_some() || !self.named_adapters.is_empty()
    }

    pub(super) fn read(f: &mut Fields) -> Self {
        let model = Self::fields(f);
        f.exactly_one(&[&["source"]]);
        let device = &model.device;
        let gpu = device.strip_prefix("cuda:");
        if device.value != "cpu" && gpu.is_none_or(|number| number.parse::<u32>().is_err()) {
            f.report(|| {
                let message = format!("\"{}\" is not a device", shorten(device));
                Diagnostic::error(codes::UNKNOWN_VALUE, message, device.span)
                    .help("write \"cpu\", or \"cuda:0\" for the first GPU")
            });
        }
        if gpu.is_some() && model.dtype.value == "int8" {
            f.report(|| {
                let message = "`dtype=int8` is for models on the processor";
                Diagnostic::error(codes::CONFLICTING_OPTIONS, message, model.dtype.span)
                    .help("leave `dtype` out where `device` is a GPU")
            });
        }
        model
    }
}

impl AdapterSet {
    /// How a folder in an object store begins.
    const STORES: [&str; 3] = ["s3:", "gs:", "az:"];
    /// How a source begins that is no folder of others.
    const SINGLE: [&str; 5] = ["file:", "hf:", "pip:", "http:", "https:"];

    /// Whether the folder is in an object store.
    pub fn is_remote(&self) -> bool {
        let path = self.path.as_ref().map_or("", Text::expose);
        Self::STORES.iter().any(|scheme| path.starts_with(scheme))
    }

    fn read(f: &mut Fields) -> Self {
        let (set, place) = (Self::fields(f), f.whole());
        let path = set.path.as_ref().map_or("", Text::expose);
        let mut single = Self::SINGLE.iter();
        if let Some(uri) = set.path.as_ref().filter(|_| set.is_remote()) {
            check_place(uri, place, f);
        } else if single.any(|scheme| path.starts_with(scheme)) {
            f.report(|| {
                let message = "this source cannot be asked for a folder of adapters";
                Diagnostic::error(codes::UNKNOWN_VALUE, message, place).help(format!(
                    "write a path, or a folder that begins with {}; or declare each adapter with `adapter NAME`",
                    Self::STORES.join(", ")
                ))
            });
        }
        set
    }
}

impl AdapterDecl {
    fn read(f: &mut Fields) -> Self {
        let adapter = Self::fields(f);
        f.exactly_one(&[&["source"]]);
        adapter
    }
}

impl ModelSource {
    fn read(f: &mut Fields) -> Self {
        let source = Self::fields(f);
        // Of one that is not there the block has told already.
        if source.uri.span != f.head() {
            check_place(&source.uri, source.uri.span, f);
        }
        if let Some(digest) = &source.sha256
            && (digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            f.report(|| {
                let message = "a SHA-256 digest has 64 hexadecimal digits";
                Diagnostic::error(codes::WRONG_TYPE, message, digest.span)
                    .help("`sha256sum FILE` prints it")
            });
        }
        source
    }

    /// A source that no file declares.
    pub fn of(uri: impl Into<String>) -> Self {
        Self {
            uri: Spanned::new(Text::plain(uri), Span::default()),
            sha256: None,
        }
    }
}

/// Reports a text that says of no place how files are had from there.
fn check_place(uri: &Text, span: Span, f: &mut Fields) {
    if let Err(reason) = Place::parse(uri.expose()) {
        f.report(|| {
            // Without the text, which may have a password in it.
            let message = "this is not a source of models";
            Diagnostic::error(codes::UNKNOWN_VALUE, message, span).help(reason.to_string())
        });
    }
}
