//! One decision: from what a pool carries now to the number of replicas it should have.

use super::{ray, steady};
use schema::{Replicas, ScalePolicy};
use std::time::Duration;

/// What a pool carries at the moment of a decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Replicas that can work.
    pub running: u32,
    /// Replicas that the last decision asked for.
    pub target: u32,
    /// Items waiting and running, averaged over `look-back`.
    pub total: f64,
}

/// What a policy remembers between decisions.
#[derive(Debug, Clone)]
pub enum ScaleMemory {
    /// Of [`ScalePolicy::Steady`].
    Steady(steady::Window),
    /// Of [`ScalePolicy::Ray`].
    Ray(ray::Streak),
}

impl ScaleMemory {
    /// Nothing seen yet.
    pub fn new(policy: ScalePolicy) -> Self {
        match policy {
            ScalePolicy::Steady => ScaleMemory::Steady(steady::Window::default()),
            ScalePolicy::Ray => ScaleMemory::Ray(ray::Streak::default()),
        }
    }
}

/// Decides how many replicas there should be. `now` counts from any fixed moment.
///
/// A memory of another policy, as after a reload that changed it, is taken as none.
pub fn decide(
    spec: &Replicas,
    memory: ScaleMemory,
    load: Load,
    now: Duration,
) -> (u32, ScaleMemory) {
    match (spec.policy, memory) {
        (ScalePolicy::Steady, ScaleMemory::Steady(mut window)) => {
            let target = steady::decide(spec, &mut window, load, now);
            (target, ScaleMemory::Steady(window))
        }
        (ScalePolicy::Ray, ScaleMemory::Ray(mut streak)) => {
            let target = ray::decide(spec, &mut streak, load, now.as_secs_f64());
            (target, ScaleMemory::Ray(streak))
        }
        (policy, _) => decide(spec, ScaleMemory::new(policy), load, now),
    }
}

/// A wish held to `min` and `max`.
pub(super) fn bounded(spec: &Replicas, wish: u32) -> u32 {
    let max = spec.max.value.max(spec.min.value);
    wish.clamp(spec.min.value, max)
}
