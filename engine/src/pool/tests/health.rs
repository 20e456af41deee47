//! Replicas that are asked how they are, and those that have served long enough.

use super::*;
use schema::{ByteSize, Recycle};
use tokio::sync::watch;

/// A node that runs when it is let, and says how it is when it is asked.
struct Asked {
    gate: watch::Receiver<bool>,
    well: Arc<AtomicBool>,
    questions: Arc<AtomicU64>,
    memory: Option<Arc<AtomicU64>>,
}

impl Node for Asked {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        let mut gate = self.gate.clone();
        Box::pin(async move {
            gate.wait_for(|open| *open).await.unwrap();
            batch.iter().map(|_| Ok(Value::None)).collect()
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), NodeError>> {
        self.questions.fetch_add(1, Relaxed);
        Box::pin(async move {
            match self.well.load(Relaxed) {
                true => Ok(()),
                false => std::future::pending().await,
            }
        })
    }

    fn memory(&self) -> Option<u64> {
        self.memory.as_ref().map(|bytes| bytes.load(Relaxed))
    }
}

/// What the tests hold of such nodes.
struct Hospital {
    pool: Pool,
    gate: watch::Sender<bool>,
    well: Arc<AtomicBool>,
    questions: Arc<AtomicU64>,
    memory: Arc<AtomicU64>,
}

async fn hospital(spec: &PoolSpec) -> Hospital {
    let (gate, shared) = watch::channel(true);
    let well = Arc::new(AtomicBool::new(true));
    let (questions, memory) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(100)));
    let node = (
        Arc::clone(&well),
        Arc::clone(&questions),
        Arc::clone(&memory),
    );
    let build = move |_| {
        Ok(Arc::new(Asked {
            gate: shared.clone(),
            well: Arc::clone(&node.0),
            questions: Arc::clone(&node.1),
            memory: Some(Arc::clone(&node.2)),
        }) as Arc<dyn Node>)
    };
    Hospital {
        pool: started(spec, build).await,
        gate,
        well,
        questions,
        memory,
    }
}

