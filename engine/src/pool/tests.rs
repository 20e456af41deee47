//! Pools on a paused clock, with nodes that are scripted.

use super::*;
use crate::metrics::Metrics;
use nodes::{Arguments, Node, Running, TextSink, text_stream};
use schema::{Batch, Spanned};
use std::sync::Mutex;

mod adjusted;
mod failure;
mod health;
mod overload;
mod placed;
mod scaling;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, yield_now},
    time::{advance, sleep},
};

/// What a scripted node does with an item.
type Script = fn(&Value) -> Result<Value, NodeError>;

/// A node that records its batches and runs them when it is let.
struct Scripted {
    running: Running,
    takes: Duration,
    gate: Option<Arc<Semaphore>>,
    batches: Arc<Mutex<Vec<Vec<i64>>>>,
    script: Script,
}

impl Node for Scripted {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        let items: Vec<Value> = batch
            .iter()
            .map(|item| item.arguments.get("n").clone())
            .collect();
        let numbers = items.iter().filter_map(Value::as_integer).collect();
        self.batches.lock().unwrap().push(numbers);
        Box::pin(async move {
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            sleep(self.takes).await;
            items.iter().map(self.script).collect()
        })
    }

    fn running(&self) -> Running {
        self.running
    }

    fn cost(&self, item: &Input) -> u64 {
        item.arguments.get("n").as_integer().unwrap_or(1) as u64
    }
}

/// Builds nodes by a closure, which is given the number of the build.
struct Workshop<F> {
    builds: AtomicU64,
    build: F,
}

impl<F> Catalog for Workshop<F>
where
    F: Fn(u64) -> Result<Arc<dyn Node>, NodeError> + Send + Sync,
{
    fn build<'a>(&'a self, _: nodes::Order<'a>) -> BoxFuture<'a, Result<Arc<dyn Node>, NodeError>> {
        let number = self.builds.fetch_add(1, Relaxed);
        Box::pin(async move { (self.build)(number) })
    }
}

/// Any work: the catalogs here do not look at it.
fn work() -> Work {
    let source = schema::Source {
        id: schema::SourceId(0),
        name: "test.kdl".to_owned(),
        text: r#"graph g { input { a type=string }; split s { text "{{ input.a }}" }; output { s "{{ s }}" } }"#
            .to_owned(),
    };
    let (document, problems) = schema::parse(&source, &|_| None);
    assert!(problems.is_empty(), "{problems:?}");
    document.graphs[0].nodes[0].work.clone()
}

/// A pool whose nodes are built by a closure.
async fn started(
    spec: &PoolSpec,
    build: impl Fn(u64) -> Result<Arc<dyn Node>, NodeError> + Send + Sync + 'static,
) -> Pool {
    let ledger = Ledger::new(crate::load::machine());
    started_on(&ledger, spec, build).await.unwrap()
}

/// The same on a machine.
async fn started_on(
    ledger: &Ledger,
    spec: &PoolSpec,
    build: impl Fn(u64) -> Result<Arc<dyn Node>, NodeError> + Send + Sync + 'static,
) -> Result<Pool, NodeError> {
    let catalog = Arc::new(Workshop {
        builds: AtomicU64::new(0),
        build,
    });
    let metrics = Metrics::new().node("graph", "node");
    Pool::start(&work(), spec, catalog, &ledger.room(), metrics).await
}

/// A pool of scripted nodes and what its test holds of it.
struct Stage {
    pool: Pool,
    gate: Arc<Semaphore>,
    batches: Arc<Mutex<Vec<Vec<i64>>>>,
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(value, schema::Span::default())
}

fn spec(queued: u32, ongoing: Option<u32>) -> PoolSpec {
    PoolSpec {
        max_queued_requests: Some(spanned(queued)),
        max_ongoing_requests: ongoing.map(spanned),
        ..PoolSpec::default()
    }
}

