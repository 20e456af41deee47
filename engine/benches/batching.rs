//! What becomes of batches under staggered load, and of a node that is asked for five times what it
//! can do. The model is a thread that sleeps for 100 ms a batch, whatever its size; requests go
//! through the graph as those of clients do, without HTTP.
//!
//! `cargo bench -p engine --bench batching`. Goals: at each stagger at least 0.98 of the ideal (32
//! items in each call, and no time between calls); under overload at least 0.9 of the peak, the 99th percentile of what was
//! admitted within its deadline, and memory that does not grow.

mod support;

use engine::{execute::Request, topology::Topology};
use futures::future::{BoxFuture, join_all};
use nodes::{Catalog, Context, Input, Map, Model, Node, NodeError, OnThread, Order, Value};
use std::{
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

const BATCH: usize = 32;
const CALL: Duration = Duration::from_millis(100);
const CLIENTS: u32 = 64;
const ROUND: Duration = Duration::from_secs(15);

fn file(queued: usize) -> String {
    format!(
        r#"
        model m {{ source "file:m" }}
        graph g {{
            input {{ text type=string }}
            embed vector {{
                model m
                text "{{{{ input.text }}}}"
                batch max-size={BATCH} max-wait="10ms"
                max-queued-requests {queued}
            }}
            output {{ vector "{{{{ vector }}}}" }}
        }}"#
    )
}

/// How often the model was called, with how many items in all, and how long it took.
#[derive(Default)]
struct Calls {
    calls: AtomicU64,
    items: AtomicU64,
    nanoseconds: AtomicU64,
}

struct Sleeper(Arc<Calls>);

impl Model for Sleeper {
    fn forward(&mut self, batch: Vec<Input>) -> Vec<Result<Value, NodeError>> {
        self.0.calls.fetch_add(1, Relaxed);
        self.0.items.fetch_add(batch.len() as u64, Relaxed);
        let begun = Instant::now();
        thread::sleep(CALL);
        let took = begun.elapsed().as_nanos() as u64;
        self.0.nanoseconds.fetch_add(took, Relaxed);
        batch
            .iter()
            .map(|_| Ok(Value::Vector([1.0].into())))
            .collect()
    }
}

struct Sleepers(Arc<Calls>);

impl Catalog for Sleepers {
    fn build<'a>(&'a self, _: Order<'a>) -> BoxFuture<'a, Result<Arc<dyn Node>, NodeError>> {
        let built = OnThread::spawn("sleeper", 1, Sleeper(Arc::clone(&self.0)));
        Box::pin(async move { Ok(Arc::new(built?) as Arc<dyn Node>) })
    }
}

fn main() {
    // Cargo asks every target for its tests.
    if env::args().any(|argument| argument == "--list") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime can be built").block_on(async {
        println!("{CLIENTS} clients, {ROUND:?} each; ratio to {BATCH} items in each call");
        println!("stagger   mean batch   ratio   requests/s   ratio     p99   mean call");
        let mut peak = 0.0_f64;
        for stagger in [0, 2, 5] {
            peak = peak.max(staggered(Duration::from_millis(stagger)).await);
        }
        println!("\n5 times the peak of {peak:.0}/s, {ROUND:?} each");
        println!("queue  deadline   goodput/s   ratio   admitted   in time     p99   memory, MiB");
        for (queued, deadline) in [(256, 2000), (10_000, 500)] {
            overload(queued, Duration::from_millis(deadline), peak).await;
        }
    });
}

async fn start(queued: usize) -> (Arc<Topology>, Arc<Calls>) {
    let calls = Arc::new(Calls::default());
    let catalog = Arc::new(Sleepers(Arc::clone(&calls)));
    let topology = support::start_with(&file(queued), catalog).await;
    (Arc::new(topology), calls)
}

async fn ask(topology: &Topology, deadline: Option<Instant>) -> Result<(), NodeError> {
    let text = ("text".into(), Value::text("a text"));
    let request = Request {
        input: Value::Map(Arc::new(Map::from_iter([text]))),
        context: Context {
            deadline,
            ..Context::default()
        },
        ..Request::default()
    };
    let answer = topology.graphs()[0].prepared().run(request).await;
    answer.map(drop).map_err(|error| error.error)
}

