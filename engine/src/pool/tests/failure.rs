//! What breaks, and what becomes of the items that it held.

use super::*;

/// What a frail node does with a batch. It is given the number of the run, counted over all nodes.
type Plan = dyn Fn(u64, &[i64]) -> Fate + Send + Sync;

/// What becomes of a batch.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// Every item is answered with itself.
    Answer,
    /// The node panics.
    Panic,
    /// The node answers nothing, as when a worker process is gone.
    Vanish,
    /// The node never answers.
    Hang,
    /// Every item fails.
    Fail,
}

/// Nodes that break as planned.
struct Frail {
    running: Running,
    runs: Arc<AtomicU64>,
    plan: Arc<Plan>,
}

impl Node for Frail {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        let items = batch.iter().map(number).collect::<Vec<_>>();
        let fate = (self.plan)(self.runs.fetch_add(1, Relaxed), &items);
        Box::pin(async move {
            sleep(Duration::from_millis(5)).await;
            match fate {
                Fate::Answer => items.into_iter().map(|n| Ok(Value::Integer(n))).collect(),
                Fate::Panic => panic!("as planned"),
                Fate::Vanish => Vec::new(),
                Fate::Hang => std::future::pending().await,
                Fate::Fail => vec![Err(NodeError::failed("as planned")); items.len()],
            }
        })
    }

    fn running(&self) -> Running {
        self.running
    }
}

fn number(input: &Input) -> i64 {
    input.arguments.get("n").as_integer().unwrap()
}

/// A pool of frail nodes, and how many batches they have run.
async fn frail(
    spec: &PoolSpec,
    running: Running,
    plan: impl Fn(u64, &[i64]) -> Fate + Send + Sync + 'static,
) -> (Pool, Arc<AtomicU64>) {
    let (runs, plan): (_, Arc<Plan>) = (Arc::new(AtomicU64::new(0)), Arc::new(plan));
    let shared = Arc::clone(&runs);
    let build = move |_| {
        Ok(Arc::new(Frail {
            running,
            runs: Arc::clone(&shared),
            plan: Arc::clone(&plan),
        }) as Arc<dyn Node>)
    };
    (started(spec, build).await, runs)
}

async fn all(pool: &Pool, items: impl Iterator<Item = i64>) -> Vec<Result<Value, NodeError>> {
    futures::future::join_all(items.map(|n| pool.answer(item(n)))).await
}

fn replicas(spec: PoolSpec, count: u32) -> PoolSpec {
    let mut spec = spec;
    spec.replicas.min = spanned(count);
    spec.replicas.max = spanned(count);
    spec
}

/// Asks for 32 items of which number 13 meets `fate`, and then for number 13 again.
async fn one_poison_of_32(fate: Fate) {
    let spec = batched(spec(99, None), 32, None, Duration::from_millis(1));
    one_poison(spec, fate).await;
}

async fn one_poison(spec: PoolSpec, fate: Fate) {
    let plan = move |_, items: &[i64]| match items.contains(&13) {
        true => fate,
        false => Fate::Answer,
    };
    let (pool, runs) = frail(&spec, Running::OneBatch, plan).await;
    let answers = all(&pool, 0..32).await;
    for (n, answer) in (0..).zip(answers) {
        match n {
            13 => assert!(answer.is_err()),
            n => assert_eq!(answer.unwrap().as_integer(), Some(n)),
        }
    }
    assert!(runs.load(Relaxed) <= 13, "{} runs", runs.load(Relaxed));
    settle().await;
    assert!(pool.status().healthy);
    assert_eq!(pool.status().answered, 32);

    // It is known by now, for a minute.
    let before = runs.load(Relaxed);
    assert!(pool.answer(item(13)).await.is_err());
    assert_eq!(runs.load(Relaxed), before);
    assert!(pool.answer(item(14)).await.is_ok());
    sleep(Duration::from_secs(61)).await;
    assert!(pool.answer(item(13)).await.is_err());
    assert!(runs.load(Relaxed) > before + 1);
}

#[tokio::test(start_paused = true)]
async fn one_poison_of_32_that_fails_its_batch_fails_alone() {
    let spec = batched(spec(99, None), 32, None, Duration::from_millis(1));
    let plan = |_, items: &[i64]| match items.contains(&13) {
        true => Fate::Fail,
        false => Fate::Answer,
    };
    let (pool, runs) = frail(&spec, Running::OneBatch, plan).await;
    let answers = all(&pool, 0..32).await;
    let failed: Vec<_> = answers.iter().map(Result::is_err).collect();
    assert_eq!(failed.iter().filter(|failed| **failed).count(), 1);
    assert!(failed[13]);
    assert_eq!(runs.load(Relaxed), 11, "five halvings, two runs each");
    assert!(pool.answer(item(13)).await.is_err());
    assert_eq!(runs.load(Relaxed), 11, "it is in quarantine");
    assert_eq!(pool.metrics().starts.get(), 1, "nothing was built again");
}

#[tokio::test(start_paused = true)]
async fn one_poison_of_32_that_panics_fails_alone() {
    one_poison_of_32(Fate::Panic).await;
}

#[tokio::test(start_paused = true)]
async fn one_poison_of_32_that_kills_fails_alone() {
    one_poison_of_32(Fate::Vanish).await;
}

