//! Items that would rather be where something is in memory.

use super::*;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};

/// Which replicas have run items of a name.
type Seen = Arc<Mutex<BTreeMap<String, BTreeSet<u64>>>>;

/// One of several replicas, each of which keeps models of its own.
struct Keeper {
    number: u64,
    takes: Duration,
    seen: Seen,
}

impl Node for Keeper {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        for item in &batch {
            let name = self.seeks(item).unwrap_or_default().to_string();
            self.seen
                .lock()
                .unwrap()
                .entry(name)
                .or_default()
                .insert(self.number);
        }
        Box::pin(async move {
            sleep(self.takes).await;
            batch.iter().map(|_| Ok(Value::None)).collect()
        })
    }

    fn running(&self) -> Running {
        Running::OneItem
    }

    fn seeks(&self, item: &Input) -> Option<Arc<str>> {
        item.arguments.get("name").as_text().cloned()
    }
}

async fn keepers(replicas: u32, takes: Duration) -> (Pool, Seen) {
    let seen = Seen::default();
    let given = Arc::clone(&seen);
    let mut spec = spec(64, None);
    spec.replicas.min = spanned(replicas);
    spec.replicas.max = spanned(replicas);
    let pool = started(&spec, move |number| {
        let seen = Arc::clone(&given);
        Ok(Arc::new(Keeper {
            number,
            takes,
            seen,
        }))
    });
    (pool.await, seen)
}

fn item(name: impl Into<String>) -> Input {
    Input {
        arguments: Arguments::from_iter([("name", Value::text(name.into()))]),
        context: nodes::Context::default(),
    }
}

fn seen_by(seen: &Seen, name: &str) -> usize {
    seen.lock().unwrap().get(name).map_or(0, BTreeSet::len)
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_asked_for_rarely_stays_where_it_is() {
    let (pool, seen) = keepers(4, Duration::from_millis(1)).await;
    for _ in 0..5 {
        for name in 0..12 {
            pool.answer(item(format!("n{name}"))).await.unwrap();
        }
    }
    let seen = seen.lock().unwrap();
    assert!(
        seen.values().all(|replicas| replicas.len() == 1),
        "{seen:?}"
    );
    let used: BTreeSet<_> = seen.values().flatten().collect();
    assert!(used.len() > 2, "twelve names are spread: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_asked_for_often_spreads() {
    let (pool, seen) = keepers(4, Duration::from_secs(1)).await;
    let answers = join_all((0..16).map(|_| pool.answer(item("hot")))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(seen_by(&seen, "hot"), 4);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_the_replica_that_is_best() {
    let (pool, seen) = keepers(2, Duration::from_secs(10)).await;
    let begun = Instant::now();
    // Of two, both belong to the same replica, and the other is free.
    let (first, second) = futures::join!(pool.answer(item("a")), pool.answer(item("a")));
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(seen_by(&seen, "a"), 2);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(11), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_seeks_nothing_takes_any_replica() {
    let (pool, seen) = keepers(3, Duration::from_secs(1)).await;
    let plain = || Input {
        arguments: Arguments::default(),
        context: nodes::Context::default(),
    };
    join_all((0..3).map(|_| pool.answer(plain()))).await;
    assert_eq!(seen_by(&seen, ""), 3);
}
