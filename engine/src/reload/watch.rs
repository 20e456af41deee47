//! Did the file change? Decided from what was seen at each look; the clock and the disk are
//! elsewhere.
//!
//! What counts is content, by the path that was written: an editor that renames, truncates or
//! touches, and a symbolic link that is turned to another folder as a mounted config map is, all
//! come down to it.

use crate::content::Named;

/// Looks that a file must be gone for, before that is taken for its state: editors that save by
/// renaming take it away for a moment.
const GONE: u32 = 20;

/// What one look found at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing that can be read, or an empty file.
    Missing,
    /// A file whose content has this digest.
    Content(u64),
}

/// How a file is, compared with what was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is gone.
    Missing,
    /// It says the same.
    Unchanged,
    /// It says something else.
    Changed,
}

/// What a look leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing changed.
    Quiet,
    /// Something changed, and may still be changing.
    Settling,
    /// Something changed and stands still: it is worth loading.
    Load,
}

/// The files behind what runs.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    files: Vec<(Named, Seen)>,
    last: Vec<Seen>,
    gone: u32,
}

impl Watch {
    /// Watches these files, which were loaded with the content that is stated.
    pub fn new(files: Vec<(Named, Seen)>) -> Self {
        Self {
            files,
            ..Self::default()
        }
    }

    /// Where to look, in the order in which [`Watch::decide`] is told what was there.
    pub fn files(&self) -> impl Iterator<Item = &Named> {
        self.files.iter().map(|(file, _)| file)
    }

    /// Takes in what a look found.
    pub fn decide(&mut self, look: Vec<Seen>) -> Decision {
        let states: Vec<_> = self
            .files
            .iter()
            .zip(&look)
            .map(|((_, loaded), seen)| state(*loaded, *seen))
            .collect();
        let settled = look == self.last;
        self.last = look;
        if states.iter().all(|state| *state == State::Unchanged) {
            self.gone = 0;
            return Decision::Quiet;
        }
        if states.contains(&State::Missing) {
            self.gone += 1;
            if self.gone < GONE {
                return Decision::Settling;
            }
        } else {
            self.gone = 0;
        }
        match settled {
            true => Decision::Load,
            false => Decision::Settling,
        }
    }
}

fn state(loaded: Seen, seen: Seen) -> State {
    match (loaded, seen) {
        (before, now) if before == now => State::Unchanged,
        (_, Seen::Missing) => State::Missing,
        _ => State::Changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::{Load, Quiet, Settling};

    const A: Seen = Seen::Content(1);
    const B: Seen = Seen::Content(2);
    const HALF: Seen = Seen::Content(3);
    const NONE: Seen = Seen::Missing;

    fn text(path: &str) -> Named {
        Named::text(path.into())
    }

    fn decisions(loaded: Seen, looks: &[Seen]) -> Vec<Decision> {
        let mut watch = Watch::new(vec![(text("graph.kdl"), loaded)]);
        looks.iter().map(|seen| watch.decide(vec![*seen])).collect()
    }

    #[test]
    fn a_saved_change_is_loaded_once_it_stands_still() {
        assert_eq!(decisions(A, &[A, A, B, B]), [Quiet, Quiet, Settling, Load]);
    }

    #[test]
    fn a_slow_writer_is_waited_for() {
        assert_eq!(decisions(A, &[HALF, B, B]), [Settling, Settling, Load]);
    }

    #[test]
    fn a_touched_or_restored_file_is_unchanged() {
        assert_eq!(decisions(A, &[B, A, A]), [Settling, Quiet, Quiet]);
    }

    #[test]
    fn an_editor_that_renames_leaves_a_gap() {
        assert_eq!(
            decisions(A, &[NONE, NONE, B, B])[..],
            [Settling, Settling, Settling, Load]
        );
        assert_eq!(decisions(A, &[NONE, NONE, A])[2], Quiet);
    }

    #[test]
    fn a_file_that_stays_away_is_gone() {
        let looks = decisions(A, &[NONE; GONE as usize]);
        assert_eq!(looks[GONE as usize - 2..], [Settling, Load]);
    }

    #[test]
    fn a_file_that_was_missed_is_loaded_when_it_comes() {
        assert_eq!(decisions(NONE, &[NONE, A, A]), [Quiet, Settling, Load]);
    }

    #[test]
    fn a_fixed_include_is_enough() {
        let files = vec![(text("graph.kdl"), A), (text("pools.kdl"), B)];
        let mut watch = Watch::new(files);
        assert_eq!(watch.decide(vec![A, B]), Quiet);
        assert_eq!(watch.decide(vec![A, HALF]), Settling);
        assert_eq!(watch.decide(vec![A, HALF]), Load);
    }
}