fn batched(spec: PoolSpec, size: u32, cost: Option<u64>, wait: Duration) -> PoolSpec {
    let batch = Batch {
        max_size: spanned(size),
        max_cost: cost.map(spanned),
        max_wait: wait,
    };
    PoolSpec {
        batch: Some(batch),
        ..spec
    }
}

/// A pool whose batches start when the test opens the gate.
async fn stage(spec: &PoolSpec, running: Running, script: Script) -> Stage {
    let ledger = Ledger::new(crate::load::machine());
    stage_on(&ledger, spec, running, script).await
}

/// The same on a machine.
async fn stage_on(ledger: &Ledger, spec: &PoolSpec, running: Running, script: Script) -> Stage {
    let (gate, batches) = (Arc::new(Semaphore::new(0)), Arc::default());
    let (shared_gate, shared_batches) = (Arc::clone(&gate), Arc::clone(&batches));
    let build = move |_| {
        Ok(Arc::new(Scripted {
            running,
            takes: Duration::ZERO,
            gate: Some(Arc::clone(&shared_gate)),
            batches: Arc::clone(&shared_batches),
            script,
        }) as Arc<dyn Node>)
    };
    Stage {
        pool: started_on(ledger, spec, build).await.unwrap(),
        gate,
        batches,
    }
}

fn item(n: i64) -> Input {
    Input {
        arguments: Arguments::from_iter([("n", Value::Integer(n))]),
        context: nodes::Context::default(),
    }
}

fn by(n: i64, seconds: u64) -> Input {
    let mut item = item(n);
    item.context.deadline = Some(Instant::now() + Duration::from_secs(seconds));
    item
}

impl Stage {
    fn ask(&self, input: Input) -> JoinHandle<Result<Value, NodeError>> {
        let pool = self.pool.clone();
        tokio::spawn(async move { pool.answer(input).await })
    }

    fn batches(&self) -> Vec<Vec<i64>> {
        self.batches.lock().unwrap().clone()
    }
}

/// Lets every task do what it can without time passing.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

