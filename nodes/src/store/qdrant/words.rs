//! Texts as sparse vectors, so that a store of vectors finds words.
//!
//! A document's vector holds for each of its terms how much it says, by BM25's saturation; a query's holds
//! a one for each. The server multiplies by how rare a term is (its modifier `idf`), so that the inner
//! product is BM25 (Robertson and Zaragoza, 2009) but for one thing: the mean length of texts is a
//! constant here, because a vector must not change with other documents.

use crate::index::text::terms;
use serde::Serialize;
use std::collections::BTreeMap;

/// BM25's constants, as most search engines have them.
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// Terms of a passage as [`Build`](crate::store::Build) cuts them.
const MEAN_LENGTH: f32 = 150.0;
/// Of a query, this many different terms count, to bound the work.
const MOST_TERMS: usize = 64;

/// A sparse vector: places in ascending order, and the values there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Sparse {
    pub(super) indices: Vec<u32>,
    pub(super) values: Vec<f32>,
}

impl Sparse {
    /// The vector of a document's text.
    pub(super) fn of_document(text: &str) -> Self {
        let terms = terms(text);
        let length = terms.len() as f32 / MEAN_LENGTH;
        let mut counts: BTreeMap<u32, f32> = BTreeMap::new();
        for term in &terms {
            *counts.entry(place(term)).or_default() += 1.0;
        }
        let saturated = |count: f32| count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length));
        counts
            .into_iter()
            .map(|(place, count)| (place, saturated(count)))
            .collect()
    }

    /// The vector of a query; none if it has no words.
    pub(super) fn of_query(text: &str) -> Option<Self> {
        let mut places: Vec<u32> = Vec::new();
        for term in terms(text) {
            let place = place(&term);
            if places.len() < MOST_TERMS && !places.contains(&place) {
                places.push(place);
            }
        }
        places.sort_unstable();
        (!places.is_empty()).then(|| places.into_iter().map(|place| (place, 1.0)).collect())
    }
}

impl FromIterator<(u32, f32)> for Sparse {
    fn from_iter<T: IntoIterator<Item = (u32, f32)>>(values: T) -> Self {
        let (indices, values) = values.into_iter().unzip();
        Self { indices, values }
    }
}

/// The place of a term. Two of a million terms share one by chance, some hundred times in all.
fn place(term: &str) -> u32 {
    crc32fast::hash(term.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_of_a_word_says_more_but_less_and_less() {
        let weight = |text: &str| {
            let vector = Sparse::of_document(text);
            let place = vector.indices.iter().position(|at| *at == place("kettl"));
            vector.values[place.unwrap()]
        };
        let (one, two, three) = (
            weight("kettle"),
            weight("kettle kettles"),
            weight("Kettle, kettle: kettles!"),
        );
        assert!(one < two && two < three, "{one} {two} {three}");
        assert!(two - one > three - two, "{one} {two} {three}");
        // The same word in a longer text says less.
        assert!(weight(&format!("kettle {}", "word ".repeat(300))) < one);
    }

    #[test]
    fn queries_have_each_word_once() {
        let query = Sparse::of_query("the kettle and the kettles").unwrap();
        assert_eq!(query.values, [1.0, 1.0, 1.0]);
        assert!(query.indices.is_sorted());
        assert_eq!(Sparse::of_query("… ?!"), None);
    }
}
