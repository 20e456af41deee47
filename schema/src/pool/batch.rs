//! What waits, what runs together, and what is remembered.

use crate::{
    ByteSize, Spanned,
    decode::{Choice, Fields, block},
};
use std::time::Duration;

block! {
    /// How items are put together.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Batch {
        /// Most items in a batch.
        pub max_size: Spanned<u32> = option("max-size").at_least(1).or(32),
        /// Most tokens (or other cost that the node states) in a batch; no limit if absent.
        pub max_cost: Option<Spanned<u64>> = option("max-cost").at_least(1).optional(),
        /// How long a batch that is not full may wait for more while a replica is idle. At 0 it is
        /// formed the moment a replica is free.
        pub max_wait: Duration = option("max-wait").or(Duration::ZERO),
    }
}

block! {
    /// How long and how much is remembered of earlier results.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Cache {
        /// How long a result is good.
        pub ttl: Duration = option("ttl")
            .at_least(Duration::from_millis(1))
            .or(Duration::from_secs(60)),
        /// How much memory results take at most.
        pub max_bytes: ByteSize = option("max-bytes").at_least(ByteSize(1)).or(ByteSize(64 << 20)),
    }
}

/// How an item that finds the queue full is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// 503 Service Unavailable.
    #[default]
    Unavailable,
    /// 429 Too Many Requests.
    TooManyRequests,
}

impl Choice for WhenFull {
    const CHOICES: &'static [(&'static str, Self, &'static str)] = &[
        ("unavailable", WhenFull::Unavailable, "503"),
        ("too-many-requests", WhenFull::TooManyRequests, "429"),
    ];
}

impl Default for Batch {
    fn default() -> Self {
        Fields::defaults(Batch::fields)
    }
}
