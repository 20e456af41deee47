//! Pools that go by another spec while they run, on a paused clock.

use super::*;
use graphs::Machine;
use schema::{Cache, Resources};

#[tokio::test(start_paused = true)]
async fn limits_change_and_what_waits_and_runs_goes_on() {
    let stage = stage(&spec(2, Some(1)), Running::ManyItems, echo).await;
    let asked: Vec<_> = (0..3).map(|n| stage.ask(item(n))).collect();
    settle().await;
    assert!(matches!(
        stage.pool.answer(item(9)).await,
        Err(NodeError::Full { .. })
    ));
    stage.pool.adjust(&spec(4, Some(2)));
    settle().await;
    // One of those that waited runs now, and there is room for three more.
    let status = stage.pool.status();
    assert_eq!((status.ongoing, status.queued), (2, 1));
    let more: Vec<_> = (3..6).map(|n| stage.ask(item(n))).collect();
    settle().await;
    assert_eq!(stage.pool.status().queued, 4);
    // Fewer may wait from now on; those that wait already stay.
    stage.pool.adjust(&spec(1, Some(2)));
    settle().await;
    assert_eq!(stage.pool.status().queued, 4);
    assert!(matches!(
        stage.pool.answer(item(9)).await,
        Err(NodeError::Full { .. })
    ));
    stage.gate.add_permits(6);
    for (n, asked) in asked.into_iter().chain(more).enumerate() {
        assert_eq!(asked.await.unwrap().unwrap().as_integer(), Some(n as i64));
    }
    assert_eq!(stage.pool.metrics().starts.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn batches_are_formed_by_the_new_limits() {
    let small = batched(spec(100, None), 2, None, Duration::ZERO);
    let stage = stage(&small, Running::OneBatch, echo).await;
    let asked: Vec<_> = (1..8).map(|n| stage.ask(item(n))).collect();
    settle().await;
    // Costs are asked for only where they count, so what waits is weighed anew.
    stage
        .pool
        .adjust(&batched(spec(100, None), 10, Some(9), Duration::ZERO));
    stage.gate.add_permits(10);
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(
        stage.batches(),
        [vec![1], vec![2, 3, 4], vec![5], vec![6], vec![7]]
    );
}

#[tokio::test(start_paused = true)]
async fn replicas_come_and_go_with_the_bounds() {
    let mut wanted = spec(10, Some(1));
    let stage = stage(&wanted, Running::ManyItems, echo).await;
    wanted.replicas.min = spanned(3);
    wanted.replicas.max = spanned(3);
    stage.pool.adjust(&wanted);
    settle().await;
    assert_eq!(stage.pool.status().replicas, 3);
    let asked: Vec<_> = (0..3).map(|n| stage.ask(item(n))).collect();
    settle().await;
    assert_eq!(stage.pool.status().ongoing, 3);
    wanted.replicas.min = spanned(1);
    wanted.replicas.max = spanned(1);
    stage.pool.adjust(&wanted);
    settle().await;
    // Two finish what they hold and go.
    let status = stage.pool.status();
    assert_eq!((status.replicas, status.ongoing), (1, 3));
    assert_eq!(stage.pool.metrics().replicas_leaving.get(), 2);
    stage.gate.add_permits(3);
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    settle().await;
    assert_eq!(stage.pool.metrics().replicas_leaving.get(), 0);
    assert_eq!(stage.pool.metrics().starts.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_number_begins_to_follow_the_load() {
    let stage = stage(&spec(100, Some(1)), Running::ManyItems, echo).await;
    let asked: Vec<_> = (0..8).map(|n| stage.ask(item(n))).collect();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.pool.status().replicas, 1);
    let mut wanted = spec(100, Some(1));
    wanted.replicas.max = spanned(4);
    wanted.replicas.target_ongoing_requests = 2.0;
    wanted.replicas.upscale_delay = Duration::from_secs(1);
    wanted.replicas.look_back = Duration::from_secs(1);
    stage.pool.adjust(&wanted);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(stage.pool.status().replicas, 4);
    stage.gate.add_permits(8);
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn more_replicas_come_when_the_machine_has_room() {
    let ledger = Ledger::new(Machine {
        cpus: 3.0,
        gpus: 0.0,
        memory: 1 << 30,
    });
    let build = |_| {
        Ok(Arc::new(Scripted {
            running: Running::ManyItems,
            takes: Duration::ZERO,
            gate: None,
            batches: Arc::default(),
            script: echo,
        }) as Arc<dyn Node>)
    };
    let mut wanted = spec(10, None);
    wanted.resources = Resources {
        cpu: 2.0,
        ..Resources::default()
    };
    let other = started_on(&ledger, &wanted, build).await.unwrap();
    wanted.resources.cpu = 0.5;
    let pool = started_on(&ledger, &wanted, build).await.unwrap();
    wanted.replicas.min = spanned(4);
    wanted.replicas.max = spanned(4);
    pool.adjust(&wanted);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.status().replicas, 2);
    drop(other);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.status().replicas, 4);
}

#[tokio::test(start_paused = true)]
async fn a_cache_goes_on_and_a_timeout_begins() {
    let cached = |timeout| PoolSpec {
        cache: Some(Spanned::new(
            Cache {
                ttl: Duration::from_secs(60),
                max_bytes: schema::ByteSize(1 << 20),
            },
            schema::Span::default(),
        )),
        timeout: Some(spanned(timeout)),
        ..spec(10, None)
    };
    let first = cached(Duration::from_secs(5));
    let stage = stage(&first, Running::ManyItems, echo).await;
    stage.gate.add_permits(1);
    assert!(stage.pool.answer(item(1)).await.is_ok());
    stage.pool.adjust(&cached(Duration::from_secs(1)));
    // No replica is let run: the answer is the one that is remembered.
    assert!(stage.pool.answer(item(1)).await.is_ok());
    let begun = Instant::now();
    assert!(matches!(
        stage.pool.answer(item(2)).await,
        Err(NodeError::Timeout { .. })
    ));
    assert_eq!(begun.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_is_over_has_its_time_to_finish_and_no_more() {
    let spec = PoolSpec {
        graceful_shutdown_timeout: Some(spanned(Duration::from_secs(5))),
        ..spec(10, Some(1))
    };
    let stage = stage(&spec, Running::ManyItems, echo).await;
    let first = stage.ask(item(1));
    settle().await;
    stage.pool.retire();
    settle().await;
    // A request that began before may still ask.
    let (second, stuck) = (stage.ask(item(2)), stage.ask(item(3)));
    stage.gate.add_permits(2);
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    sleep(Duration::from_secs(4)).await;
    assert!(!stuck.is_finished());
    sleep(Duration::from_secs(2)).await;
    assert!(matches!(
        stuck.await.unwrap(),
        Err(NodeError::Unavailable { .. })
    ));
    assert_eq!(stage.pool.metrics().ongoing.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_rests_has_no_replicas_and_what_comes_waits() {
    let ledger = Ledger::new(Machine {
        cpus: 1.0,
        gpus: 0.0,
        memory: 1 << 30,
    });
    let whole = PoolSpec {
        resources: Resources {
            cpu: 1.0,
            memory: Some(schema::ByteSize(1 << 30)),
            ..Resources::default()
        },
        ..spec(8, Some(1))
    };
    let stage = stage_on(&ledger, &whole, Running::ManyItems, echo).await;
    let running = stage.ask(item(1));
    settle().await;
    let pool = stage.pool.clone();
    let rested = tokio::spawn(async move { pool.rest(Duration::from_secs(60)).await });
    settle().await;
    // It waits for what runs, and nothing else is begun.
    let waiting = stage.ask(item(2));
    settle().await;
    assert!(!rested.is_finished());
    stage.gate.add_permits(1);
    running.await.unwrap().unwrap();
    rested.await.unwrap();
    let status = stage.pool.status();
    assert_eq!((status.replicas, status.target, status.queued), (0, 0, 1));
    // Its place is free.
    let place = ledger.take(&whole.resources).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.pool.status().replicas, 0);
    drop(place);
    stage.pool.wake();
    stage.gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().unwrap().as_integer(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_in_time_is_given_up_for_a_rest() {
    let stage = stage(&spec(8, Some(1)), Running::ManyItems, echo).await;
    let running = stage.ask(item(1));
    settle().await;
    let begun = Instant::now();
    stage.pool.rest(Duration::from_secs(7)).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(7));
    assert_eq!(stage.pool.status().replicas, 0);
    // What it held is run by the next replica.
    stage.pool.wake();
    stage.gate.add_permits(1);
    assert!(running.await.unwrap().is_ok());
}
