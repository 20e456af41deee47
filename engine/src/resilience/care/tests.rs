//! The measures together, around an `ask` that is scripted, on a paused clock.

use super::*;
use crate::metrics::Metrics;
use nodes::{Arguments, Context};
use schema::{Cache as CacheSpec, RetryOn, Spanned};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn spanned<T>(value: T) -> Option<Spanned<T>> {
    Some(Spanned::new(value, schema::Span::default()))
}

fn care(spec: PoolSpec) -> Care {
    let metrics = Arc::new(Metrics::new().node("graph", "node"));
    Care::new(&spec, metrics, None).unwrap()
}

fn boxed<'a, F>(
    ask: impl Fn(Input) -> F + Sync + 'a,
) -> impl Fn(Input) -> BoxFuture<'a, Result<Value, NodeError>> + Sync + 'a
where
    F: Future<Output = Result<Value, NodeError>> + Send + 'a,
{
    move |input| Box::pin(ask(input))
}

fn item(n: i64) -> Input {
    Input {
        arguments: Arguments::from_iter([("n", Value::Integer(n))]),
        context: Context::default(),
    }
}

fn retry(max: u32, on: RetryOn) -> PoolSpec {
    PoolSpec {
        retry: spanned(Retry {
            max,
            on: vec![on],
            backoff: Duration::from_millis(100),
        }),
        ..PoolSpec::default()
    }
}

fn down() -> NodeError {
    NodeError::unavailable("down")
}

