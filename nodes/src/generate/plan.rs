//! How many rows each sequence sends into the next step.
//!
//! A part of a prompt ends where a block of the cache does, if that is possible. Rows of a block are
//! computed together then, however busy the thread is, which makes their numbers the same to the bit: a prompt
//! that begins with blocks that others have read is answered as if it had read them itself.

use crate::model::decoder::BLOCK;

/// Rows of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepRows {
    /// Most rows in a step in which nobody waits for a next token.
    pub(super) alone: usize,
    /// Most rows of prompts in a step beside sequences that are decoding, which wait as long as it
    /// takes.
    pub(super) beside_decoding: usize,
}

/// All that sequences which are decoding would send, a token and guesses, and what is left for prompts in
/// their order.
///
/// `unread` holds for each sequence how many tokens it could send, and whether it is decoding.
pub(super) fn plan(unread: &[(usize, bool)], rows: StepRows) -> Vec<usize> {
    let decoding = unread.iter().filter(|(_, decoding)| *decoding).count();
    let most = match decoding {
        0 => rows.alone,
        _ => rows.beside_decoding,
    };
    let mut left = most;
    let send = |&(unread, decoding): &(usize, bool)| {
        if decoding {
            return unread;
        }
        let sent = match left / BLOCK * BLOCK {
            _ if unread <= left => unread,
            // Some prompt goes on in every step.
            0 if left == most => left,
            whole => whole,
        };
        left -= sent;
        sent
    };
    unread.iter().map(send).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECODING: (usize, bool) = (1, true);

    fn prompt(tokens: usize) -> (usize, bool) {
        (tokens, false)
    }

    #[test]
    fn prompts_share_a_step_in_their_order_and_never_stop_decoding() {
        let rows = StepRows {
            alone: 100,
            beside_decoding: 30,
        };
        let few = StepRows { alone: 10, ..rows };
        let cases = [
            (vec![], vec![]),
            (vec![prompt(20)], vec![20]),
            (vec![prompt(250)], vec![96]),
            (vec![prompt(60), prompt(60), prompt(5)], vec![60, 32, 5]),
            (vec![prompt(80), prompt(60), prompt(5)], vec![80, 0, 5]),
            (vec![DECODING, prompt(60), DECODING], vec![1, 30, 1]),
            (vec![DECODING, prompt(20), prompt(20)], vec![1, 20, 0]),
        ];
        for (unread, expected) in cases {
            assert_eq!(plan(&unread, rows), expected, "{unread:?}");
        }
        assert_eq!(plan(&[prompt(20), prompt(5)], few), [10, 0]);
    }
}
