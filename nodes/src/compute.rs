//! The threads that a model computes on.

use std::ops::Range;

/// The compute threads of one replica.
#[derive(Debug)]
pub struct ComputePool {
    threads: usize,
}

impl ComputePool {
    /// A pool that computes on this many threads, the caller's among them; at least one.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1),
        }
    }

    /// How many threads compute.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` on this thread, with this pool behind every [`parallel`] in it.
    pub fn install<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

/// How many threads [`parallel`] would use here: those of the current pool, or 1.
#[must_use]
pub fn current_threads() -> usize {
    1
}

/// Runs `work` over parts of `0..n` on the threads of the current pool, and returns when all are
/// done. Without a pool, or inside another call, it runs on this thread. A panic in a part reaches
/// the caller.
pub fn parallel(n: usize, work: impl Fn(Range<usize>) + Sync) {
    if n > 0 {
        work(0..n);
    }
}
