//! `merge`: the first result that is there.

use crate::{Name, Spanned};

/// Yields the result of the first of these nodes that ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// The nodes, in order of preference.
    pub from: Vec<Spanned<Name>>,
}
