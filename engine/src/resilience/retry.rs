//! Whether a failed item is tried again, and when. Pure: time and chance are arguments.

use nodes::NodeError;
use schema::{Retry, RetryOn};
use std::time::Duration;

/// The pause before the next try, or `None` if there is none: `tries` have been made, the last
/// ended with `error`, and `chance` is between 0 and 1.
///
/// Pauses double from `backoff`, each spread evenly over 0 to its full length ("full jitter",
/// Brooker 2015), so that items that failed together do not come back together. A node that said
/// when it has room again is believed.
pub fn pause(spec: &Retry, tries: u32, error: &NodeError, chance: f64) -> Option<Duration> {
    if tries > spec.max || !spec.on.contains(&class(error)?) {
        return None;
    }
    let doubled = spec.backoff.saturating_mul(1 << (tries - 1).min(16));
    let jittered = doubled.mul_f64(chance.clamp(0.0, 1.0));
    Some(match error {
        NodeError::Full { retry_after }
        | NodeError::Unavailable {
            retry_after: Some(retry_after),
            ..
        } => jittered.max(*retry_after),
        _ => jittered,
    })
}

/// The class of an error that `on` can name; `None` for those where the item is at fault.
fn class(error: &NodeError) -> Option<RetryOn> {
    match error {
        NodeError::Invalid { .. } | NodeError::NotFound { .. } => None,
        NodeError::Full { .. } | NodeError::Unavailable { .. } => Some(RetryOn::Unavailable),
        NodeError::Timeout { .. } => Some(RetryOn::Timeout),
        NodeError::Failed { .. } | NodeError::Lost { .. } => Some(RetryOn::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Retry {
        Retry {
            max: 3,
            on: vec![RetryOn::Unavailable],
            backoff: Duration::from_millis(100),
        }
    }

    fn unavailable() -> NodeError {
        NodeError::unavailable("refused")
    }

    #[test]
    fn pauses_double_up_to_the_last_try() {
        let pauses: Vec<_> = (1..=4)
            .map(|tries| pause(&spec(), tries, &unavailable(), 1.0).map(|pause| pause.as_millis()))
            .collect();
        assert_eq!(pauses, [Some(100), Some(200), Some(400), None]);
    }

    #[test]
    fn only_the_named_failures_are_tried_again() {
        assert_eq!(pause(&spec(), 1, &NodeError::failed("no"), 1.0), None);
        assert_eq!(pause(&spec(), 1, &NodeError::invalid("no"), 1.0), None);
        let every = Retry {
            on: vec![RetryOn::Unavailable, RetryOn::Timeout, RetryOn::Failed],
            ..spec()
        };
        assert!(pause(&every, 1, &NodeError::failed("no"), 1.0).is_some());
        assert_eq!(pause(&every, 1, &NodeError::invalid("no"), 1.0), None);
    }

    #[test]
    fn chance_spreads_and_a_full_node_is_believed() {
        assert_eq!(pause(&spec(), 1, &unavailable(), 0.0), Some(Duration::ZERO));
        let full = NodeError::Full {
            retry_after: Duration::from_secs(2),
        };
        assert_eq!(pause(&spec(), 1, &full, 0.5), Some(Duration::from_secs(2)));
    }
}
