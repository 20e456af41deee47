//! The codes of all diagnostics, those of the crate `graphs` included: one place, so that
//! `docs/diagnostics.md` can be complete. They are stable and fit for scripts.

/// Declares codes, and a list of them with what each stands for.
macro_rules! codes {
    ($(#[doc = $about:literal])+ $list:ident: $(#[doc = $meaning:literal] $name:ident = $code:literal;)+) => {
        $(#[doc = $meaning] pub const $name: &str = $code;)+

        $(#[doc = $about])+
        pub const $list: &[(&str, &str)] = &[$(($code, $meaning)),+];
    };
}

codes! {
    /// The codes that [`parse`](fn@crate::parse) and [`Document::join`](crate::Document::join) give.
    READ:
    /// The text is not KDL v2.
    SYNTAX_ERROR = "syntax-error";
    /// The file is longer than 1 MiB.
    TOO_LARGE = "too-large";
    /// Blocks are nested more than 64 deep.
    TOO_DEEP = "too-deep";
    /// There are more problems than are shown.
    TOO_MANY_PROBLEMS = "too-many-problems";
    /// A word that its block does not know.
    UNKNOWN_OPTION = "unknown-option";
    /// An option that is written once is written again.
    REPEATED_OPTION = "repeated-option";
    /// Something without which a block means nothing is not there.
    MISSING_OPTION = "missing-option";
    /// Options that exclude each other.
    CONFLICTING_OPTIONS = "conflicting-options";
    /// A value of another type than its option has.
    WRONG_TYPE = "wrong-type";
    /// A duration, size, share or percentile whose unit is missing or unknown.
    WRONG_UNIT = "wrong-unit";
    /// A number that is too small or too large.
    OUT_OF_RANGE = "out-of-range";
    /// A text that is none of those that can be written here.
    UNKNOWN_VALUE = "unknown-value";
    /// More values than belong here, or a block where a value belongs.
    UNEXPECTED_VALUE = "unexpected-value";
    /// An annotation that is not `(env)`, or stands where nothing is read from the environment.
    UNKNOWN_ANNOTATION = "unknown-annotation";
    /// An environment variable that is not set.
    MISSING_VARIABLE = "missing-variable";
    /// A template where the value is read once, when the file is loaded.
    TEMPLATE_NOT_ALLOWED = "template-not-allowed";
    /// A name with other characters than letters, digits, `-` and `_`, or none at its beginning.
    BAD_NAME = "bad-name";
    /// A node's name that means something else in templates.
    RESERVED_NAME = "reserved-name";
    /// A route that no request can have.
    BAD_ROUTE = "bad-route";
    /// A pool option on a node that runs within the request itself.
    NO_POOL = "no-pool";
    /// A second `server` in a file and its includes.
    SECOND_SERVER = "second-server";
}

codes! {
    /// The codes that `graphs::check` gives.
    CHECK:
    /// A name that nothing bears: a node, model, adapter, index, field, filter, test or function.
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
    /// A node that nothing reads; a warning.
    UNUSED_NODE = "unused-node";
    /// A part of a node or graph that has to be there, or one too many.
    MISSING_ARGUMENT = "missing-argument";
    /// A fallback that is read as if it always ran.
    FALLBACK_READ = "fallback-read";
    /// A batch that is larger than what a replica may hold.
    BATCH_SIZE = "batch-size";
    /// A node that may take longer than its whole graph.
    NESTED_TIMEOUT = "nested-timeout";
    /// More than the machine has.
    RESOURCES = "resources";
}

codes! {
    /// The codes that `engine` gives when it reads a file or is about to run it.
    LOAD:
    /// A file or an include that cannot be read.
    UNREADABLE_FILE = "unreadable-file";
    /// A file that includes itself, directly or through others.
    INCLUDE_CYCLE = "include-cycle";
    /// A file to be run that has no graph.
    NO_GRAPH = "no-graph";
    /// An option whose behaviour is not built yet.
    NOT_BUILT_YET = "not-built-yet";
    /// A model without a source in the lock, or a source in the lock that nothing names.
    LOCK_OUTDATED = "lock-outdated";
    /// A source that is not what the lock says.
    LOCK_MISMATCH = "lock-mismatch";
    /// A line of a load trace that `engine simulate` cannot use.
    BAD_TRACE = "bad-trace";
}
