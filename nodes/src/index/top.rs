//! The best of a stream of scored keys.

/// How many keys with the score of the last place are kept for a caller who orders ties himself.
const TIES: usize = 1024;

/// Keeps the keys with the best scores, and those that tie with the last of them.
///
/// Callers order ties by document id, which is dear to look up; so ties survive here and are decided
/// among the few that are left. More than [`TIES`] of them at the last place are cut by key.
#[derive(Debug)]
pub(super) struct Top<K> {
    keep: usize,
    threshold: f32,
    kept: Vec<(f32, K)>,
}

impl<K: Ord + Copy> Top<K> {
    /// Keeps the best `keep`, at least one.
    pub(super) fn new(keep: usize) -> Self {
        Self {
            keep: keep.max(1),
            threshold: f32::NEG_INFINITY,
            kept: Vec::new(),
        }
    }

    /// Scores below this are of no use any more.
    pub(super) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Takes a key into account. Scores are never NaN: vectors and their products are finite.
    #[inline]
    pub(super) fn push(&mut self, score: f32, key: K) {
        if score < self.threshold {
            return;
        }
        self.kept.push((score, key));
        if self.kept.len() >= 2 * (self.keep + TIES) {
            self.shrink();
        }
    }

    /// The best, in descending order of score and ascending order of key, with the ties of the last.
    pub(super) fn into_vec(mut self) -> Vec<(f32, K)> {
        self.shrink();
        self.kept.sort_unstable_by(better);
        self.kept
    }

    fn shrink(&mut self) {
        if self.kept.len() <= self.keep {
            return;
        }
        let (_, last, _) = self.kept.select_nth_unstable_by(self.keep - 1, better);
        self.threshold = last.0;
        let threshold = self.threshold;
        self.kept.retain(|(score, _)| *score >= threshold);
        let most = self.keep + TIES;
        if self.kept.len() > most {
            self.kept.select_nth_unstable_by(most - 1, better);
            self.kept.truncate(most);
        }
    }
}

fn better<K: Ord>(one: &(f32, K), other: &(f32, K)) -> std::cmp::Ordering {
    other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_sorting_everything(scores in prop::collection::vec(0u8..40, 0..6000), keep in 1usize..50) {
            let mut top = Top::new(keep);
            let mut all = Vec::new();
            for (key, score) in scores.into_iter().enumerate() {
                top.push(f32::from(score), key);
                all.push((f32::from(score), key));
            }
            all.sort_by(better);
            let last = all.get(keep - 1).map_or(f32::NEG_INFINITY, |last| last.0);
            all.retain(|(score, _)| *score >= last);
            all.truncate(keep + TIES);
            prop_assert_eq!(top.into_vec(), all);
        }
    }
}
