//! The problems found so far, and guesses at what an author meant.

use schema::{Diagnostic, codes};

/// As many problems as anybody reads; those after them are counted.
const MOST: usize = 200;

/// How many guesses are made for one file: a guess compares with every name there is.
const MAX_GUESSES: usize = 50;

/// How many names a guess looks at.
const MAX_CANDIDATES: usize = 500;

/// Gathers problems; nothing stops at the first.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Diagnostic>,
    unheard: bool,
    errors: usize,
    dropped: usize,
    guesses: usize,
}

impl Problems {
    /// Gathers nothing: for a look at something that is looked at again.
    pub(crate) fn unheard() -> Self {
        Self {
            unheard: true,
            ..Self::default()
        }
    }

    /// Adds a problem.
    pub(crate) fn push(&mut self, problem: Diagnostic) {
        self.errors += usize::from(problem.is_error());
        if self.is_full() {
            self.dropped += 1;
        } else {
            self.found.push(problem);
        }
    }

    /// Whether further problems are not shown, so that there is no use in describing them well.
    pub(crate) fn is_full(&self) -> bool {
        self.unheard || self.found.len() >= MOST
    }

    /// Counts an error without a description, once they are not shown.
    pub(crate) fn skip(&mut self) {
        self.errors += 1;
        self.dropped += 1;
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// The problems in the order of the file, with a last one that says how many are not among them.
    pub(crate) fn into_list(mut self) -> Vec<Diagnostic> {
        let place = |problem: &Diagnostic| problem.labels.first().map(|label| label.span);
        self.found
            .sort_by_key(|problem| place(problem).map(|span| (span.source, span.start)));
        if let (Some(last), true) = (self.found.last().and_then(place), self.dropped > 0) {
            let message = format!("{} further problems are not shown", self.dropped);
            let problem = Diagnostic::error(codes::TOO_MANY_PROBLEMS, message, last);
            self.found
                .push(problem.help("repair those above and check again"));
        }
        self.found
    }

    /// Adds a problem about `name`, with a guess at which of `candidates` was meant; where none is
    /// near, `otherwise` is the help.
    pub(crate) fn push_with_guess<'a>(
        &mut self,
        problem: Diagnostic,
        name: &str,
        candidates: impl IntoIterator<Item = &'a str>,
        otherwise: Option<String>,
    ) {
        let help = match self.guess(name, candidates) {
            Some(near) => Some(format!("did you mean \"{near}\"?")),
            None => otherwise,
        };
        self.push(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }

    fn guess<'a>(
        &mut self,
        name: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if self.guesses >= MAX_GUESSES || self.is_full() || name.len() > 64 {
            return None;
        }
        self.guesses += 1;
        nearest(name, candidates.into_iter().take(MAX_CANDIDATES))
    }
}

/// The candidate that differs least from `name`, if it differs by few letters only.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = match name.chars().count() {
        // Of names this short any other is as near.
        0..=2 => 0,
        length => (length / 3).max(1),
    };
    let spelled = name.replace('-', "_").to_lowercase();
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= allowed + 1)
        .map(|candidate| {
            let other = candidate.replace('-', "_").to_lowercase();
            (strsim::damerau_levenshtein(&spelled, &other), candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `items` as a list for a sentence: `a, b and c`; the rest of a long one is counted.
pub(crate) fn listed<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let items: Vec<&str> = items.into_iter().collect();
    if items.len() > SHOWN + 1 {
        let rest = items.len() - SHOWN;
        return format!("{} and {rest} more", items[..SHOWN].join(", "));
    }
    match items.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let names = ["question", "hits", "top_k"];
        let cases = [
            ("hit", Some("hits")),
            ("qestoin", Some("question")),
            ("top-k", Some("top_k")),
            ("answer", None),
            ("x", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, names.into_iter()), expected, "{name}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a"]), "a");
        assert_eq!(listed(["a", "b", "c"]), "a, b and c");
        let many: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        let shown = listed(many.iter().map(String::as_str));
        assert_eq!(shown, "0, 1, 2, 3, 4, 5, 6, 7 and 4 more");
    }
}
