//! Tokens that are found in a text as a whole, before it is cut into pieces.

use std::{collections::HashMap, ops::Range};

/// Finds the leftmost, and there the longest, of a set of texts.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    ids: HashMap<Box<str>, u32>,
    /// By a token's first byte: how long such tokens are, longest first.
    lengths: HashMap<u8, Vec<usize>>,
}

impl SpecialTokens {
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let ids: HashMap<Box<str>, u32> = tokens
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, id)| (text.into(), id))
            .collect();
        let mut lengths: HashMap<u8, Vec<usize>> = HashMap::new();
        for text in ids.keys() {
            lengths
                .entry(text.as_bytes()[0])
                .or_default()
                .push(text.len());
        }
        for lengths in lengths.values_mut() {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        Self { ids, lengths }
    }

    /// Where the tokens stand, from left to right.
    pub(super) fn find(&self, text: &str) -> impl Iterator<Item = (Range<usize>, u32)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let found = (from..text.len()).find_map(|start| self.at(text, start));
            from = found.as_ref().map_or(text.len(), |(place, _)| place.end);
            found
        })
    }

    fn at(&self, text: &str, start: usize) -> Option<(Range<usize>, u32)> {
        let lengths = self.lengths.get(&text.as_bytes()[start])?;
        lengths.iter().find_map(|length| {
            let place = start..start + length;
            let id = self.ids.get(text.get(place.clone())?)?;
            Some((place, *id))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_the_leftmost_wins() {
        let tokens = [("<a>", 1), ("<a>b", 2), ("\n", 3), ("\n\n", 4), ("é", 5)];
        let special = SpecialTokens::new(tokens.into_iter());
        let cases: [(&str, &[u32]); 7] = [
            ("", &[]),
            ("plain", &[]),
            ("x<a>y<a>b", &[1, 2]),
            ("\n\n\n", &[4, 3]),
            ("<a<a>", &[1]),
            ("è é", &[5]),
            ("<a", &[]),
        ];
        for (text, expected) in cases {
            let found: Vec<u32> = special.find(text).map(|(_, id)| id).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
