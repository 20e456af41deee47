//! `merge`: the first result that is there.

use crate::{Name, Spanned, decode::block};

block! {
    /// Yields the result of the first of several nodes that ran.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Merge {
        /// The nodes, in order of preference.
        pub from: Vec<Spanned<Name>> = option("from").many_required(),
    }
}
