//! Tenants that ask after Zipf's law, and one replica that serves them in batches.
//!
//! Every client sends its next request when the last is answered. A request is retrieval, then a turn
//! in a batch. Retrieval and computing are waited for, loading and adding are done.

use crate::shelf::{ADAPTERS, Shelf, name};
use nodes::{
    adapter::Adapter,
    residency::{Prefetch, Residency},
};
use std::{collections::VecDeque, error::Error, fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

const CLIENTS: usize = 32;
const REQUESTS: usize = 4000;
const RETRIEVAL: Duration = Duration::from_millis(20);
/// What a batch computes, whatever its size.
const BATCH: Duration = Duration::from_millis(8);
const LARGEST_BATCH: usize = 8;
/// How many batches may overtake an item.
const PATIENCE: u32 = 4;

/// How adapters come to requests.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// They are loaded from the request's arrival on.
    lookahead: bool,
    /// Items whose adapter is in memory go first.
    grouping: bool,
}

impl Way {
    pub const ALL: [Self; 4] = [
        Self::new(false, false),
        Self::new(false, true),
        Self::new(true, false),
        Self::new(true, true),
    ];

    const fn new(lookahead: bool, grouping: bool) -> Self {
        Self {
            lookahead,
            grouping,
        }
    }

    pub fn name(self) -> &'static str {
        match (self.lookahead, self.grouping) {
            (false, false) => "neither",
            (false, true) => "grouping",
            (true, false) => "lookahead",
            (true, true) => "lookahead and grouping",
        }
    }
}

/// What was seen.
pub struct Outcome {
    times: Vec<Duration>,
    hits: u64,
    misses: u64,
    loads: u64,
    evictions: u64,
    wrong: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |share: f64| {
            let place = (self.times.len() - 1) as f64 * share;
            self.times[place as usize].as_secs_f64() * 1e3
        };
        write!(
            f,
            "{:9.3} {:9.1} {:9.1} {:8} {:10} {:6}",
            self.hits as f64 / (self.hits + self.misses) as f64,
            at(0.5),
            at(0.99),
            self.loads,
            self.evictions,
            self.wrong
        )
    }
}

/// A request that waits for its turn.
struct Item {
    adapter: usize,
    /// Keeps what was loaded ahead.
    _ahead: Option<Prefetch<Adapter>>,
    overtaken: u32,
    answer: oneshot::Sender<bool>,
}

pub async fn run(
    shelf: &Shelf,
    residency: &Residency<Adapter>,
    way: Way,
) -> Result<Outcome, Box<dyn Error>> {
    let (items, waiting) = mpsc::unbounded_channel();
    let choices = zipf(REQUESTS);
    let clients = (0..CLIENTS).map(|client| {
        let own = choices.iter().skip(client).step_by(CLIENTS).copied();
        tokio::spawn(ask(own.collect(), residency.clone(), items.clone(), way))
    });
    let clients: Vec<_> = clients.collect();
    drop(items);
    serve(shelf, residency, waiting, way).await?;
    let (mut times, mut wrong) = (Vec::new(), 0);
    for client in clients {
        for (took, right) in client.await? {
            times.push(took);
            wrong += usize::from(!right);
        }
    }
    times.sort();
    let snapshot = residency.snapshot();
    Ok(Outcome {
        times,
        hits: snapshot.hits,
        misses: snapshot.misses,
        loads: snapshot.loads,
        evictions: snapshot.evictions,
        wrong,
    })
}

/// One client's life: how long each request took, and whether its adapter answered.
async fn ask(
    choices: Vec<usize>,
    residency: Residency<Adapter>,
    items: mpsc::UnboundedSender<Item>,
    way: Way,
) -> Vec<(Duration, bool)> {
    let mut answers = Vec::new();
    for adapter in choices {
        let begun = Instant::now();
        let ahead = way.lookahead.then(|| residency.prefetch(&name(adapter)));
        sleep(RETRIEVAL).await;
        let (answer, answered) = oneshot::channel();
        let item = Item {
            adapter,
            _ahead: ahead,
            overtaken: 0,
            answer,
        };
        let right = match items.send(item) {
            Ok(()) => answered.await.unwrap_or(false),
            Err(_) => false,
        };
        answers.push((begun.elapsed(), right));
    }
    answers
}

/// The replica: a batch when it is free, until nobody can ask any more.
async fn serve(
    shelf: &Shelf,
    residency: &Residency<Adapter>,
    mut items: mpsc::UnboundedReceiver<Item>,
    way: Way,
) -> Result<(), Box<dyn Error>> {
    let mut queue = VecDeque::new();
    loop {
        if queue.is_empty() {
            match items.recv().await {
                Some(item) => queue.push_back(item),
                None => return Ok(()),
            }
        }
        while let Ok(item) = items.try_recv() {
            queue.push_back(item);
        }
        let batch = next(&mut queue, residency, way).await;
        let names: Vec<String> = batch.iter().map(|item| name(item.adapter)).collect();
        let adapters = names.iter().map(|name| residency.get(name));
        let adapters = futures::future::join_all(adapters).await;
        sleep(BATCH).await;
        for (item, adapter) in batch.into_iter().zip(adapters) {
            let adapter: Arc<Adapter> = adapter?;
            let right = shelf.is_right(&adapter, item.adapter)?;
            // A client waits for its answer.
            let _ = item.answer.send(right);
        }
    }
}

/// The oldest, or, where items are grouped, those whose adapter is there before the others.
async fn next(queue: &mut VecDeque<Item>, residency: &Residency<Adapter>, way: Way) -> Vec<Item> {
    let mut chosen = Vec::new();
    for (place, item) in queue.iter().enumerate() {
        if chosen.len() == LARGEST_BATCH {
            break;
        }
        let is_there = residency.peek(&name(item.adapter)).await.is_some();
        if !way.grouping || is_there || item.overtaken >= PATIENCE {
            chosen.push(place);
        }
    }
    // Who computes nothing could as well load.
    if chosen.is_empty() {
        chosen.extend(0..queue.len().min(LARGEST_BATCH));
    }
    let mut batch = Vec::new();
    for place in chosen.into_iter().rev() {
        batch.extend(queue.remove(place));
    }
    for item in queue {
        item.overtaken += 1;
    }
    batch.reverse();
    batch
}

/// Adapters by number, the n-th with a probability in proportion to 1 / n; the same every time.
fn zipf(count: usize) -> Vec<usize> {
    let mut total = 0.0;
    let sums: Vec<f64> = (1..=ADAPTERS)
        .map(|rank| {
            total += 1.0 / rank as f64;
            total
        })
        .collect();
    let mut state = 7_u64;
    let mut random = || {
        // splitmix64 (Steele, Lea and Flood 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut draw = || {
        let point = random() * total;
        sums.partition_point(|sum| *sum < point).min(ADAPTERS - 1)
    };
    (0..count).map(|_| draw()).collect()
}
