//! What a step says of the tokens that may come next.

use super::batch::{select, with_floats};
use crate::ops::{Linear, Shortlist, Then};
use candle_core::{Result, Tensor};

/// Which logits are wanted after a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    /// None.
    Nothing,
    /// The largest, and all that are less by at most so much, which is not negative.
    Within(f32),
    /// All.
    All,
}

/// The logits of a row.
#[derive(Debug, Clone, Copy)]
pub enum Scores<'a> {
    /// Those of all tokens, in order.
    All(&'a [f32]),
    /// The largest and all that were wanted beside it, each with its token, in order of tokens.
    Largest(&'a [(u32, f32)]),
}

impl<'a> Scores<'a> {
    /// The token with the largest logit, the first of several, and that logit; none if it is not finite.
    #[must_use]
    pub fn likeliest(self) -> Option<(u32, f32)> {
        let (token, logit) = match self {
            Self::All(logits) => largest(logits)?,
            Self::Largest(logits) => {
                let first = |best: (u32, f32), next: (u32, f32)| match next.1 > best.1 {
                    true => next,
                    false => best,
                };
                logits.iter().copied().reduce(first)?
            }
        };
        logit.is_finite().then_some((token, logit))
    }

    /// Each token with its logit, as far as they are there.
    pub fn iter(self) -> impl Iterator<Item = (u32, f32)> + 'a {
        let (all, some) = match self {
            Self::All(logits) => (logits, &[][..]),
            Self::Largest(logits) => (&[][..], logits),
        };
        (0..).zip(all.iter().copied()).chain(some.iter().copied())
    }
}

/// The largest of many numbers, the first of several.
fn largest(logits: &[f32]) -> Option<(u32, f32)> {
    const CHUNK: usize = 64;
    // The maximum of a chunk takes vector instructions, its place does not.
    let mut best = (f32::NEG_INFINITY, 0);
    for (index, chunk) in logits.chunks(CHUNK).enumerate() {
        let largest = chunk.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        if largest > best.0 {
            best = (largest, index * CHUNK);
        }
    }
    let (largest, start) = best;
    let rest = logits.get(start..)?;
    let found = rest.iter().position(|&logit| logit == largest)?;
    Some(((start + found) as u32, largest))
}

/// The logits of several rows.
#[derive(Debug)]
pub struct Logits {
    /// A list for each row, none where all were computed.
    lists: Vec<Option<Shortlist>>,
    /// `[rows without a list, vocabulary]`
    all: Tensor,
}

impl Logits {
    /// What an output layer says of rows (`[rows, width]`), each of which wants all logits or those within a
    /// margin of its largest. A row may get more than it wants.
    pub(super) fn compute(head: &Linear, x: &Tensor, margins: &[Option<f32>]) -> Result<Self> {
        let mut lists = vec![None; margins.len()];
        if head.has_shortlists() && margins.iter().any(Option::is_some) {
            let (rows, margins): (Vec<u32>, Vec<f32>) = (0..)
                .zip(margins)
                .filter_map(|(row, margin)| Some((row, (*margin)?)))
                .unzip();
            let found = head.shortlists(&select(x, &rows)?, &margins)?;
            for (row, list) in rows.into_iter().zip(found) {
                lists[row as usize] = list;
            }
        }
        let rest: Vec<u32> = (0..)
            .zip(&lists)
            .filter_map(|(row, list)| list.is_none().then_some(row))
            .collect();
        let all = match rest.is_empty() {
            true => Tensor::zeros((0, head.out_features()), x.dtype(), x.device())?,
            false => head.forward(&select(x, &rest)?, Then::Nothing)?,
        };
        Ok(Self { lists, all })
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.lists.len()
    }

    /// The likeliest token after each row; none if the logits of one are not finite.
    ///
    /// # Errors
    /// As [`Logits::read`].
    pub fn likeliest(&self) -> Result<Option<Vec<u32>>> {
        self.read(|rows| rows.iter().map(|row| Some(row.likeliest()?.0)).collect())
    }

    /// Lets `read` see all rows.
    ///
    /// # Errors
    /// They cannot be fetched from the device.
    pub fn read<T>(&self, read: impl FnOnce(&[Scores<'_>]) -> T) -> Result<T> {
        let width = self.all.dim(1)?.max(1);
        with_floats(&self.all, |floats| {
            let mut all = floats.chunks(width);
            let rows = self.lists.iter().map(|list| match list {
                Some(list) => Scores::Largest(list),
                None => Scores::All(all.next().unwrap_or_default()),
            });
            read(&rows.collect::<Vec<_>>())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_is_the_likeliest() {
        let mut logits = vec![0.5; 200];
        for place in [190, 130, 64] {
            logits[place] = 2.0;
            assert_eq!(Scores::All(&logits).likeliest(), Some((place as u32, 2.0)));
        }
        let list: Vec<_> = Scores::All(&logits)
            .iter()
            .filter(|(_, logit)| *logit > 1.0)
            .collect();
        assert_eq!(list, [(64, 2.0), (130, 2.0), (190, 2.0)]);
        assert_eq!(Scores::Largest(&list).likeliest(), Some((64, 2.0)));
        assert!(Scores::Largest(&list).iter().eq(list.iter().copied()));
    }

    #[test]
    fn what_is_no_number_is_not_likely() {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        assert_eq!(Scores::All(&[nan, 1.0, nan]).likeliest(), Some((1, 1.0)));
        for logits in [&[][..], &[nan; 3], &[-infinite; 3], &[0.0, infinite]] {
            assert_eq!(Scores::All(logits).likeliest(), None, "{logits:?}");
            let list: Vec<_> = Scores::All(logits).iter().collect();
            assert_eq!(Scores::Largest(&list).likeliest(), None, "{logits:?}");
        }
    }
}