#[tokio::test(start_paused = true)]
async fn where_all_fail_nobody_is_quarantined() {
    let spec = batched(spec(9, None), 4, None, Duration::from_millis(1));
    let plan = |run, _: &[i64]| if run < 7 { Fate::Fail } else { Fate::Answer };
    let (pool, runs) = frail(&spec, Running::OneBatch, plan).await;
    assert!(all(&pool, 0..4).await.iter().all(Result::is_err));
    assert_eq!(runs.load(Relaxed), 7);
    assert!(all(&pool, 0..4).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn an_item_may_break_one_replica_and_not_two() {
    let plan = |run, items: &[i64]| match items {
        [13] => Fate::Panic,
        [7] if run == 0 => Fate::Panic,
        _ => Fate::Answer,
    };
    let (pool, _) = frail(&spec(9, Some(1)), Running::ManyItems, plan).await;
    assert!(pool.answer(item(7)).await.is_ok(), "it was not its fault");
    let error = pool.answer(item(13)).await.unwrap_err();
    assert_eq!(error.to_string(), "the node panicked: as planned");
    assert!(pool.answer(item(1)).await.is_ok());
    assert_eq!(pool.metrics().starts.get(), 4, "three broke");
}

#[tokio::test(start_paused = true)]
async fn a_panic_leaves_alone_what_else_its_replica_runs() {
    let plan = |_, items: &[i64]| match items {
        [13] => Fate::Panic,
        _ => Fate::Answer,
    };
    let (pool, runs) = frail(&spec(9, Some(8)), Running::ManyItems, plan).await;
    let answers = all(&pool, 10..18).await;
    let well = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(well, 7);
    assert_eq!(runs.load(Relaxed), 9, "only the guilty one ran twice");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_built_again_says_so_and_recovers() {
    let runs = Arc::new(AtomicU64::new(0));
    let broken = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&broken);
    let pool = started(&spec(9, Some(1)), move |_| {
        if down.load(Relaxed) {
            return Err(NodeError::failed("its file is gone"));
        }
        let plan = |run, _: &[i64]| if run == 0 { Fate::Panic } else { Fate::Answer };
        Ok(Arc::new(Frail {
            running: Running::ManyItems,
            runs: Arc::clone(&runs),
            plan: Arc::new(plan),
        }) as Arc<dyn Node>)
    })
    .await;
    broken.store(true, Relaxed);
    let begun = Instant::now();
    let error = pool.answer(item(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "the node is unhealthy: its file is gone");
    assert!(matches!(error, NodeError::Unavailable { .. }));
    let tried = begun.elapsed().as_millis();
    assert!((300..400).contains(&tried), "{tried} ms of tries");
    assert!(!pool.status().healthy);
    assert!(pool.answer(item(2)).await.is_err(), "refused at once");

    broken.store(false, Relaxed);
    sleep(Duration::from_secs(2)).await;
    assert!(pool.status().healthy);
    assert!(pool.answer(item(3)).await.is_ok());
}

/// Every fifth run ends badly until a hundred have; every item is answered, and once.
async fn a_hundred_deaths(fates: &'static [Fate]) {
    let deaths = AtomicUsize::new(0);
    let plan = move |run: u64, items: &[i64]| {
        if !run.is_multiple_of(5) || items.len() == 1 || deaths.load(Relaxed) >= 100 {
            return Fate::Answer;
        }
        fates[deaths.fetch_add(1, Relaxed) % fates.len()]
    };
    let mut spec = batched(spec(10_000, None), 8, None, Duration::ZERO);
    spec.health_check_period = Some(spanned(Duration::from_secs(1)));
    let (pool, runs) = frail(&replicas(spec, 3), Running::OneBatch, plan).await;
    let clients = (0..64).map(|client| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for n in 0..80 {
                let n = client * 1000 + n;
                let answer = pool.answer(item(n)).await;
                assert_eq!(answer.unwrap().as_integer(), Some(n));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    settle().await;
    assert!(runs.load(Relaxed) > 500);
    let status = pool.status();
    assert_eq!((status.ongoing, status.queued), (0, 0));
    assert_eq!(status.answered, 64 * 80, "each once");
    assert_eq!(pool.metrics().starts.get(), 3 + 100);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_panics_under_load_lose_nothing() {
    a_hundred_deaths(&[Fate::Panic]).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_replicas_that_vanish_under_load_lose_nothing() {
    a_hundred_deaths(&[Fate::Vanish]).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_replicas_that_hang_under_load_lose_nothing() {
    a_hundred_deaths(&[Fate::Hang]).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_deaths_of_all_kinds_lose_nothing() {
    a_hundred_deaths(&[Fate::Hang, Fate::Panic, Fate::Vanish]).await;
}

#[tokio::test(start_paused = true)]
async fn one_poison_of_32_that_hangs_fails_alone() {
    let mut spec = batched(spec(99, None), 32, None, Duration::from_millis(1));
    spec.health_check_period = Some(spanned(Duration::from_secs(1)));
    one_poison(spec, Fate::Hang).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_beside_others_takes_none_with_it() {
    let plan = |_, items: &[i64]| match items {
        [13] => Fate::Hang,
        _ => Fate::Answer,
    };
    let mut spec = spec(9, Some(8));
    spec.health_check_period = Some(spanned(Duration::from_secs(1)));
    let (pool, _) = frail(&spec, Running::ManyItems, plan).await;
    let answers = all(&pool, 10..18).await;
    let well = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(well, 7);
    let error = answers[3].as_ref().unwrap_err().to_string();
    assert_eq!(error, "the replica was given up");
}