impl Hospital {
    fn starts(&self) -> u64 {
        self.pool.metrics().starts.get()
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_replica_is_asked_and_replaced_when_it_does_not_answer() {
    let mut spec = spec(9, Some(1));
    spec.health_check_period = Some(spanned(Duration::from_secs(2)));
    let hospital = hospital(&spec).await;
    sleep(Duration::from_secs(21)).await;
    let asked = hospital.questions.load(Relaxed);
    assert!((7..=10).contains(&asked), "{asked} times");
    assert_eq!(hospital.starts(), 1);
    hospital.well.store(false, Relaxed);
    sleep(Duration::from_secs(5)).await;
    assert!(hospital.starts() >= 2);
    hospital.well.store(true, Relaxed);
    assert!(hospital.pool.answer(item(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_callers_have_all_left_is_asked_and_not_condemned() {
    let hospital = hospital(&spec(9, Some(1))).await;
    hospital.gate.send(false).unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(1), hospital.pool.answer(item(1)));
    assert!(asked.await.is_err());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(hospital.questions.load(Relaxed), 1);
    assert_eq!(hospital.starts(), 1);

    // Now it is stuck: with a file that says nothing it has half a minute.
    hospital.well.store(false, Relaxed);
    let asked = tokio::time::timeout(Duration::from_secs(1), hospital.pool.answer(item(1)));
    assert!(asked.await.is_err());
    sleep(Duration::from_secs(25)).await;
    assert_eq!(hospital.starts(), 1);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(hospital.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_batch_is_left_alone_where_the_file_says_nothing() {
    let hospital = hospital(&spec(9, Some(1))).await;
    hospital.gate.send(false).unwrap();
    let asked = hospital.pool.answer(item(1));
    let opened = async {
        sleep(Duration::from_secs(3600)).await;
        hospital.gate.send(true).unwrap();
    };
    let (answer, ()) = tokio::join!(asked, opened);
    assert!(answer.is_ok());
    assert_eq!(hospital.starts(), 1);
}

fn recycled(recycle: Recycle) -> PoolSpec {
    let mut spec = spec(99, Some(1));
    spec.recycle = Some(spanned(recycle));
    spec.replicas.min = spanned(2);
    spec.replicas.max = spanned(2);
    spec
}

const NEVER: Recycle = Recycle {
    requests: None,
    age: None,
    memory_growth: None,
};

#[tokio::test(start_paused = true)]
async fn a_replica_that_has_served_goes_when_a_fresh_one_stands() {
    let spec = recycled(Recycle {
        requests: Some(50),
        ..NEVER
    });
    let hospital = hospital(&spec).await;
    let fewest = Arc::new(AtomicUsize::new(usize::MAX));
    let (pool, seen) = (hospital.pool.clone(), Arc::clone(&fewest));
    let watch = tokio::spawn(async move {
        loop {
            seen.fetch_min(pool.status().replicas, Relaxed);
            sleep(Duration::from_millis(10)).await;
        }
    });
    for n in 0..1000 {
        assert!(hospital.pool.answer(item(n)).await.is_ok());
        sleep(Duration::from_millis(100)).await;
    }
    watch.abort();
    assert_eq!(fewest.load(Relaxed), 2, "there are always two");
    let starts = hospital.starts();
    assert!((10..=22).contains(&starts), "{starts} replicas");
    settle().await;
    assert_eq!(hospital.pool.status().replicas, 2);
    assert_eq!(hospital.pool.status().answered, 1000);
}

#[tokio::test(start_paused = true)]
async fn age_and_memory_wear_a_replica_out() {
    let spec = recycled(Recycle {
        age: Some(Duration::from_secs(60)),
        ..NEVER
    });
    let old = hospital(&spec).await;
    sleep(Duration::from_secs(58)).await;
    assert_eq!(old.starts(), 2);
    sleep(Duration::from_secs(10)).await;
    assert_eq!((old.starts(), old.pool.status().replicas), (4, 2));

    let spec = recycled(Recycle {
        memory_growth: Some(ByteSize(1000)),
        ..NEVER
    });
    let grown = hospital(&spec).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(grown.starts(), 2);
    grown.memory.store(1100, Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert_eq!((grown.starts(), grown.pool.status().replicas), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_worn_replica_holds_is_finished() {
    let mut spec = recycled(Recycle {
        age: Some(Duration::from_secs(5)),
        ..NEVER
    });
    spec.replicas.min = spanned(1);
    spec.replicas.max = spanned(1);
    let hospital = hospital(&spec).await;
    hospital.gate.send(false).unwrap();
    let asked = hospital.pool.answer(item(1));
    let meanwhile = async {
        sleep(Duration::from_secs(9)).await;
        let status = hospital.pool.status();
        assert_eq!((status.replicas, status.ongoing), (1, 1));
        assert_eq!(hospital.pool.metrics().replicas_leaving.get(), 1);
        hospital.gate.send(true).unwrap();
    };
    let (answer, ()) = tokio::join!(asked, meanwhile);
    assert!(answer.is_ok());
    assert!(hospital.starts() >= 2);
}

#[tokio::test]
async fn memory_that_cannot_be_told_is_not_bounded_in_silence() {
    let mut spec = recycled(Recycle {
        memory_growth: Some(ByteSize(1000)),
        ..NEVER
    });
    spec.replicas.min = spanned(1);
    let ledger = Ledger::new(crate::load::machine());
    let built = started_on(&ledger, &spec, |_| {
        Ok(Arc::new(Scripted {
            running: Running::ManyItems,
            takes: Duration::ZERO,
            gate: None,
            batches: Arc::default(),
            script: echo,
        }) as Arc<dyn Node>)
    });
    let error = built.await.unwrap_err().to_string();
    assert!(
        error.starts_with("`recycle memory-growth` is for replicas"),
        "{error}"
    );
}
