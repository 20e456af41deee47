//! Asks at every tick how many replicas there should be. Pure: time is an argument.

use crate::scale::{Average, Load, ScaleMemory, decide};
use schema::Replicas;
use std::time::Duration;

/// What one pool's decisions need.
#[derive(Debug)]
pub(super) struct Scaler {
    spec: Replicas,
    memory: ScaleMemory,
    average: Average,
    /// What the last decision asked for, which may be more than there was room for.
    asked: usize,
}

impl Scaler {
    /// For a pool whose number of replicas may change; none for another.
    pub(super) fn new(spec: &Replicas) -> Option<Self> {
        (spec.min.value != spec.max.value).then(|| Self {
            memory: ScaleMemory::new(spec.policy),
            average: Average::new(spec.look_back),
            spec: spec.clone(),
            asked: 0,
        })
    }

    /// The same for another spec: what was seen of the load still counts, where it is averaged over
    /// as long a time.
    pub(super) fn adjusted(before: Option<Self>, spec: &Replicas) -> Option<Self> {
        let mut next = Self::new(spec)?;
        if let Some(before) = before {
            if before.spec.look_back == spec.look_back {
                next.average = before.average;
            }
            if before.spec.policy == spec.policy {
                next.memory = before.memory;
            }
        }
        Some(next)
    }

    /// How many replicas there should be, where `wanted` are wanted, `working` work, and `items`
    /// wait or run.
    pub(super) fn tick(
        &mut self,
        now: Duration,
        wanted: usize,
        working: usize,
        items: usize,
    ) -> usize {
        // A decision stands until the next one, also where the machine has no room for it: else it
        // would be made anew after each delay and forgotten in between.
        let target = self.asked.max(wanted);
        let average = self.average.see(now, items as f64);
        let load = Load {
            running: working as u32,
            target: target as u32,
            // What comes when nothing runs should not have to come for a while first.
            total: if target == 0 { items as f64 } else { average },
        };
        let memory = std::mem::replace(&mut self.memory, ScaleMemory::new(self.spec.policy));
        let (target, memory) = decide(&self.spec, memory, load, now);
        self.memory = memory;
        self.asked = target as usize;
        self.asked
    }
}
