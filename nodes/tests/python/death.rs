//! Workers that die, hang or take too much.

use crate::kit::{ask, file, gone, input, is_alive, kill, say, start, within};
use nodes::{Node, NodeError, Value};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

const FRAIL: &str = "
import ctypes, os, signal, sys, time, asyncio

def f(x):
    if x == 'pid':
        return os.getpid()
    if x == 'exit':
        sys.exit(7)
    if x == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if x == 'segfault':
        ctypes.string_at(0)
    if x == 'hang':
        time.sleep(600)
    if x == 'much':
        return len(bytearray(1 << 34))
    return x

cancelled = 0
async def later(x):
    global cancelled
    if x == 'sleep':
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled += 1
            raise
    return cancelled if x == 'cancelled' else f(x)
";

async fn pid(node: &Arc<dyn Node>) -> i64 {
    let pid = ask(node, &[("x", Value::text("pid"))]).await;
    pid.unwrap().as_integer().unwrap()
}

fn lost(answer: Result<Value, NodeError>) -> (String, bool) {
    match answer {
        Err(NodeError::Lost { reason, begun }) => (reason, begun),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_death_says_how() {
    for function in ["f", "later"] {
        for (way, says) in [
            ("exit", "exit status: 7"),
            ("kill", "signal: 9"),
            ("segfault", "signal: 11"),
        ] {
            let node = start(&file(FRAIL), &format!("function {function:?}")).await;
            let ended = node.ended().unwrap();
            let (reason, begun) = lost(ask(&node, &[("x", Value::text(way))]).await);
            assert!(reason.contains(says), "{function} {way}: {reason}");
            assert!(begun);
            lost(Err(ended.await));
            // What comes later is not to blame.
            let (_, begun) = lost(ask(&node, &[("x", Value::text("a"))]).await);
            assert!(!begun);
        }
    }
}

#[tokio::test]
async fn an_idle_worker_that_dies_is_noticed() {
    let node = start(&file(FRAIL), r#"function "f""#).await;
    let ended = node.ended().unwrap();
    kill(pid(&node).await);
    let (reason, _) = lost(Err(ended.await));
    assert!(reason.contains("signal: 9"), "{reason}");
}

#[tokio::test]
async fn what_waits_behind_a_dying_call_has_not_begun() {
    let node = start(&file(FRAIL), r#"function "f""#).await;
    let pid = pid(&node).await;
    let batch = ["hang", "a"].map(|x| input(&[("x", Value::text(x))]));
    let run = node.run(batch.to_vec());
    let killer = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        kill(pid);
    };
    let (answers, ()) = tokio::join!(run, killer);
    let begun: Vec<bool> = answers.into_iter().map(|answer| lost(answer).1).collect();
    assert_eq!(begun, [true, false]);
}

#[tokio::test]
async fn a_call_that_outlives_its_deadline_is_killed() {
    let node = start(&file(FRAIL), r#"function "f""#).await;
    let ended = node.ended().unwrap();
    let pid = pid(&node).await;
    let item = input(&[("x", Value::text("hang"))]);
    let item = within(item, Duration::from_millis(100));
    let given_up = tokio::time::timeout(Duration::from_millis(150), node.run(vec![item])).await;
    assert!(given_up.is_err());
    let (reason, _) = lost(Err(ended.await));
    assert!(reason.contains("took too long"), "{reason}");
    gone(pid).await;
}

#[tokio::test]
async fn a_coroutine_that_nobody_waits_for_is_cancelled() {
    let node = start(&file(FRAIL), r#"function "later""#).await;
    let pid_before = pid(&node).await;
    let item = input(&[("x", Value::text("sleep"))]);
    let given_up = tokio::time::timeout(Duration::from_millis(50), node.run(vec![item])).await;
    assert!(given_up.is_err());
    let until = Instant::now() + Duration::from_secs(60);
    while say(&node, &[("x", Value::text("cancelled"))]).await != "1" {
        assert!(Instant::now() < until, "it was not cancelled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(pid(&node).await, pid_before);
}

#[tokio::test]
async fn memory_is_limited() {
    let node = start(&file(FRAIL), r#"function "f"; resources memory="1GiB""#).await;
    let said = say(&node, &[("x", Value::text("much"))]).await;
    assert!(said.contains("MemoryError"), "{said}");
    assert_eq!(say(&node, &[("x", Value::text("a"))]).await, r#""a""#);
}

#[tokio::test]
async fn a_worker_ends_with_its_node() {
    let node = start(&file(FRAIL), r#"function "f""#).await;
    let pid = pid(&node).await;
    assert!(is_alive(pid));
    drop(node);
    gone(pid).await;
}

#[tokio::test]
async fn a_worker_says_that_it_is_well_and_what_memory_it_takes() {
    for function in ["f", "later"] {
        let node = start(&file(FRAIL), &format!("function {function:?}")).await;
        node.check().await.unwrap();
        assert!(node.memory().unwrap() > 1 << 20);
        kill(pid(&node).await);
        lost(Err(node.ended().unwrap().await));
        assert!(node.check().await.is_err());
    }
}
