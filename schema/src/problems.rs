//! The list that every step of reading a file adds its problems to.

use crate::{Diagnostic, Span, codes};
use std::collections::HashSet;

/// Problems in the order in which they were found.
///
/// The list is bounded, so that a hostile file costs no more than a long one: what comes after
/// [`Problems::MOST`] is counted and not made.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Diagnostic>,
    dropped: usize,
}

impl Problems {
    /// As many as anybody reads.
    const MOST: usize = 200;

    /// Adds a problem; `make` is not called once the list is full.
    pub(crate) fn report(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.list.len() < Self::MOST {
            self.list.push(make());
        } else {
            self.dropped += 1;
        }
    }

    /// Forgets what was found within a place, of which one problem says all.
    pub(crate) fn forget(&mut self, whole: Span) {
        let is_within = |problem: &Diagnostic| problem.place().is_some_and(|at| whole.holds(at));
        self.list.retain(|problem| !is_within(problem));
    }

    /// The problems, ordered by place, with a last one that says how many are not among them.
    ///
    /// Where the syntax is broken, nothing is said of what is around it or within, and nothing twice.
    pub(crate) fn into_list(mut self) -> Vec<Diagnostic> {
        let mut broken: HashSet<Span> = HashSet::new();
        let mut is_new = |problem: &Diagnostic| problem.place().is_none_or(|at| broken.insert(at));
        (self.list).retain(|problem| problem.code != codes::SYNTAX_ERROR || is_new(problem));
        let is_broken =
            |place: Span| (broken.iter()).any(|broken| broken.holds(place) || place.holds(*broken));
        self.list.retain(|problem| {
            problem.code == codes::SYNTAX_ERROR || !problem.place().is_some_and(is_broken)
        });
        self.list
            .sort_by_key(|problem| problem.place().map(|span| span.start));
        let last = self.list.last().and_then(|last| last.labels.first());
        if let (Some(place), true) = (last.map(|label| label.span), self.dropped > 0) {
            let further = format!("{} further problems are not shown", self.dropped);
            self.list.push(
                Diagnostic::error(codes::TOO_MANY_PROBLEMS, further, place)
                    .help("repair those above and check again"),
            );
        }
        self.list
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
