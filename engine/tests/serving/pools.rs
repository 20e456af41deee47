//! What a file says of a node's pool, from the text to what a request meets.

use crate::kit::{Scripted, ask, request, settle, start};
use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

/// A graph with one `generate` that does what its prompt says, with these options.
fn graph(options: &str) -> String {
    format!(
        r#"
        model m {{ source "file:m" }}
        graph g {{
            input {{ a type=string }}
            generate t {{ model m; prompt "{{{{ input.a }}}}"; {options} }}
            output {{ t "{{{{ t }}}}" }}
        }}"#
    )
}

fn texts(catalog: &Scripted) -> usize {
    catalog.seen.texts.lock().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn a_fallback_stands_in_when_the_last_try_has_failed() {
    let catalog = Scripted::default();
    let options = r#"retry max=2 on=unavailable; fallback "sorry""#;
    let topology = start(&graph(options), &catalog).await;
    let answer = ask(&topology, request(r#"{"a": "down for now"}"#)).await;
    assert_eq!(answer, r#"{"t":"sorry"}"#);
    assert_eq!(texts(&catalog), 3);
}

#[tokio::test(start_paused = true)]
async fn each_try_has_the_whole_timeout() {
    let catalog = Scripted::default();
    let options = r#"timeout "1s"; retry max=1 on=timeout backoff="0s""#;
    let topology = start(&graph(options), &catalog).await;
    let begun = tokio::time::Instant::now();
    let answer = ask(&topology, request(r#"{"a": "hang"}"#)).await;
    assert_eq!(answer, "error: node `t` of graph `g`: took longer than 1s");
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert_eq!(texts(&catalog), 2);
    settle().await;
    assert_eq!(catalog.seen.running.load(SeqCst), 0);
}

#[tokio::test]
async fn an_answer_is_remembered() {
    let catalog = Scripted::default();
    let topology = start(&graph(r#"cache ttl="1m" max-bytes="1MiB""#), &catalog).await;
    for _ in 0..3 {
        let answer = ask(&topology, request(r#"{"a": "one two"}"#)).await;
        assert_eq!(answer, r#"{"t":"one two"}"#);
    }
    assert_eq!(texts(&catalog), 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_saves_the_node() {
    let catalog = Scripted::default();
    let options = r#"breaker min-requests=3 errors=0.5 open="5s""#;
    let topology = start(&graph(options), &catalog).await;
    for _ in 0..5 {
        ask(&topology, request(r#"{"a": "fail now"}"#)).await;
    }
    assert_eq!(texts(&catalog), 3);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        ask(&topology, request(r#"{"a": "well"}"#)).await,
        r#"{"t":"well"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn what_panics_fails_alone_and_the_node_goes_on() {
    let catalog = Scripted::default();
    let topology = start(&graph(""), &catalog).await;
    let answer = ask(&topology, request(r#"{"a": "panic"}"#)).await;
    assert_eq!(
        answer,
        "error: node `t` of graph `g`: the node panicked: as told"
    );
    assert_eq!(texts(&catalog), 2, "it was tried on another replica");
    ask(&topology, request(r#"{"a": "panic"}"#)).await;
    assert_eq!(texts(&catalog), 2, "it is known by now");
    assert_eq!(
        ask(&topology, request(r#"{"a": "well"}"#)).await,
        r#"{"t":"well"}"#
    );
    assert_eq!(topology.unhealthy(), [""; 0]);
}

/// A graph whose second node has room for one at a time, and for three that wait.
const TWO_STEPS: &str = r#"
model m { source "file:m" }
graph g {
    input { a type=string }
    embed e { model m; text "first" }
    generate t {
        model m; prompt "{{ input.a }} {{ e | length }}"
        max-ongoing-requests 1; max-queued-requests 3
    }
    output { t "{{ t }}" }
}"#;

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_busy_node_has_not_begun() {
    let catalog = Scripted::default();
    let topology = Arc::new(start(TWO_STEPS, &catalog).await);
    let asked: Vec<_> = (0..10)
        .map(|_| {
            let topology = Arc::clone(&topology);
            tokio::spawn(async move { ask(&topology, request(r#"{"a": "hang"}"#)).await })
        })
        .collect();
    settle().await;
    let begun = || {
        let texts = catalog.seen.texts.lock().unwrap();
        texts.iter().filter(|text| *text == "first").count()
    };
    assert_eq!(begun(), 2, "one runs, one is about to");
    let refused = asked.iter().filter(|asked| asked.is_finished()).count();
    assert_eq!(refused, 6, "one runs and three wait");
    let pools: Vec<_> = topology.graphs()[0].prepared().pools().collect();
    assert_eq!(
        (pools[1].1.status().ongoing, pools[1].1.status().queued),
        (1, 3)
    );
    for asked in asked {
        match asked.is_finished() {
            true => assert_eq!(
                asked.await.unwrap(),
                "error: node `t` of graph `g`: too many requests are waiting"
            ),
            false => asked.abort(),
        }
    }
    settle().await;
    let answer = ask(&topology, request(r#"{"a": "well"}"#)).await;
    assert_eq!(answer, r#"{"t":"well 1"}"#);
    assert_eq!(begun(), 3);
}
