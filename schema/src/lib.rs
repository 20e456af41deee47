//! The language: KDL text in, typed declarations with places out.
//!
//! This crate turns a source into a [`Document`] and a list of [`Diagnostic`]s, formats files, and
//! writes the language reference. It knows what can be *written*; what a file *means* (names
//! resolved, types checked) is the crate `graphs`. It knows no files, no clock and no runtime.

mod argument;
pub mod codes;
mod decode;
mod diagnostic;
mod document;
mod examples;
mod file_kind;
mod format;
pub mod kind;
mod lock;
mod node;
mod parse;
pub mod place;
mod pool;
mod problems;
mod reference;
mod scalar;
mod source;
mod syntax;
mod value_type;

pub use argument::{Argument, Literal, Template};
pub use diagnostic::{Diagnostic, Label, Severity};
pub use document::{
    AdapterDecl, AdapterSet, BlueGreen, Canary, CanaryStep, Corpus, Document, GraphDecl,
    IndexBackend, IndexDecl, InputField, MilvusIndex, ModelDecl, ModelSource, OutputField,
    PgvectorIndex, QdrantIndex, Rollout, Server, Shadow,
};
pub use file_kind::FileKind;
pub use format::format;
pub use kind::{Kind, Port, Work};
pub use lock::{Lock, LockedFile, LockedSource};
pub use node::{Each, Fallback, NodeDecl};
pub use parse::parse;
pub use pool::{
    Batch, Breaker, Cache, Hedge, PoolSpec, Recycle, Replicas, Resources, Retry, RetryOn,
    ScalePolicy, WhenFull,
};
pub use reference::reference;
pub use scalar::{ByteSize, Name, Share, Text};
pub use source::{Source, SourceId, Sources, Span, Spanned};
pub use value_type::Type;