#[test]
fn a_file_that_asks_for_nothing_gets_nothing() {
    let metrics = Arc::new(Metrics::new().node("graph", "node"));
    assert!(Care::new(&PoolSpec::default(), metrics, None).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_passes_is_not_seen() {
    let care = care(retry(2, RetryOn::Unavailable));
    let tries = &AtomicUsize::new(0);
    let ask = boxed(move |_| async move {
        match tries.fetch_add(1, SeqCst) {
            0 | 1 => Err(down()),
            _ => Ok(Value::None),
        }
    });
    assert!(care.answer(item(1), &ask).await.is_ok());
    assert_eq!(tries.load(SeqCst), 3);
    assert_eq!(care.metrics.retries.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_failures_is_not_doubled() {
    let care = care(retry(1, RetryOn::Unavailable));
    let tries = &AtomicUsize::new(0);
    let ask = boxed(move |_| async move {
        tries.fetch_add(1, SeqCst);
        Err(down())
    });
    let items = (0..1000).map(|n| care.answer(item(n), &ask));
    futures::future::join_all(items).await;
    let tries = tries.load(SeqCst);
    assert!((1100..=1115).contains(&tries), "{tries} tries of 1000");
}

#[tokio::test(start_paused = true)]
async fn there_is_no_try_after_the_deadline() {
    let care = care(retry(1, RetryOn::Failed));
    let mut input = item(1);
    input.context.deadline = Some(Instant::now());
    let tries = &AtomicUsize::new(0);
    let ask = boxed(move |_| async move {
        tries.fetch_add(1, SeqCst);
        Err(NodeError::failed("no"))
    });
    assert!(care.answer(input, &ask).await.is_err());
    assert_eq!(tries.load(SeqCst), 1);
}

fn breaker(spec: PoolSpec) -> PoolSpec {
    PoolSpec {
        breaker: spanned(schema::Breaker {
            window: Duration::from_secs(10),
            errors: 0.5,
            min_requests: 4,
            open: Duration::from_secs(5),
        }),
        ..spec
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_is_left_alone_and_tried_again() {
    let care = care(breaker(PoolSpec::default()));
    let asked = &AtomicUsize::new(0);
    let ask = boxed(move |input: Input| async move {
        asked.fetch_add(1, SeqCst);
        match input.arguments.get("n").as_integer() {
            Some(0) => Err(NodeError::failed("no")),
            _ => Ok(Value::None),
        }
    });
    for _ in 0..4 {
        assert!(care.answer(item(0), &ask).await.is_err());
    }
    let refused = care.answer(item(1), &ask).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the node has failed too often and is left alone for another 5.0s"
    );
    assert_eq!(asked.load(SeqCst), 4);
    sleep(Duration::from_secs(5)).await;
    assert!(care.answer(item(1), &ask).await.is_ok());
    assert!(care.answer(item(1), &ask).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_caller_leaves_does_not_close_the_door() {
    let care = care(breaker(PoolSpec::default()));
    for _ in 0..4 {
        let ask = boxed(move |_| async move { Err(NodeError::failed("no")) });
        assert!(care.answer(item(0), &ask).await.is_err());
    }
    sleep(Duration::from_secs(5)).await;
    let hang = boxed(move |_| async move { std::future::pending().await });
    let left = tokio::time::timeout(Duration::from_secs(1), care.answer(item(1), &hang));
    assert!(left.await.is_err());
    assert!(
        care.answer(item(1), &boxed(move |_| async move { Ok(Value::None) }))
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn retries_stop_at_an_open_breaker() {
    let care = care(breaker(retry(10, RetryOn::Failed)));
    let asked = &AtomicUsize::new(0);
    let ask = boxed(move |_| async move {
        asked.fetch_add(1, SeqCst);
        Err(NodeError::failed("no"))
    });
    let error = care.answer(item(0), &ask).await.unwrap_err();
    let NodeError::Unavailable { retry_after, .. } = error else {
        panic!("{error}");
    };
    let left = retry_after.unwrap();
    assert!((4..=5).contains(&left.as_secs()), "{left:?} of 5 s");
    assert_eq!(asked.load(SeqCst), 4);
}

fn hedge() -> PoolSpec {
    PoolSpec {
        hedge: spanned(schema::Hedge { percentile: 0.95 }),
        ..PoolSpec::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_try_saves_a_slow_item_and_the_slow_one_is_dropped() {
    struct Dropped<'a>(&'a AtomicUsize);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let care = care(hedge());
    let (asked, dropped) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    let ask = boxed(move |_| async move {
        let _dropped = Dropped(dropped);
        let slow = asked.fetch_add(1, SeqCst) == 40;
        let takes = if slow { 10_000 } else { 10 };
        sleep(Duration::from_millis(takes)).await;
        Ok(Value::Boolean(slow))
    });
    for n in 0..40 {
        care.answer(item(n), &ask).await.unwrap();
    }
    let begun = Instant::now();
    let answer = care.answer(item(40), &ask).await.unwrap();
    assert!(matches!(answer, Value::Boolean(false)));
    assert_eq!(begun.elapsed(), Duration::from_millis(20));
    assert_eq!((asked.load(SeqCst), dropped.load(SeqCst)), (42, 42));
    assert_eq!(care.metrics.hedges.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_wins_only_if_both_fail() {
    let care = care(hedge());
    let asked = &AtomicUsize::new(0);
    let ask = boxed(move |_| async move {
        match asked.fetch_add(1, SeqCst) {
            0..40 => {
                sleep(Duration::from_millis(10)).await;
                Ok(Value::None)
            }
            40 => {
                sleep(Duration::from_millis(15)).await;
                Err(down())
            }
            _ => {
                sleep(Duration::from_millis(10)).await;
                Ok(Value::Boolean(true))
            }
        }
    });
    for n in 0..40 {
        care.answer(item(n), &ask).await.unwrap();
    }
    let answer = care.answer(item(40), &ask).await.unwrap();
    assert!(matches!(answer, Value::Boolean(true)));
}

#[tokio::test(start_paused = true)]
async fn a_text_that_breaks_off_counts_as_a_failure() {
    let care = care(breaker(PoolSpec::default()));
    let broken = &std::sync::atomic::AtomicBool::new(true);
    let ask = boxed(move |_| async move {
        let (sink, stream) = nodes::text_stream();
        sink.push("a");
        sink.end(match broken.load(SeqCst) {
            true => Err(down()),
            false => Ok(nodes::Finish {
                reason: nodes::FinishReason::Stop,
                prompt_tokens: 1,
                cached_tokens: 0,
                completion_tokens: 1,
                guessed_tokens: 0,
            }),
        });
        Ok(Value::Stream(stream))
    });
    let read = async |n| match care.answer(item(n), &ask).await? {
        Value::Stream(text) => text.collect().await.map(|(text, _)| text),
        other => panic!("{other:?}"),
    };
    for n in 0..4 {
        assert!(read(n).await.is_err());
    }
    let refused = care.answer(item(5), &ask).await.unwrap_err();
    assert!(refused.to_string().contains("left alone"), "{refused}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    broken.store(false, SeqCst);
    assert_eq!(read(6).await.unwrap(), "a");
    assert_eq!(read(7).await.unwrap(), "a");
}

fn cache(ttl: Duration, bytes: u64) -> PoolSpec {
    PoolSpec {
        cache: spanned(CacheSpec {
            ttl,
            max_bytes: schema::ByteSize(bytes),
        }),
        ..PoolSpec::default()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn equal_items_are_computed_once() {
    let care = care(cache(MINUTE, 1 << 20));
    let asked = &AtomicUsize::new(0);
    let ask = boxed(move |input: Input| async move {
        asked.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        Ok(input.arguments.get("n").clone())
    });
    let items = [1, 2, 1, 1, 2].map(|n| care.answer(item(n), &ask));
    let answers = futures::future::join_all(items).await;
    let numbers: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap().as_integer().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 1, 1, 2]);
    assert_eq!(asked.load(SeqCst), 2);
    assert!(care.answer(item(1), &ask).await.is_ok());
    assert_eq!(asked.load(SeqCst), 2);
    assert_eq!(care.metrics.cache_hits.get(), 4);
    assert_eq!(care.metrics.cache_misses.get(), 2);
}

#[tokio::test]
async fn what_is_old_or_has_failed_is_computed_again() {
    let care = care(cache(Duration::from_millis(30), 1 << 20));
    let asked = &AtomicUsize::new(0);
    let ask = boxed(move |_| async move {
        match asked.fetch_add(1, SeqCst) {
            0 => Err(down()),
            _ => Ok(Value::None),
        }
    });
    assert!(care.answer(item(1), &ask).await.is_err());
    assert!(care.answer(item(1), &ask).await.is_ok());
    assert_eq!(asked.load(SeqCst), 2);
    // The cache has a clock of its own, which cannot be paused.
    std::thread::sleep(Duration::from_millis(60));
    assert!(care.answer(item(1), &ask).await.is_ok());
    assert_eq!(asked.load(SeqCst), 3);
}

#[tokio::test]
async fn a_text_is_remembered_when_it_is_whole() {
    let care = care(cache(MINUTE, 1 << 20));
    let ask = boxed(move |_| async move {
        let (sink, stream) = nodes::text_stream();
        sink.push("a");
        sink.push("b");
        sink.end(Ok(nodes::Finish {
            reason: nodes::FinishReason::Stop,
            prompt_tokens: 1,
            cached_tokens: 0,
            completion_tokens: 2,
            guessed_tokens: 0,
        }));
        Ok(Value::Stream(stream))
    });
    for _ in 0..2 {
        let answer = care.answer(item(1), &ask).await.unwrap();
        assert_eq!(&**answer.as_text().unwrap(), "ab");
    }
    assert_eq!(care.metrics.cache_hits.get(), 1);
}

#[tokio::test]
async fn a_cache_takes_no_more_than_it_may() {
    let care = care(cache(MINUTE, 100_000));
    let ask = boxed(move |_| async move { Ok(Value::text("x".repeat(10_000))) });
    for n in 0..100 {
        care.answer(item(n), &ask).await.unwrap();
    }
    let entries = care.cache.as_ref().unwrap().1.settled().await;
    assert!((1..=9).contains(&entries), "{entries} entries");
}
