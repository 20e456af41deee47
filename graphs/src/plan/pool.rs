//! What is different about a pool.

use super::change::Changes;
use schema::{Batch, PoolSpec, Replicas, Resources};

/// How a pool is different.
#[derive(Debug, Default)]
pub(super) struct PoolChanges {
    /// What a replica is built with: others have to be built.
    pub(super) replicas: Changes,
    /// What the pool does with the replicas that it has.
    pub(super) limits: Changes,
    /// What requests look up for themselves.
    pub(super) answers: Changes,
}

pub(super) fn compare(before: &PoolSpec, after: &PoolSpec) -> PoolChanges {
    let PoolSpec {
        resources,
        batch,
        replicas,
        max_ongoing_requests,
        max_queued_requests,
        when_full,
        timeout,
        retry,
        breaker,
        hedge,
        cache,
        health_check_period,
        graceful_shutdown_timeout,
        recycle,
    } = before;
    let mut found = PoolChanges::default();
    of_resources(resources, &after.resources, &mut found.replicas);
    found
        .answers
        .values("when-full", when_full, &after.when_full);
    // Replicas note at their start what they are worn by.
    found
        .replicas
        .optional("recycle", recycle.as_ref(), after.recycle.as_ref());
    let limits = &mut found.limits;
    of_batch(batch.as_ref(), after.batch.as_ref(), limits);
    of_replicas(replicas, &after.replicas, limits);
    limits.values(
        "max-ongoing-requests",
        max_ongoing_requests,
        &after.max_ongoing_requests,
    );
    limits.values(
        "max-queued-requests",
        max_queued_requests,
        &after.max_queued_requests,
    );
    limits.values("timeout", timeout, &after.timeout);
    limits.optional("retry", retry.as_ref(), after.retry.as_ref());
    limits.optional("breaker", breaker.as_ref(), after.breaker.as_ref());
    limits.optional("hedge", hedge.as_ref(), after.hedge.as_ref());
    limits.optional("cache", cache.as_ref(), after.cache.as_ref());
    limits.values(
        "health-check-period",
        health_check_period,
        &after.health_check_period,
    );
    limits.values(
        "graceful-shutdown-timeout",
        graceful_shutdown_timeout,
        &after.graceful_shutdown_timeout,
    );
    found
}

fn of_resources(before: &Resources, after: &Resources, changes: &mut Changes) {
    let Resources { cpu, gpu, memory } = before;
    changes.values("resources cpu", cpu, &after.cpu);
    changes.values("resources gpu", gpu, &after.gpu);
    changes.values("resources memory", memory, &after.memory);
}

fn of_batch(before: Option<&Batch>, after: Option<&Batch>, changes: &mut Changes) {
    let default = Batch::default();
    let Batch {
        max_size,
        max_cost,
        max_wait,
    } = before.unwrap_or(&default);
    let after = after.unwrap_or(&default);
    changes.values("batch max-size", max_size, &after.max_size);
    changes.values("batch max-cost", max_cost, &after.max_cost);
    changes.values("batch max-wait", max_wait, &after.max_wait);
}

fn of_replicas(before: &Replicas, after: &Replicas, changes: &mut Changes) {
    let Replicas {
        min,
        max,
        initial,
        policy,
        target_ongoing_requests,
        upscale_delay,
        downscale_delay,
        downscale_to_zero_delay,
        upscaling_factor,
        downscaling_factor,
        look_back,
    } = before;
    changes.values("replicas min", min, &after.min);
    changes.values("replicas max", max, &after.max);
    changes.values("replicas initial", initial, &after.initial);
    changes.values("replicas policy", policy, &after.policy);
    changes.values(
        "target-ongoing-requests",
        target_ongoing_requests,
        &after.target_ongoing_requests,
    );
    changes.values("upscale-delay", upscale_delay, &after.upscale_delay);
    changes.values("downscale-delay", downscale_delay, &after.downscale_delay);
    changes.values(
        "downscale-to-zero-delay",
        downscale_to_zero_delay,
        &after.downscale_to_zero_delay,
    );
    changes.values(
        "upscaling-factor",
        upscaling_factor,
        &after.upscaling_factor,
    );
    changes.values(
        "downscaling-factor",
        downscaling_factor,
        &after.downscaling_factor,
    );
    changes.values("look-back", look_back, &after.look_back);
}