/// Clients that send their next request when the last is answered, and begin one after the other.
/// Gives the requests a second.
async fn staggered(stagger: Duration) -> f64 {
    let (topology, calls) = start(256).await;
    let begun = Instant::now();
    let clients = (0..CLIENTS).map(|client| {
        let topology = Arc::clone(&topology);
        tokio::spawn(async move {
            sleep_until(begun + stagger * client).await;
            let mut times = Vec::new();
            while begun.elapsed() < ROUND {
                let asked = Instant::now();
                ask(&topology, None).await.expect("the queue has room");
                times.push(asked.elapsed());
            }
            times
        })
    });
    let times = join_all(clients.collect::<Vec<_>>()).await;
    let took = begun.elapsed().as_secs_f64();
    let mut times: Vec<_> = times
        .into_iter()
        .flat_map(|times| times.expect("a client does not panic"))
        .collect();
    let batch = calls.items.load(Relaxed) as f64 / calls.calls.load(Relaxed) as f64;
    let rate = times.len() as f64 / took;
    let late = percentile_99(&mut times).as_secs_f64() * 1e3;
    // A busy machine wakes a sleeper late, which is no matter of batches.
    let call = calls.nanoseconds.load(Relaxed) as f64 / 1e9 / calls.calls.load(Relaxed) as f64;
    println!(
        "{:>4} ms   {batch:>10.2}   {:>5.3}   {rate:>10.1}   {:>5.3}   {late:>3.0} ms   {:>8.2} ms",
        stagger.as_millis(),
        batch / BATCH as f64,
        rate * call / BATCH as f64,
        call * 1e3,
    );
    rate
}

/// How a request under overload ended.
enum Ended {
    InTime(Duration),
    Late,
    Refused,
}

/// What is refused is refused within this time; what takes longer had been let in.
const AT_ONCE: Duration = Duration::from_millis(20);

async fn overload(queued: usize, deadline: Duration, peak: f64) {
    let (topology, _) = start(queued).await;
    let begun = Instant::now();
    let mut requests = JoinSet::new();
    let mut ended = Vec::new();
    let mut memory = Vec::new();
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = 0.0;
    while begun.elapsed() < ROUND {
        ticks.tick().await;
        let due = begun.elapsed().as_secs_f64() * 5.0 * peak;
        while sent < due {
            sent += 1.0;
            let topology = Arc::clone(&topology);
            requests.spawn(async move {
                let asked = Instant::now();
                let answer = ask(&topology, Some(asked + deadline)).await;
                match (answer, asked.elapsed()) {
                    (Ok(()), took) if took <= deadline => Ended::InTime(took),
                    (Err(NodeError::Full { .. }), took) if took <= AT_ONCE => Ended::Refused,
                    _ => Ended::Late,
                }
            });
        }
        while let Some(Ok(done)) = requests.try_join_next() {
            ended.push(done);
        }
        memory.extend(resident_mib());
    }
    let took = begun.elapsed().as_secs_f64();
    let in_time = |ended: &Ended| match ended {
        Ended::InTime(took) => Some(*took),
        Ended::Late | Ended::Refused => None,
    };
    let goodput = ended.iter().filter_map(in_time).count() as f64 / took;
    while let Some(Ok(done)) = requests.join_next().await {
        ended.push(done);
    }
    let mut times: Vec<_> = ended.iter().filter_map(in_time).collect();
    let late = ended.iter().filter(|ended| matches!(ended, Ended::Late));
    let admitted = times.len() + late.count();
    let share = times.len() as f64 / admitted as f64;
    // Those that were late take their place at the end.
    times.resize(admitted, Duration::MAX);
    let p99 = match percentile_99(&mut times) {
        Duration::MAX => "late".to_owned(),
        time => format!("{} ms", time.as_millis()),
    };
    let at = |part: f64| {
        memory
            .get((memory.len() as f64 * part) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    println!(
        "{queued:>5}   {:>4} ms   {goodput:>9.1}   {:>5.3}   {admitted:>8}   {share:>7.4}   {p99:>6}   {:.0}, {:.0}, {:.0}",
        deadline.as_millis(),
        goodput / peak,
        at(0.25),
        at(0.5),
        at(0.99),
    );
}

fn percentile_99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times
        .get(last.min(times.len() * 99 / 100))
        .copied()
        .unwrap_or_default()
}

/// Memory that the process has in use, where the system tells.
fn resident_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}
