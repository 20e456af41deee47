//! Replicas that come and go with the load, on a paused clock.

use super::*;
use graphs::Machine;
use schema::Resources;

/// A node that takes a second for an item.
fn slow(starts: &Arc<Mutex<Vec<Instant>>>) -> Arc<dyn Node> {
    starts.lock().unwrap().push(Instant::now());
    Arc::new(Scripted {
        running: Running::ManyItems,
        takes: Duration::from_secs(1),
        gate: None,
        batches: Arc::default(),
        script: echo,
    })
}

fn scaled(min: u32, max: u32) -> PoolSpec {
    let mut spec = spec(10_000, Some(1));
    let seconds = Duration::from_secs;
    spec.replicas.min = spanned(min);
    spec.replicas.max = spanned(max);
    spec.replicas.target_ongoing_requests = 1.0;
    spec.replicas.upscale_delay = seconds(2);
    spec.replicas.downscale_delay = seconds(10);
    spec.replicas.look_back = seconds(1);
    spec
}

/// Keeps `clients` items under way for a while.
async fn load(pool: &Pool, clients: usize, seconds: u64) {
    let until = Instant::now() + Duration::from_secs(seconds);
    let clients = (0..clients).map(|client| async move {
        while Instant::now() < until {
            pool.answer(item(client as i64)).await.unwrap();
        }
    });
    futures::future::join_all(clients).await;
}

#[tokio::test(start_paused = true)]
async fn replicas_follow_the_load_within_their_limits() {
    let starts = Arc::default();
    let pool = started(&scaled(1, 4), move |_| Ok(slow(&starts))).await;
    assert_eq!(pool.status().replicas, 1);
    load(&pool, 1, 20).await;
    assert_eq!(pool.status().replicas, 1, "it carries what it is meant to");
    load(&pool, 8, 20).await;
    assert_eq!(pool.status().replicas, 4);
    assert_eq!(pool.metrics().autoscale_target.get(), 4);
    sleep(Duration::from_secs(40)).await;
    assert_eq!(pool.status().replicas, 1);
    assert_eq!(pool.metrics().starts.get(), 4);
    assert!(pool.answer(item(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_away_finishes_first() {
    let mut spec = scaled(1, 2);
    spec.replicas.initial = Some(spanned(2));
    spec.replicas.target_ongoing_requests = 100.0;
    let pool = started(&spec, |_| {
        Ok(Arc::new(Scripted {
            running: Running::ManyItems,
            takes: Duration::from_secs(60),
            gate: None,
            batches: Arc::default(),
            script: echo,
        }) as Arc<dyn Node>)
    })
    .await;
    let both = async { tokio::join!(pool.answer(item(1)), pool.answer(item(2))) };
    let meanwhile = async {
        sleep(Duration::from_secs(30)).await;
        let status = pool.status();
        assert_eq!((status.replicas, status.ongoing), (1, 2));
        assert_eq!(pool.metrics().replicas_leaving.get(), 1);
    };
    let ((first, second), ()) = tokio::join!(both, meanwhile);
    assert!(first.is_ok() && second.is_ok());
    settle().await;
    assert_eq!(pool.metrics().replicas_leaving.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_nobody_uses_goes_and_comes_back() {
    let starts: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let built = Arc::clone(&starts);
    let pool = started(&scaled(0, 8), move |_| Ok(slow(&built))).await;
    assert_eq!(pool.status().replicas, 0);
    assert!(pool.status().healthy);

    // Six wait while nothing runs, so six start, all at once.
    let begun = Instant::now();
    let items = (0..6).map(|n| pool.answer(item(n)));
    let answers = futures::future::join_all(items).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(
        begun.elapsed() <= Duration::from_millis(1150),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(starts.lock().unwrap().len(), 6);

    sleep(Duration::from_secs(60)).await;
    assert_eq!(pool.status().replicas, 0);
    assert!(pool.answer(item(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn items_that_wait_for_the_first_replica_are_batched_as_it_runs() {
    let batches = Arc::<Mutex<Vec<Vec<i64>>>>::default();
    let seen = Arc::clone(&batches);
    let spec = batched(scaled(0, 1), 8, Some(10), Duration::ZERO);
    let mut spec = spec;
    spec.max_ongoing_requests = None;
    let pool = started(&spec, move |_| {
        Ok(Arc::new(Scripted {
            running: Running::OneBatch,
            takes: Duration::ZERO,
            gate: None,
            batches: Arc::clone(&seen),
            script: echo,
        }) as Arc<dyn Node>)
    })
    .await;
    let items = [4, 5, 6, 3].map(|n| pool.answer(item(n)));
    let answers = futures::future::join_all(items).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(*batches.lock().unwrap(), [vec![4, 5], vec![6, 3]]);
}

#[tokio::test(start_paused = true)]
async fn the_machine_bounds_what_starts() {
    let ledger = Ledger::new(Machine {
        cpus: 3.0,
        gpus: 0.0,
        memory: 1 << 30,
    });
    let mut spec = scaled(1, 9);
    spec.resources = Resources {
        cpu: 1.5,
        ..Resources::default()
    };
    let starts = Arc::default();
    let pool = started_on(&ledger, &spec, move |_| Ok(slow(&starts)))
        .await
        .unwrap();
    let mut asked = Vec::new();
    let watch = async {
        for _ in 0..190 {
            sleep(Duration::from_millis(100)).await;
            asked.push(pool.metrics().autoscale_desired.get());
        }
    };
    tokio::join!(load(&pool, 8, 20), watch);
    asked.dedup();
    assert_eq!(asked, [1, 2, 4, 8], "what is asked for stays asked for");
    assert_eq!(pool.status().replicas, 2);
    assert_eq!(pool.metrics().autoscale_target.get(), 2);

    let starts = Arc::default();
    let other = started_on(&ledger, &spec, move |_| Ok(slow(&starts))).await;
    assert_eq!(
        other.unwrap_err().to_string(),
        "a replica takes 1.5 cores, and the machine has 0 cores left"
    );
    // What a pool had is free when it ends.
    drop(pool);
    settle().await;
    let starts = Arc::default();
    assert!(
        started_on(&ledger, &spec, move |_| Ok(slow(&starts)))
            .await
            .is_ok()
    );
}
