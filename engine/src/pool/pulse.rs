//! Whether a replica is well, by the signs of life that it gives. Pure: time is an argument.
//!
//! An answered batch is a sign of life, and so is an answer to the question how it is. What a
//! stream's maker does after the stream has begun is not seen here.

use std::time::Duration;

/// How long a replica that is in doubt has to say how it is, where the file gives no period.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a replica was given and what was heard of it.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    /// The last sign of life.
    heard: Duration,
    /// Since when it holds items without a sign of life.
    silent: Option<Duration>,
    /// Whether all callers of a run have left since the last sign of life: it may be stuck.
    doubtful: bool,
    /// Since when an answer to the question how it is is awaited.
    asked: Option<Duration>,
}

/// What is to be done about a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Well,
    /// It is to be asked how it is.
    Ask,
    /// It is to be given up: nothing was heard of it for so long.
    Lost(Duration),
}

impl Pulse {
    /// Of a replica that was built a moment ago.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            heard: now,
            silent: None,
            doubtful: false,
            asked: None,
        }
    }

    /// It is given items.
    pub(super) fn begin(&mut self, now: Duration) {
        self.silent.get_or_insert(now);
    }

    /// A run was answered, or the question.
    pub(super) fn hear(&mut self, now: Duration) {
        self.heard = now;
        self.silent = self.silent.map(|_| now);
        self.doubtful = false;
        self.asked = None;
    }

    /// All callers of a run have left before it was answered.
    pub(super) fn abandon(&mut self) {
        self.doubtful = true;
    }

    /// It has nothing more to run.
    pub(super) fn rest(&mut self) {
        self.silent = None;
    }

    /// The question has been put.
    pub(super) fn ask(&mut self, now: Duration) {
        self.asked = Some(now);
    }

    /// Whether it may be stuck.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// What is to be done now, with the file's `health-check-period`.
    pub(super) fn verdict(&self, now: Duration, period: Option<Duration>) -> Verdict {
        let since = |then: Duration| now.saturating_sub(then);
        if let Some(asked) = self.asked {
            let waited = since(asked);
            return match waited >= period.unwrap_or(PATIENCE) {
                true => Verdict::Lost(since(self.heard)),
                false => self.silence(now, period),
            };
        }
        let idle = self.silent.is_none();
        if self.doubtful || (idle && period.is_some_and(|period| since(self.heard) >= period)) {
            return Verdict::Ask;
        }
        self.silence(now, period)
    }

    /// Without a period, nothing is said about how long a batch may take.
    fn silence(&self, now: Duration, period: Option<Duration>) -> Verdict {
        let (Some(silent), Some(period)) = (self.silent, period) else {
            return Verdict::Well;
        };
        let silent = now.saturating_sub(silent);
        match silent >= period {
            true => Verdict::Lost(silent),
            false => Verdict::Well,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PERIOD: Option<Duration> = Some(Duration::from_secs(5));

    #[test]
    fn who_runs_something_and_is_silent_for_a_period_is_lost() {
        let mut pulse = Pulse::new(Duration::ZERO);
        pulse.begin(SECOND * 10);
        assert_eq!(pulse.verdict(SECOND * 14, PERIOD), Verdict::Well);
        let lost = Verdict::Lost(SECOND * 5);
        assert_eq!(pulse.verdict(SECOND * 15, PERIOD), lost);
        assert_eq!(pulse.verdict(SECOND * 999, None), Verdict::Well);
        // An answer is a sign of life, and what it still runs is waited for anew.
        pulse.hear(SECOND * 15);
        pulse.begin(SECOND * 17);
        assert_eq!(pulse.verdict(SECOND * 19, PERIOD), Verdict::Well);
        assert_eq!(pulse.verdict(SECOND * 20, PERIOD), lost);
        pulse.rest();
        assert_eq!(pulse.verdict(SECOND * 19, PERIOD), Verdict::Well);
    }

    #[test]
    fn who_is_idle_is_asked_each_period_and_lost_without_an_answer() {
        let mut pulse = Pulse::new(Duration::ZERO);
        assert_eq!(pulse.verdict(SECOND * 4, PERIOD), Verdict::Well);
        assert_eq!(pulse.verdict(SECOND * 5, PERIOD), Verdict::Ask);
        assert_eq!(pulse.verdict(SECOND * 999, None), Verdict::Well);
        pulse.ask(SECOND * 5);
        assert_eq!(pulse.verdict(SECOND * 9, PERIOD), Verdict::Well);
        let lost = Verdict::Lost(SECOND * 10);
        assert_eq!(pulse.verdict(SECOND * 10, PERIOD), lost);
        pulse.hear(SECOND * 9);
        assert_eq!(pulse.verdict(SECOND * 10, PERIOD), Verdict::Well);
    }

    #[test]
    fn who_was_left_by_all_is_asked_and_has_half_a_minute() {
        let mut pulse = Pulse::new(Duration::ZERO);
        pulse.begin(SECOND);
        pulse.abandon();
        assert_eq!(pulse.verdict(SECOND * 2, None), Verdict::Ask);
        pulse.rest();
        assert_eq!(pulse.verdict(SECOND * 2, None), Verdict::Ask);
        pulse.ask(SECOND * 2);
        pulse.begin(SECOND * 3);
        assert_eq!(pulse.verdict(SECOND * 31, None), Verdict::Well);
        let lost = Verdict::Lost(SECOND * 32);
        assert_eq!(pulse.verdict(SECOND * 32, None), lost);
        pulse.hear(SECOND * 4);
        assert_eq!(pulse.verdict(SECOND * 999, None), Verdict::Well);
    }
}
