//! Joining two rankings into one.

use std::{collections::HashMap, hash::Hash};

/// The constant of reciprocal rank fusion, as its authors chose it.
pub(crate) const K: f64 = 60.0;

/// How deep each side of a hybrid search looks, for `top_k` wanted: a document that is far down on
/// one side may come first when it is well placed on the other.
pub(crate) fn depth(top_k: usize) -> usize {
    (4 * top_k).max(100)
}

/// Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009): each key scores the sum of
/// 1 / (60 + rank) over the rankings that hold it, ranks counted from one. Scores are not ordered.
pub(crate) fn fuse<T: Eq + Hash>(rankings: [impl IntoIterator<Item = T>; 2]) -> HashMap<T, f64> {
    let mut scores = HashMap::new();
    for ranking in rankings {
        for (place, key) in ranking.into_iter().enumerate() {
            *scores.entry(key).or_insert(0.0) += 1.0 / (K + place as f64 + 1.0);
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_paper() {
        let rank = |place: u32| 1.0 / (60.0 + f64::from(place));
        let cases = [
            ("", "", vec![]),
            ("a", "", vec![('a', rank(1))]),
            ("a", "a", vec![('a', rank(1) + rank(1))]),
            (
                "ab",
                "ba",
                vec![('a', rank(1) + rank(2)), ('b', rank(2) + rank(1))],
            ),
            (
                "abc",
                "cd",
                vec![
                    ('a', rank(1)),
                    ('b', rank(2)),
                    ('c', rank(3) + rank(1)),
                    ('d', rank(2)),
                ],
            ),
        ];
        for (one, other, expected) in cases {
            let fused = fuse([one.chars(), other.chars()]);
            assert_eq!(fused, expected.into_iter().collect(), "{one} {other}");
        }
    }
}
