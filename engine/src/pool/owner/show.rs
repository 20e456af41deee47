//! What the owner shows of the pool to others.

use super::{Census, Owner, Room};
use std::sync::atomic::Ordering::Relaxed;

impl Owner {
    /// Shows what there is.
    pub(super) fn publish(&self) {
        let unhealthy = self.staff.unhealthy().is_some();
        self.counts.unhealthy.store(unhealthy, Relaxed);
        self.gate.set(Room {
            // Where none works yet, there is to be one.
            slots: self.staff.census().working.max(1) * self.limits.ongoing,
            queued: self.limits.queued,
            service: self.service.expected(),
            open: unhealthy,
        });
        let (desired, target) = (self.desired, self.staff.wanted());
        self.show(
            (self.waiting(), self.staff.ongoing()),
            self.staff.census(),
            (desired, target),
        );
    }

    /// The gauges are shared with the pools of other generations, so they are moved by the
    /// difference.
    pub(super) fn show(
        &self,
        (queued, ongoing): (usize, usize),
        census: Census,
        (desired, target): (usize, usize),
    ) {
        let (counts, metrics) = (&self.counts, &self.metrics);
        for (count, gauge, value) in [
            (&counts.queued, &metrics.queued, queued),
            (&counts.ongoing, &metrics.ongoing, ongoing),
            (&counts.replicas, &metrics.replicas, census.working),
            (
                &counts.starting,
                &metrics.replicas_starting,
                census.starting,
            ),
            (&counts.leaving, &metrics.replicas_leaving, census.leaving),
            (&counts.desired, &metrics.autoscale_desired, desired),
            (&counts.target, &metrics.autoscale_target, target),
        ] {
            let before = count.swap(value, Relaxed);
            gauge.inc_by(value as i64 - before as i64);
        }
    }
}
