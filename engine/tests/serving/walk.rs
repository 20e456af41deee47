//! One request's way through a graph, on a paused clock.

use crate::kit::{Scripted, ask, request, settle, start};
use engine::topology::Topology;
use expect_test::{Expect, expect};
use std::{sync::atomic::Ordering::SeqCst, time::Duration};
use tokio::{sync::mpsc, time::Instant};

const MODEL: &str = "model m { source \"file:m\" }\n";

/// Runs requests one after the other; each line says what came out and after how long.
async fn check(graph: &str, requests: &[&str], expect: Expect) {
    let catalog = Scripted::default();
    let topology = start(&format!("{MODEL}{graph}"), &catalog).await;
    let mut lines = String::new();
    for fields in requests {
        let begun = Instant::now();
        let answer = ask(&topology, request(fields)).await;
        lines += &format!("after {} ms: {answer}\n", begun.elapsed().as_millis());
    }
    settle().await;
    assert_eq!(
        catalog.seen.running.load(SeqCst),
        0,
        "nothing is left running"
    );
    expect.assert_eq(&lines);
}

#[tokio::test(start_paused = true)]
async fn values_keep_their_types_along_a_chain() {
    check(
        r#"
        graph g {
            input { name type=string; n type=integer }
            template a { text "{{ input.n }}" }
            template b { text "{{ [a, a * 2, input.name] }}" }
            template c { text "{{ b[1] }} of {{ b[2] }}" }
            embed v { model m; text "{{ c }}" }
            output { list "{{ b }}"; first "{{ b[0] }}"; text "{{ c }}"; vector "{{ v }}"; fixed 7 }
        }"#,
        &[r#"{"name": "Ada", "n": 21}"#],
        expect![[r#"
            after 0 ms: {"list":[21,42,"Ada"],"first":21,"text":"42 of Ada","vector":[9.0],"fixed":7}
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn branches_run_at_the_same_time_and_a_join_waits() {
    check(
        r#"
        graph g {
            input { a type=string; b type=string }
            embed left  { model m; text "{{ input.a }}" }
            embed right { model m; text "{{ input.b }}" }
            template both { text "{{ [left[0], right[0]] }}" }
            output { both "{{ both }}" }
        }"#,
        &[
            r#"{"a": "sleep 300 x", "b": "sleep 200 yy"}"#,
            r#"{"a": "x", "b": "sleep 200 yy"}"#,
            r#"{"a": "fail early", "b": "sleep 200 yy"}"#,
        ],
        expect![[r#"
            after 300 ms: {"both":[1.0,2.0]}
            after 200 ms: {"both":[1.0,2.0]}
            after 0 ms: error: node `left` of graph `g`: early
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_switch_chooses_and_a_merge_takes_what_ran() {
    check(
        r#"
        graph g {
            input { kind type=string; n type=integer default=0 }
            switch way on="{{ input.kind }}" {
                case "big" when="{{ input.n > 100 }}"
                case "text"
                default "other"
            }
            template a when="{{ way == 'big' }}"  { text "big {{ input.n }}" }
            template b when="{{ way == 'text' }}" { text "a text" }
            template c when="{{ way == 'other' }}" { text "other: {{ way }}" }
            merge m2 { from a b c }
            merge few when="{{ input.n < 50 }}" { from b a }
            output { result "{{ m2 }}"; b "{{ b }}"; few "{{ few }}" }
        }"#,
        &[
            r#"{"kind": "text", "n": 500}"#,
            r#"{"kind": "text", "n": 5}"#,
            r#"{"kind": "what", "n": 5}"#,
        ],
        expect![[r#"
            after 0 ms: {"result":"big 500","b":null,"few":null}
            after 0 ms: {"result":"a text","b":"a text","few":"a text"}
            after 0 ms: {"result":"other: other","b":null,"few":null}
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_reads_a_skipped_node_is_skipped_too() {
    check(
        r#"
        graph g {
            input { n type=integer; hint type=string optional=#true }
            embed v when="{{ input.n > 1 }}" { model m; text "some text" }
            search hits { index i; vector "{{ v }}"; top-k 2 }
            embed hinted { model m; text "{{ input.hint }}" }
            output { hits "{{ hits | length if hits }}"; hinted "{{ hinted }}" }
        }
        index i { path "i"; dimensions 1 }"#,
        &[r#"{"n": 2, "hint": null}"#, r#"{"n": 1, "hint": "four"}"#],
        expect![[r#"
            after 0 ms: {"hits":2,"hinted":null}
            after 0 ms: {"hits":null,"hinted":[4.0]}
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_keeps_order_and_width() {
    let graph = r#"
        graph g {
            input { texts type=list of=string }
            embed v each="{{ input.texts }}" each-width=2 { model m; text "{{ item }}" }
            template t each="{{ input.texts }}" { text "<{{ item }}>" }
            output { v "{{ v }}"; t "{{ t }}" }
        }"#;
    check(
        graph,
        &[
            r#"{"texts": ["sleep 300 a", "sleep 100 bb", "sleep 100 ccc", "sleep 100 dddd"]}"#,
            r#"{"texts": []}"#,
            r#"{"texts": ["a", "sleep 50 b", "fail on the third", "sleep 9999 d"]}"#,
        ],
        expect![[r#"
            after 400 ms: {"v":[[1.0],[2.0],[3.0],[4.0]],"t":["<sleep 300 a>","<sleep 100 bb>","<sleep 100 ccc>","<sleep 100 dddd>"]}
            after 0 ms: {"v":[],"t":[]}
            after 50 ms: error: node `v` of graph `g`: on the third
        "#]],
    )
    .await;

    let catalog = Scripted::default();
    let topology = start(&format!("{MODEL}{graph}"), &catalog).await;
    let many = vec!["sleep 10 x"; 20];
    ask(
        &topology,
        request(&serde_json::json!({ "texts": many }).to_string()),
    )
    .await;
    assert_eq!(catalog.seen.most.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn fallbacks_stand_in_for_what_fails() {
    check(
        r#"
        graph g {
            input { a type=string; b type=string }
            generate value { model m; prompt "{{ input.a }}"; fallback "sorry: {{ input.b }}" }
            generate first { model m; prompt "{{ input.a }}"; fallback node=second }
            generate second { model m; prompt "{{ input.b }}" }
            template after { text "got {{ first }}" }
            output { value "{{ value }}"; after "{{ after }}" }
        }"#,
        &[
            r#"{"a": "all well", "b": "unused"}"#,
            r#"{"a": "down for now", "b": "instead"}"#,
            r#"{"a": "begins well fail!", "b": "instead"}"#,
            r#"{"a": "fail here", "b": "fail there"}"#,
        ],
        expect![[r#"
            after 20 ms: {"value":"all well","after":"got all well"}
            after 10 ms: {"value":"sorry: instead","after":"got instead"}
            after 40 ms: {"value":"sorry: instead","after":"got instead"}
            after 0 ms: error: node `first` of graph `g`: there
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn errors_name_the_node() {
    check(
        r#"
        graph g {
            input { data type=any }
            template part { text "{{ input.data.part }}" }
            embed v { model m; text "{{ part }}" }
            output { v "{{ v }}" }
        }"#,
        &[
            r#"{"data": {"part": "fine"}}"#,
            r#"{"data": {"part": "panic"}}"#,
            r#"{"data": {"part": "fail by itself"}}"#,
            r#"{"data": {}}"#,
            r#"{"data": [1]}"#,
        ],
        expect![[r#"
            after 0 ms: {"v":[4.0]}
            after 0 ms: error: node `v` of graph `g`: the node panicked: as told
            after 0 ms: error: node `v` of graph `g`: by itself
            after 0 ms: error: node `part` of graph `g`: `.data.part` cannot be read: there is no field `part`
            after 0 ms: error: node `part` of graph `g`: `.data.part` cannot be read: a list has no field `part`
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_drops_the_whole_walk() {
    let catalog = Scripted::default();
    let graph = r#"
        graph g {
            input { a type=string }
            embed left  { model m; text "hang" }
            embed right { model m; text "{{ input.a }}" }
            output { l "{{ left }}"; r "{{ right }}" }
        }"#;
    let topology = start(&format!("{MODEL}{graph}"), &catalog).await;
    let mut late = request(r#"{"a": "quick"}"#);
    let begun = Instant::now();
    late.context.deadline = Some(begun + Duration::from_millis(250));
    expect!["error: node `left` of graph `g`: took longer than 250ms"]
        .assert_eq(&ask(&topology, late).await);
    assert_eq!(begun.elapsed(), Duration::from_millis(250));
    settle().await;
    assert_eq!(catalog.seen.dropped.load(SeqCst), 1);
    assert_eq!(catalog.seen.running.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_request_drops_all_that_it_has_under_way() {
    let catalog = Scripted::default();
    let graph = r#"
        graph g {
            input { texts type=list of=string }
            embed v each="{{ input.texts }}" each-width=8 { model m; text "{{ item }}"; max-ongoing-requests 3 }
            generate t { model m; prompt "sleep 5 a b c d e f g" }
            output { v "{{ v }}"; t "{{ t }}" }
        }"#;
    let topology = start(&format!("{MODEL}{graph}"), &catalog).await;
    let run = topology.graphs()[0].prepared();
    let texts = request(r#"{"texts": ["hang", "hang", "hang", "hang", "hang", "hang"]}"#);
    let gone = tokio::time::timeout(Duration::from_millis(30), run.run(texts)).await;
    assert!(gone.is_err());
    settle().await;
    assert_eq!(catalog.seen.running.load(SeqCst), 0);
    assert_eq!(
        catalog.seen.dropped.load(SeqCst),
        3,
        "those that ran, and no other"
    );
    for (node, pool) in run.pools() {
        assert_eq!(pool.status().ongoing, 0, "{node}");
    }
    // The queue's places are free for others.
    let ok = ask(&topology, request(r#"{"texts": ["a"]}"#)).await;
    expect![[r#"{"v":[[1.0]],"t":"a b c d e f g"}"#]].assert_eq(&ok);
}

#[tokio::test(start_paused = true)]
async fn texts_flow_to_the_fields_that_show_them_and_are_whole_for_others() {
    let catalog = Scripted::default();
    let graph = r#"
        graph g {
            input { prompt type=string }
            generate a { model m; prompt "{{ input.prompt }}" }
            template length { text "{{ a | length }}" }
            output { answer "{{ a }}"; again "{{ a }}"; loud "{{ a | upper }}"; length "{{ length }}" }
        }"#;
    let topology = start(&format!("{MODEL}{graph}"), &catalog).await;
    let (sender, mut deltas) = mpsc::channel(100);
    let mut streamed = request(r#"{"prompt": "one two three"}"#);
    streamed.deltas = Some(sender);
    let answer = ask(&topology, streamed).await;
    let mut lines = format!("{answer}\n");
    while let Some(delta) = deltas.recv().await {
        lines += &format!("{}: {:?}\n", delta.field, delta.text);
    }
    expect![[r#"
        {"answer":"one two three","again":"one two three","loud":"ONE TWO THREE","length":13}
        answer: "one "
        again: "one "
        answer: "two "
        again: "two "
        answer: "three"
        again: "three"
    "#]]
    .assert_eq(&lines);
}

#[tokio::test(start_paused = true)]
async fn texts_flow_through_a_merge_when_it_is_clear_what_it_takes() {
    let graph = r#"
        graph g {
            input { way type=string }
            generate a when="{{ input.way != 'b' }}" { model m; prompt "from a" }
            generate b when="{{ input.way != 'a' }}" { model m; prompt "from b" }
            merge either { from a b }
            output { answer "{{ either }}" }
        }"#;
    let catalog = Scripted::default();
    let topology = start(&format!("{MODEL}{graph}"), &catalog).await;
    let mut lines = String::new();
    for way in ["a", "b", "both"] {
        let (sender, mut deltas) = mpsc::channel(100);
        let mut streamed = request(&format!(r#"{{"way": "{way}"}}"#));
        streamed.deltas = Some(sender);
        lines += &format!("{way}: {}\n", ask(&topology, streamed).await);
        while let Some(delta) = deltas.recv().await {
            lines += &format!("   {}: {:?}\n", delta.field, delta.text);
        }
    }
    expect![[r#"
        a: {"answer":"from a"}
           answer: "from "
           answer: "a"
        b: {"answer":"from b"}
           answer: "from "
           answer: "b"
        both: {"answer":"from a"}
           answer: "from "
           answer: "a"
    "#]]
    .assert_eq(&lines);
}

#[tokio::test(start_paused = true)]
async fn every_node_that_cannot_start_is_named() {
    let graph = r#"
        model broken { source "file:m" }
        graph g {
            input { a type=string }
            embed x { model broken; text "{{ input.a }}" }
            embed y { model m; text "{{ input.a }}" }
            generate z { model broken; prompt "{{ input.a }}" }
            output { x "{{ x }}"; y "{{ y }}"; z "{{ z }}" }
        }"#;
    let program = crate::kit::program(&format!("{MODEL}{graph}"));
    let metrics = engine::metrics::Metrics::new();
    let errors = Topology::start(1, program, Scripted::default().shared(), &metrics)
        .await
        .unwrap_err();
    let merge = r#"
        graph h {
            input { l type=list of=string }
            template a { text "x" }
            template b when="{{ input.l | length > 1 }}" { text "y" }
            merge m each="{{ input.l }}" { from b a }
            output { m "{{ m }}" }
        }"#;
    let program = crate::kit::program(merge);
    let more = Topology::start(1, program, Scripted::default().shared(), &metrics).await;
    let errors = errors.into_iter().chain(more.unwrap_err());
    let lines: Vec<_> = errors.map(|error| error.to_string()).collect();
    expect![[r#"
        node `x` of graph `g` cannot be started: its file is damaged
        node `z` of graph `g` cannot be started: its file is damaged
        node `m` of graph `h` cannot be started: a merge runs once, so `each` means nothing for it"#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_fails_the_request_that_meets_it() {
    let catalog = Scripted::default();
    let graph = r#"
        graph g {
            input { a type=string }
            embed v { model m; text "{{ input.a }}"; max-ongoing-requests 1; max-queued-requests 1 }
            output { v "{{ v }}" }
        }"#;
    let topology = start(&format!("{MODEL}{graph}"), &catalog).await;
    let many = (0..4).map(|_| ask(&topology, request(r#"{"a": "sleep 100 x"}"#)));
    let answers = futures::future::join_all(many).await;
    expect![[r#"
        {"v":[1.0]}
        {"v":[1.0]}
        error: node `v` of graph `g`: too many requests are waiting
        error: node `v` of graph `g`: too many requests are waiting"#]]
    .assert_eq(&answers.join("\n"));
    assert_eq!(*catalog.seen.texts.lock().unwrap(), ["sleep 100 x"; 2]);
}
