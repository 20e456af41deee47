//! What is done about failures, slowness and age.

use crate::{
    ByteSize, Diagnostic, Span, codes,
    decode::{Choice, Fields, Reader, Scalar, block},
    syntax::Entry,
};
use std::time::Duration;

block! {
    /// Whether and when a failed item is tried again.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Retry {
        /// Tries after the first.
        pub max: u32 = option("max").at_least(1).at_most(10).or(1),
        /// Which failures are worth another try.
        pub on: Vec<RetryOn> = option("on").many_or(vec![RetryOn::Unavailable]),
        /// Pause before the second try; doubles from there, with jitter.
        pub backoff: Duration = option("backoff").or(Duration::from_millis(50)),
    }
}

block! {
    /// When a failing node is left alone for a while (the circuit breaker of Nygard, *Release It!*).
    #[derive(Debug, Clone, PartialEq)]
    pub struct Breaker {
        /// The stretch of time that is looked at.
        pub window: Duration = option("window")
            .at_least(Duration::from_millis(1))
            .or(Duration::from_secs(10)),
        /// Share of failures at which it opens.
        pub errors: f64 = option("errors").at_least(0.01).at_most(1.0).or(0.5),
        /// Fewest items in the window for it to open.
        pub min_requests: u32 = option("min-requests").at_least(1).or(10),
        /// How long it stays open before one item is let through to try.
        pub open: Duration = option("open")
            .at_least(Duration::from_millis(1))
            .or(Duration::from_secs(5)),
    }
}

block! {
    /// When a slow item is sent a second time (Dean and Barroso, *The Tail at Scale*).
    #[derive(Debug, Clone, PartialEq)]
    pub struct Hedge {
        /// After this percentile of the usual durations; as a share, 0.95 for `p95`.
        pub percentile: f64 = then(Percentile::after),
    }
}

block! {
    /// When a replica is replaced by a fresh one; the new one stands before the old one goes.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Recycle {
        /// After this many items.
        pub requests: Option<u64> = option("requests").at_least(1).optional(),
        /// At this age.
        pub age: Option<Duration> = option("age").at_least(Duration::from_secs(1)).optional(),
        /// When its memory has grown by this much; for replicas with a process of their own.
        pub memory_growth: Option<ByteSize> = option("memory-growth").optional(),
    }
}

impl Recycle {
    pub(super) fn read(f: &mut Fields) -> Self {
        let recycle = Self::fields(f);
        if ["requests", "age", "memory-growth"]
            .iter()
            .all(|name| !f.has(name))
        {
            let head = f.head();
            f.report(|| {
                let message = "`recycle` does not say when";
                Diagnostic::error(codes::MISSING_OPTION, message, head)
                    .help("add `requests`, `age` or `memory-growth`")
            });
        }
        recycle
    }
}

/// A kind of failure that is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// The node or its service was not reachable or full.
    Unavailable,
    /// It took too long.
    Timeout,
    /// It answered with an error.
    Failed,
}

impl Choice for RetryOn {
    const CHOICES: &'static [(&'static str, Self, &'static str)] = &[
        (
            "unavailable",
            RetryOn::Unavailable,
            "not reachable, or full",
        ),
        ("timeout", RetryOn::Timeout, "took too long"),
        ("failed", RetryOn::Failed, "answered with an error"),
    ];
}

/// A share that is written as a percentile, such as `"p95"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Percentile(f64);

impl Percentile {
    fn after(f: &mut Fields) -> f64 {
        Self::named("after", f)
    }

    /// An option of this name, `p95` where it is absent.
    pub(crate) fn named(name: &'static str, f: &mut Fields) -> f64 {
        let percentile: Percentile = f.option(name).or(Percentile(0.95));
        percentile.0
    }
}

impl Scalar for Percentile {
    fn word() -> String {
        "a percentile".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        let text = String::read(entry, reader)?;
        let number = text.strip_prefix('p').and_then(|p| p.parse::<f64>().ok());
        let share = number.filter(|p| (50.0..100.0).contains(p));
        if share.is_none() {
            reader.report(|| {
                let message = format!("\"{text}\" is not a percentile from p50 to p99.9");
                Diagnostic::error(codes::WRONG_UNIT, message, entry.span)
                    .help("write one such as \"p95\"")
            });
        }
        share.map(|p| Percentile(p / 100.0))
    }

    fn show(&self) -> String {
        format!("\"p{}\"", self.0 * 100.0)
    }

    fn stand_in(_: Span) -> Self {
        Percentile(0.95)
    }
}
