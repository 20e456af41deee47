//! The codes of the diagnostics that the check gives, each with what it stands for. They are
//! stable, and documented with examples in `docs/diagnostics.md`.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $code;)+
        /// Every code, in the order of this file.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

codes! {
    /// A name that nothing bears: a node, model, index, field, filter, test or function.
    UNKNOWN_NAME = "unknown-name";
    /// A field that a value does not have.
    UNKNOWN_FIELD = "unknown-field";
    /// A value of another type than the one that is expected.
    TYPE_MISMATCH = "type-mismatch";
    /// A vector of another size than the index holds.
    DIMENSION_MISMATCH = "dimension-mismatch";
    /// A value that may be none where that is hardly meant.
    NONE_POSSIBLE = "none-possible";
    /// A template that does not compile.
    BAD_TEMPLATE = "bad-template";
    /// Two things of one name.
    DUPLICATE_NAME = "duplicate-name";
    /// Two graphs at one route, or a route that the engine serves itself.
    DUPLICATE_ROUTE = "duplicate-route";
    /// Nodes that wait for each other.
    CYCLE = "cycle";
    /// What never happens.
    UNREACHABLE = "unreachable";
    /// A node that nothing reads.
    UNUSED_NODE = "unused-node";
    /// A fallback that is read as if it always ran.
    FALLBACK_READ = "fallback-read";
    /// A batch that is larger than what a replica may hold.
    BATCH_SIZE = "batch-size";
    /// A node that may take longer than its whole graph.
    NESTED_TIMEOUT = "nested-timeout";
    /// More than the machine has.
    RESOURCES = "resources";
}