fn echo(value: &Value) -> Result<Value, NodeError> {
    Ok(value.clone())
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_exactly() {
    let stage = stage(&spec(5, Some(2)), Running::ManyItems, echo).await;
    let asked: Vec<_> = (0..7).map(|n| stage.ask(item(n))).collect();
    settle().await;
    let status = stage.pool.status();
    assert_eq!((status.ongoing, status.queued), (2, 5));

    let refused = stage.pool.answer(item(7)).await.unwrap_err();
    assert!(
        matches!(refused, NodeError::Full { retry_after } if retry_after >= Duration::from_secs(1))
    );

    stage.gate.add_permits(1);
    settle().await;
    assert_eq!(stage.pool.status().queued, 4);
    let admitted = stage.ask(item(8));
    settle().await;
    assert_eq!(stage.pool.status().queued, 5);
    stage.gate.add_permits(100);
    for (n, asked) in asked.into_iter().enumerate() {
        assert_eq!(asked.await.unwrap().unwrap().as_integer(), Some(n as i64));
    }
    assert_eq!(admitted.await.unwrap().unwrap().as_integer(), Some(8));
    settle().await;
    let status = stage.pool.status();
    assert_eq!((status.ongoing, status.queued, status.answered), (0, 0, 8));
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_none_lets_through_what_a_replica_can_take() {
    let stage = stage(&spec(0, Some(1)), Running::ManyItems, echo).await;
    let first = stage.ask(item(1));
    settle().await;
    assert!(matches!(
        stage.pool.answer(item(2)).await,
        Err(NodeError::Full { .. })
    ));
    stage.gate.add_permits(1);
    assert!(first.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn batches_form_when_a_replica_is_free_and_not_before() {
    let spec = batched(spec(99, None), 4, None, Duration::ZERO);
    let stage = stage(&spec, Running::OneBatch, echo).await;
    let mut asked = vec![stage.ask(item(0))];
    settle().await;
    asked.extend((1..=6).map(|n| stage.ask(item(n))));
    settle().await;
    assert_eq!(stage.batches(), [vec![0]]);
    stage.gate.add_permits(1);
    settle().await;
    assert_eq!(stage.batches(), [vec![0], vec![1, 2, 3, 4]]);
    stage.gate.add_permits(9);
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(stage.batches(), [vec![0], vec![1, 2, 3, 4], vec![5, 6]]);
}

#[tokio::test(start_paused = true)]
async fn batches_are_bounded_by_cost_and_ordered_by_deadline() {
    let spec = batched(spec(99, None), 8, Some(10), Duration::ZERO);
    let stage = stage(&spec, Running::OneBatch, echo).await;
    let mut asked = vec![stage.ask(item(1))];
    settle().await;
    for input in [by(4, 50), by(50, 40), by(6, 20), by(3, 10)] {
        asked.push(stage.ask(input));
        settle().await;
    }
    stage.gate.add_permits(9);
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(stage.batches(), [vec![1], vec![3, 6], vec![50], vec![4]]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_replica_waits_for_more_no_longer_than_it_may() {
    let spec = batched(spec(99, None), 3, None, Duration::from_millis(5));
    let stage = stage(&spec, Running::OneBatch, echo).await;
    stage.gate.add_permits(9);
    let first = stage.ask(item(1));
    settle().await;
    advance(Duration::from_millis(4)).await;
    let second = stage.ask(item(2));
    settle().await;
    assert!(stage.batches().is_empty());
    advance(Duration::from_millis(2)).await;
    settle().await;
    assert_eq!(stage.batches(), [vec![1, 2]]);
    let full: Vec<_> = (3..=5).map(|n| stage.ask(item(n))).collect();
    settle().await;
    assert_eq!(stage.batches(), [vec![1, 2], vec![3, 4, 5]]);
    for asked in full.into_iter().chain([first, second]) {
        asked.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_frees_its_place_and_its_run() {
    let stage = stage(&spec(2, Some(1)), Running::ManyItems, echo).await;
    let asked: Vec<_> = (0..3).map(|n| stage.ask(item(n))).collect();
    settle().await;
    assert!(matches!(
        stage.pool.answer(item(3)).await,
        Err(NodeError::Full { .. })
    ));
    // One that waits leaves: its place is free at once.
    asked[1].abort();
    settle().await;
    let instead = stage.ask(item(4));
    settle().await;
    assert!(!instead.is_finished());
    // The one that runs leaves: its run is dropped and the next begins without the gate opening.
    asked[0].abort();
    settle().await;
    assert_eq!(stage.batches(), [vec![0], vec![2]]);
    stage.gate.add_permits(9);
    assert!(instead.await.unwrap().is_ok());
    assert_eq!(stage.batches(), [vec![0], vec![2], vec![4]]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_that_leave_leave_nothing_behind() {
    let stage = stage(&spec(64, Some(4)), Running::ManyItems, echo).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    for round in 0..5000 {
        let asked: Vec<_> = (0..20).map(|n| stage.ask(item(round * 20 + n))).collect();
        // They leave before they are seen, while they wait, while they run, and as they are answered.
        for _ in 0..round % 4 {
            yield_now().await;
        }
        stage.gate.add_permits((round % 3) as usize);
        asked.iter().for_each(JoinHandle::abort);
    }
    stage.gate.add_permits(Semaphore::MAX_PERMITS >> 1);
    settle().await;
    let last = stage.ask(item(-1));
    assert!(last.await.unwrap().is_ok());
    settle().await;
    let status = stage.pool.status();
    assert_eq!((status.ongoing, status.queued), (0, 0));
    let metrics = stage.pool.metrics();
    assert_eq!((metrics.ongoing.get(), metrics.queued.get()), (0, 0));
    assert_eq!(tasks(), before, "no task is left");
    // Every slot is there: as many run at once as may.
    let asked: Vec<_> = (0..4).map(|n| stage.ask(item(n))).collect();
    for asked in asked {
        assert!(asked.await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_has_its_time_and_no_more() {
    let mut spec = spec(9, Some(1));
    spec.timeout = Some(spanned(Duration::from_secs(2)));
    let stage = stage(&spec, Running::ManyItems, echo).await;
    let begun = Instant::now();
    let late = stage.pool.answer(item(1)).await.unwrap_err();
    assert!(matches!(late, NodeError::Timeout { after } if after == Duration::from_secs(2)));
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    // Its run is dropped with it, so the next one has the replica.
    settle().await;
    stage.gate.add_permits(1);
    assert!(stage.pool.answer(item(2)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_late_never_reaches_a_replica() {
    let stage = stage(&spec(9, Some(1)), Running::ManyItems, echo).await;
    let first = stage.ask(item(1));
    let late = stage.ask(by(2, 3));
    let good = stage.ask(by(3, 60));
    settle().await;
    advance(Duration::from_secs(4)).await;
    stage.gate.add_permits(9);
    assert!(first.await.unwrap().is_ok());
    assert!(good.await.unwrap().is_ok());
    assert!(matches!(
        late.await.unwrap(),
        Err(NodeError::Timeout { .. })
    ));
    assert_eq!(stage.batches(), [vec![1], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn each_item_of_a_batch_has_its_own_answer() {
    let odd: Script = |value| match value.as_integer() {
        Some(n) if n % 2 == 1 => Err(NodeError::invalid("odd")),
        _ => Ok(value.clone()),
    };
    let spec = batched(spec(9, None), 4, None, Duration::from_millis(1));
    let stage = stage(&spec, Running::OneBatch, odd).await;
    stage.gate.add_permits(9);
    let asked: Vec<_> = (0..4).map(|n| stage.ask(item(n))).collect();
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.await.unwrap().is_ok());
    }
    assert_eq!(answers, [true, false, true, false]);
    assert_eq!(stage.batches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_keeps_its_slot_until_it_is_read() {
    static SINKS: Mutex<Vec<TextSink>> = Mutex::new(Vec::new());
    let streams: Script = |_| {
        let (sink, stream) = text_stream();
        SINKS.lock().unwrap().push(sink);
        Ok(Value::Stream(stream))
    };
    let stage = stage(&spec(9, Some(1)), Running::ManyItems, streams).await;
    stage.gate.add_permits(9);
    let first = stage.pool.answer(item(1)).await.unwrap();
    let second = stage.ask(item(2));
    settle().await;
    assert_eq!(stage.pool.status().ongoing, 1);
    assert!(!second.is_finished());
    assert_eq!(stage.batches(), [vec![1]]);
    drop(first);
    assert!(matches!(second.await.unwrap(), Ok(Value::Stream(_))));
    assert!(SINKS.lock().unwrap()[0].is_abandoned());
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_drains_the_pool_and_ends_it() {
    let node: Arc<dyn Node> = Arc::new(Scripted {
        running: Running::ManyItems,
        takes: Duration::from_secs(1),
        gate: None,
        batches: Arc::default(),
        script: echo,
    });
    let watched = Arc::downgrade(&node);
    let node = Mutex::new(Some(node));
    let build = move |_| Ok(node.lock().unwrap().take().unwrap());
    let pool = started(&spec(9, Some(1)), build).await;
    let replicas = pool.metrics().replicas.clone();
    let (mut first, mut second) = (pool.clone(), pool.clone());
    let answers = [
        tower::Service::call(&mut first, item(1)),
        tower::Service::call(&mut second, item(2)),
    ];
    assert_eq!(replicas.get(), 1);
    drop((first, second, pool));
    for answer in answers {
        assert!(answer.await.is_ok());
    }
    settle().await;
    assert!(watched.upgrade().is_none(), "the replica is gone");
    assert_eq!(replicas.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_is_ended() {
    let stage = stage(&spec(9, Some(1)), Running::ManyItems, echo).await;
    let pool = stage.pool.clone();
    let waiting = Ticket::new(item(1), Instant::now());
    pool.0.orders.send(Order::Answer(waiting.0)).unwrap();
    settle().await;
    drop((pool, stage.pool));
    let begun = Instant::now();
    assert!(waiting.1.await.is_err(), "given up");
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
}
