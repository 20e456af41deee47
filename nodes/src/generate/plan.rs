//! How many rows each sequence sends into the next step.

/// Rows of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepRows {
    /// Most rows in a step in which nobody waits for a next token.
    pub(super) alone: usize,
    /// Most rows of prompts in a step beside sequences that are decoding, which wait as long as it
    /// takes.
    pub(super) beside_decoding: usize,
}

/// One row for each sequence that is decoding, and what is left for prompts in their order.
///
/// `unread` holds for each sequence how many tokens it could send, and whether it is decoding.
pub(super) fn plan(unread: &[(usize, bool)], rows: StepRows) -> Vec<usize> {
    let decoding = unread.iter().filter(|(_, decoding)| *decoding).count();
    let mut left = match decoding {
        0 => rows.alone,
        _ => rows.beside_decoding,
    };
    let send = |&(unread, decoding): &(usize, bool)| {
        if decoding {
            return 1;
        }
        let sent = unread.min(left);
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
        let cases = [
            (vec![], vec![]),
            (vec![prompt(20)], vec![20]),
            (vec![prompt(250)], vec![100]),
            (vec![prompt(60), prompt(60), prompt(5)], vec![60, 40, 0]),
            (vec![DECODING, prompt(60), DECODING], vec![1, 30, 1]),
            (vec![DECODING, prompt(20), prompt(20)], vec![1, 20, 10]),
        ];
        for (unread, expected) in cases {
            assert_eq!(plan(&unread, rows), expected, "{unread:?}");
        }
    }
}
