//! The codes of all diagnostics, those of the crate `graphs` included: one place, so that
//! `docs/diagnostics.md` can be complete.

/// The text is not KDL v2.
pub const SYNTAX_ERROR: &str = "syntax-error";
/// The file is longer than 1 MiB.
pub const TOO_LARGE: &str = "too-large";
/// Blocks are nested more than 64 deep.
pub const TOO_DEEP: &str = "too-deep";
/// More problems than are shown.
pub const TOO_MANY_PROBLEMS: &str = "too-many-problems";
/// A word that this block does not know.
pub const UNKNOWN_OPTION: &str = "unknown-option";
/// An option that can be written once is written again.
pub const REPEATED_OPTION: &str = "repeated-option";
/// An option without which a block means nothing is not there.
pub const MISSING_OPTION: &str = "missing-option";
/// Options that exclude each other.
pub const CONFLICTING_OPTIONS: &str = "conflicting-options";
/// A value of the wrong type.
pub const WRONG_TYPE: &str = "wrong-type";
/// A duration or size without a unit that is known.
pub const WRONG_UNIT: &str = "wrong-unit";
/// A number that is too small or too large.
pub const OUT_OF_RANGE: &str = "out-of-range";
/// A text that is none of those that can be written here.
pub const UNKNOWN_VALUE: &str = "unknown-value";
/// More values, or a block, than belong here.
pub const UNEXPECTED_VALUE: &str = "unexpected-value";
/// An annotation that is not `(env)`, or stands where nothing can be read from the environment.
pub const UNKNOWN_ANNOTATION: &str = "unknown-annotation";
/// An environment variable that is not set.
pub const MISSING_VARIABLE: &str = "missing-variable";
/// A template where the value is read once, when the file is loaded.
pub const TEMPLATE_NOT_ALLOWED: &str = "template-not-allowed";
/// A name with other characters than letters, digits, `-` and `_`.
pub const BAD_NAME: &str = "bad-name";
/// A node's name that means something else in templates.
pub const RESERVED_NAME: &str = "reserved-name";
/// A pool option on a node that has no pool.
pub const NO_POOL: &str = "no-pool";
/// A second `server` in a file and its includes.
pub const SECOND_SERVER: &str = "second-server";
/// A route that no request can have.
pub const BAD_ROUTE: &str = "bad-route";
