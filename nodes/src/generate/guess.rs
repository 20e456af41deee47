//! Guessing the next tokens of a text, so that one step reads several.
//!
//! A text often repeats what stands before it: an answer cites its passages, a title its text. What
//! followed when its last tokens stood there before is read along as a guess, and kept as far as the
//! model would have made the same (Saxena 2023, *Prompt lookup decoding*; the check is that of Leviathan et
//! al. 2022, *Fast inference from transformers via speculative decoding*). The text is the same, to the
//! token, as without guesses.
//!
//! A step with guesses takes longer. Whether that is worth it depends on the processor and on the text, so
//! both are measured while texts are made: [`Pace`] knows what steps take, [`Record`] how often guesses of a
//! text are right.

use std::time::Duration;

/// Most tokens that are guessed at once: with the row that is read anyway as many as the kernels
/// multiply together, and few enough for attention to take each row as it takes one alone.
pub(super) const GUESSES: usize = 3;

/// Tokens that must have stood before in this order.
const NGRAM: usize = 2;

/// How much a new observation weighs.
const WEIGHT: f32 = 0.125;

/// How often guesses are made that do not seem worth it, because what is known of steps may be out of
/// date: one chance in so many.
const RETRY: u32 = 64;

/// What followed the last time that the text's last tokens stood in it before, and would follow if that
/// went on; so many tokens, none if they never did.
pub(super) fn guess(text: &[u32], count: usize) -> Vec<u32> {
    let Some(last) = text.last_chunk::<NGRAM>() else {
        return Vec::new();
    };
    let before = &text[..text.len() - 1];
    let Some(found) = before.windows(NGRAM).rposition(|ngram| ngram == last) else {
        return Vec::new();
    };
    let followed = &text[found + NGRAM..];
    followed.iter().cycle().take(count).copied().collect()
}

/// How often guesses of one text are right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    /// The share of single tokens; hopeful at first.
    right: f32,
}

impl Default for Record {
    fn default() -> Self {
        Self { right: 0.6 }
    }
}

impl Record {
    /// Notes whether a token that was guessed was made, whether or not the guess was read along.
    pub(super) fn note(&mut self, right: bool) {
        let right = if right { 1.0 } else { 0.0 };
        self.right += WEIGHT * (right - self.right);
    }

    /// Tokens that a step with so many guesses makes: one, and each guess if all before it are right.
    fn tokens(&self, guesses: usize) -> f32 {
        (0..=guesses as i32).map(|i| self.right.powi(i)).sum()
    }
}

/// What steps of one text alone take.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Seconds of a step without guesses.
    plain: Option<f32>,
    /// Seconds of a step with them.
    guessing: Option<f32>,
    /// How often guesses were left aside since the last.
    declined: u32,
}

impl Pace {
    /// Whether a text with this record goes on faster if so many guesses are read along.
    pub(super) fn is_worth(&mut self, guesses: usize, record: Record) -> bool {
        let worth = match (self.plain, self.guessing) {
            // A step without guesses comes first.
            (None, _) => false,
            (Some(_), None) => true,
            (Some(plain), Some(guessing)) => {
                self.declined >= RETRY || record.tokens(guesses) * plain > guessing
            }
        };
        self.declined = if worth { 0 } else { self.declined + 1 };
        worth
    }

    /// Notes what a step took.
    pub(super) fn note(&mut self, guesses: usize, took: Duration) {
        let known = match guesses {
            0 => &mut self.plain,
            _ => &mut self.guessing,
        };
        let took = took.as_secs_f32();
        *known = Some(known.map_or(took, |known| known + WEIGHT * (took - known)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_what_followed_the_last_time() {
        let cases: [(&[u32], &[u32]); 9] = [
            (&[], &[]),
            (&[1], &[]),
            (&[1, 2], &[]),
            (&[1, 2, 3], &[]),
            (&[1, 2, 3, 4, 5, 6, 1, 2], &[3, 4, 5]),
            // The later of two places.
            (&[1, 2, 7, 1, 2, 8, 9, 1, 2], &[8, 9, 1]),
            // What repeats itself goes on doing so.
            (&[5, 1, 2, 1, 2], &[1, 2, 1]),
            (&[4, 4, 4], &[4, 4, 4]),
            (&[1, 2, 3, 2, 1], &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(guess(text, 3), expected, "{text:?}");
        }
        assert_eq!(guess(&[1, 2, 3, 1, 2], 0), [0; 0]);
        assert_eq!(guess(&[1, 2, 3, 4, 1, 2], 1), [3]);
    }

    fn record(right: f32) -> Record {
        Record { right }
    }

    #[test]
    fn guesses_are_read_where_they_save_time() {
        let millis = Duration::from_millis;
        // Milliseconds of a step without and with guesses, the share that is right, and whether three
        // of them are worth it: 1 + p + p² + p³ times the one against the other.
        let cases = [
            (Some(10), Some(18), 0.60, true),
            (Some(10), Some(18), 0.45, false),
            (Some(10), Some(12), 0.20, true),
            (Some(10), Some(12), 0.10, false),
            (Some(10), Some(41), 1.00, false),
            (Some(10), Some(39), 1.00, true),
            (Some(10), None, 0.0, true),
            (None, Some(10), 1.0, false),
            (None, None, 1.0, false),
        ];
        for (plain, guessing, right, expected) in cases {
            let mut pace = Pace::default();
            for (guesses, took) in [(0, plain), (GUESSES, guessing)] {
                if let Some(took) = took {
                    pace.note(guesses, millis(took));
                }
            }
            let worth = pace.is_worth(GUESSES, record(right));
            assert_eq!(worth, expected, "{plain:?} {guessing:?} {right}");
        }
    }

    #[test]
    fn what_does_not_pay_is_tried_again_now_and_then() {
        let mut pace = Pace::default();
        pace.note(0, Duration::from_millis(10));
        pace.note(GUESSES, Duration::from_millis(30));
        let tries = (0..10 * RETRY).filter(|_| pace.is_worth(GUESSES, record(0.1)));
        assert_eq!(tries.count(), 9);
    }

    #[test]
    fn records_follow_what_happens() {
        let mut record = Record::default();
        let first = record.tokens(GUESSES);
        (0..30).for_each(|_| record.note(false));
        assert!(record.tokens(GUESSES) < 1.05 && first > 2.0);
        (0..30).for_each(|_| record.note(true));
        assert!(record.tokens(GUESSES) > 3.5);
    }
}
