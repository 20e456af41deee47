//! Small scenarios, and what is printed of them.

use super::*;
use expect_test::{Expect, expect};
use graphs::{Facts, Program};
use schema::{Source, SourceId, Sources};
use std::time::Duration;

fn program(text: &str) -> Program {
    let source = Source {
        id: SourceId(0),
        name: "graph.kdl".to_owned(),
        text: text.to_owned(),
    };
    let (document, problems) = schema::parse(&source, &|_| None);
    assert!(problems.is_empty(), "{problems:?}");
    graphs::check(document, &Facts::default()).unwrap()
}

/// A graph of one model with these options of its pool.
fn one(options: &str) -> Program {
    program(&format!(
        r#"
model minilm {{ source "hf:sentence-transformers/all-MiniLM-L6-v2" }}
graph similar {{
    input {{ text type=string }}
    embed vector {{ model minilm; text "{{{{ input.text }}}}"; {options} }}
    output {{ vector "{{{{ vector }}}}" }}
}}
"#
    ))
}

/// Runs a trace of evenly spaced requests; `assume` changes what is assumed of the nodes.
fn run(program: &Program, trace: &str, assume: impl Fn(&str, &mut Assumed)) -> Record {
    let mut sources = Sources::default();
    let id = sources.add("trace.csv", trace);
    let trace = Trace::parse(sources.get(id).unwrap()).unwrap();
    let graph = &program.graphs()[0];
    let assumed = graph.nodes().map(|(_, node)| {
        let mut assumed = Assumed::default_for(node);
        assume(node.decl.id.value.as_str(), &mut assumed);
        assumed
    });
    let assumed: Vec<_> = assumed.collect();
    let machine = Machine {
        cpus: 8.0,
        gpus: 0.0,
        memory: 64 << 30,
    };
    let scenario = Scenario {
        graph,
        trace: &trace,
        spacing: Spacing::Even,
        assumed: &assumed,
        machine,
        policy: None,
        seed: 1,
    };
    simulate(&scenario).unwrap()
}

fn check(options: &str, trace: &str, service: &str, expected: Expect) {
    let program = one(options);
    let record = run(&program, trace, |_, assumed| {
        assumed.service = service.parse().unwrap();
    });
    expected.assert_eq(&text(&record));
}

const SCALED: &str = "batch max-size=1; replicas min=1 max=6 target-ongoing-requests=2 \
    upscale-delay=\"5s\" downscale-delay=\"20s\" look-back=\"2s\"";

/// 5 requests a second, then 40 for a minute, then 5 again; one replica does ten a second.
const STEP: &str = "time,rate\n0,5\n20,40\n80,5\n140,0\n";

/// A peak of three seconds.
const SPIKE: &str = "time,rate\n0,5\n20,60\n23,5\n80,0\n";

#[test]
fn a_step_under_the_default_policy() {
    check(
        SCALED,
        STEP,
        "100ms",
        expect![[r#"
            similar: 2799 requests in 140 s

              answered       2728   97.5 %
              refused          71    2.5 %
              too late          0    0.0 %
              latency     p50 100 ms  p95 8.2 s  p99 8.3 s  max 8.3 s

            embed vector: takes 100ms, starts in 2s
              1 to 6 replicas, 438.9 replica-seconds; 2728 batches of 1.0
              waited p50 0 p99 8.2 s; at most 256 waiting; 71 refused, 0 too late

                 time   offered  answered  refused too late      p50      p99            vector
                             /s        /s                                      replicas waiting
                  0 s       4.9       4.9        0        0   100 ms   100 ms         1       0
                 10 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 20 s      40.0      38.1       19        0    8.2 s    8.3 s         2     256
                 30 s      40.0      34.8       52        0    5.0 s    7.7 s         6     256
                 40 s      40.0      40.0        0        0    1.9 s    3.5 s         6     210
                 50 s      40.0      40.0        0        0   100 ms   200 ms         6      10
                 60 s      40.0      40.0        0        0   100 ms   100 ms         6       0
                 70 s      40.0      40.0        0        0   100 ms   100 ms         5       0
                 80 s       5.0       5.0        0        0   100 ms   100 ms         5       0
                 90 s       5.0       5.0        0        0   100 ms   100 ms         2       0
                100 s       5.0       5.0        0        0   100 ms   100 ms         2       0
                110 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                120 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                130 s       5.0       5.0        0        0   100 ms   100 ms         1       0
        "#]],
    );
}

#[test]
fn a_step_under_ray() {
    let options = format!("{SCALED} policy=ray");
    check(
        &options,
        STEP,
        "100ms",
        expect![[r#"
            similar: 2799 requests in 140 s

              answered       2799  100.0 %
              refused           0    0.0 %
              too late          0    0.0 %
              latency     p50 100 ms  p95 4.7 s  p99 5.5 s  max 5.7 s

            embed vector: takes 100ms, starts in 2s
              1 to 6 replicas, 465.7 replica-seconds; 2799 batches of 1.0
              waited p50 0 p99 5.4 s; at most 225 waiting; 0 refused, 0 too late

                 time   offered  answered  refused too late      p50      p99            vector
                             /s        /s                                      replicas waiting
                  0 s       4.9       4.9        0        0   100 ms   100 ms         1       0
                 10 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 20 s      40.0      40.0        0        0    4.2 s    5.7 s         6     225
                 30 s      40.0      40.0        0        0    1.3 s    3.0 s         6     175
                 40 s      40.0      40.0        0        0   100 ms   100 ms         6       0
                 50 s      40.0      40.0        0        0   100 ms   500 ms         2      10
                 60 s      40.0      40.0        0        0    2.5 s    3.6 s         6     144
                 70 s      40.0      40.0        0        0   100 ms    1.4 s         6      78
                 80 s       5.0       5.0        0        0   100 ms   100 ms         6       0
                 90 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                100 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                110 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                120 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                130 s       5.0       5.0        0        0   100 ms   100 ms         1       0
        "#]],
    );
}

#[test]
fn a_spike_under_the_default_policy() {
    check(
        SCALED,
        SPIKE,
        "100ms",
        expect![[r#"
            similar: 564 requests in 80 s

              answered        564  100.0 %
              refused           0    0.0 %
              too late          0    0.0 %
              latency     p50 100 ms  p95 9.0 s  p99 9.6 s  max 9.7 s

            embed vector: takes 100ms, starts in 2s
              1 to 4 replicas, 199.7 replica-seconds; 564 batches of 1.0
              waited p50 0 p99 9.5 s; at most 150 waiting; 0 refused, 0 too late

                 time   offered  answered  refused too late      p50      p99            vector
                             /s        /s                                      replicas waiting
                  0 s       4.8       4.8        0        0   100 ms   100 ms         1       0
                  5 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 10 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 15 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 20 s      38.0      38.0        0        0    6.9 s    9.7 s         1     150
                 25 s       5.0       5.0        0        0    5.8 s    7.9 s         2     141
                 30 s       5.0       5.0        0        0    1.4 s    3.5 s         4      90
                 35 s       5.0       5.0        0        0   100 ms   100 ms         4       0
                 40 s       5.0       5.0        0        0   100 ms   100 ms         4       0
                 45 s       5.0       5.0        0        0   100 ms   100 ms         4       0
                 50 s       5.0       5.0        0        0   100 ms   100 ms         4       0
                 55 s       5.0       5.0        0        0   100 ms   100 ms         3       0
                 60 s       5.0       5.0        0        0   100 ms   100 ms         3       0
                 65 s       5.0       5.0        0        0   100 ms   100 ms         3       0
                 70 s       5.0       5.0        0        0   100 ms   100 ms         3       0
                 75 s       5.0       5.0        0        0   100 ms   100 ms         1       0
        "#]],
    );
}

#[test]
fn a_spike_under_ray() {
    let options = format!("{SCALED} policy=ray");
    check(
        &options,
        SPIKE,
        "100ms",
        expect![[r#"
            similar: 564 requests in 80 s

              answered        564  100.0 %
              refused           0    0.0 %
              too late          0    0.0 %
              latency     p50 100 ms  p95 6.2 s  p99 6.3 s  max 6.3 s

            embed vector: takes 100ms, starts in 2s
              1 to 6 replicas, 208.0 replica-seconds; 564 batches of 1.0
              waited p50 0 p99 6.2 s; at most 150 waiting; 0 refused, 0 too late

                 time   offered  answered  refused too late      p50      p99            vector
                             /s        /s                                      replicas waiting
                  0 s       4.8       4.8        0        0   100 ms   100 ms         1       0
                  5 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 10 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 15 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 20 s      38.0      38.0        0        0    6.2 s    6.3 s         1     150
                 25 s       5.0       5.0        0        0    2.2 s    4.4 s         6     141
                 30 s       5.0       5.0        0        0   100 ms   100 ms         6       0
                 35 s       5.0       5.0        0        0   100 ms   100 ms         6       0
                 40 s       5.0       5.0        0        0   100 ms   100 ms         6       0
                 45 s       5.0       5.0        0        0   100 ms   100 ms         6       0
                 50 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 55 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 60 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 65 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 70 s       5.0       5.0        0        0   100 ms   100 ms         1       0
                 75 s       5.0       5.0        0        0   100 ms   100 ms         1       0
        "#]],
    );
}

#[test]
fn to_zero_and_back() {
    check(
        "batch max-size=8; replicas min=0 max=4 target-ongoing-requests=4 upscale-delay=\"2s\" \
         downscale-delay=\"10s\" downscale-to-zero-delay=\"5s\" look-back=\"1s\"",
        "time,rate\n0,0\n5,19\n15,0\n45,19\n55,0\n",
        "20ms + 2ms/item",
        expect![[r#"
            similar: 379 requests in 55 s

              answered        379  100.0 %
              refused           0    0.0 %
              too late          0    0.0 %
              latency     p50 22 ms  p95 1.6 s  p99 2.0 s  max 2.1 s

            embed vector: takes 20ms + 2ms/item, starts in 2s
              0 to 2 replicas, 45.9 replica-seconds; 305 batches of 1.2
              waited p50 0 p99 2.0 s; at most 39 waiting; 0 refused, 0 too late

                 time   offered  answered  refused too late      p50      p99            vector
                             /s        /s                                      replicas waiting
                  0 s       0.0       0.0        0        0        -        -         0       0
                  5 s      18.8      18.8        0        0    22 ms    2.1 s         2      39
                 10 s      19.0      19.0        0        0    22 ms    22 ms         2       0
                 15 s       0.2       0.2        0        0    22 ms    22 ms         1       0
                 20 s       0.0       0.0        0        0        -        -         0       0
                 25 s       0.0       0.0        0        0        -        -         0       0
                 30 s       0.0       0.0        0        0        -        -         0       0
                 35 s       0.0       0.0        0        0        -        -         0       0
                 40 s       0.0       0.0        0        0        -        -         0       0
                 45 s      18.8      18.8        0        0    22 ms    2.1 s         2      39
                 50 s      19.0      19.0        0        0    22 ms    22 ms         2       0
        "#]],
    );
}

#[test]
fn what_is_full_refuses_and_what_is_late_leaves() {
    check(
        "batch max-size=4; replicas min=1; max-queued-requests 8; timeout \"2s\"",
        "time,rate\n0,20\n5,5\n10,0\n",
        "1s",
        expect![[r#"
            similar: 125 requests in 10 s

              answered         10    8.0 %
              refused          70   56.0 %
              too late         45   36.0 %
              latency     p50 1.9 s  p95 1.9 s  p99 1.9 s  max 1.9 s

            embed vector: takes 1s, starts in 2s
              1 to 1 replicas, 12.0 replica-seconds; 15 batches of 3.7
              waited p50 1.4 s p99 1.8 s; at most 8 waiting; 70 refused, 45 too late

                 time   offered  answered  refused too late      p50      p99            vector
                             /s        /s                                      replicas waiting
                  0 s      18.0      10.0        0        4    1.9 s    1.9 s         1       8
                0.5 s      20.0       0.0       10        0        -        -         1       8
                  1 s      20.0       0.0        6        4        -        -         1       8
                1.5 s      20.0       0.0       10        0        -        -         1       8
                  2 s      20.0       0.0        5        5        -        -         1       8
                2.5 s      20.0       0.0        7        3        -        -         1       8
                  3 s      20.0       0.0        6        4        -        -         1       8
                3.5 s      20.0       0.0       10        0        -        -         1       8
                  4 s      20.0       0.0        6        4        -        -         1       8
                4.5 s      20.0       0.0        6        4        -        -         1       8
                  5 s       6.0       0.0        2        1        -        -         1       8
                5.5 s       4.0       2.0        0        1    1.9 s    1.9 s         1       7
                  6 s       6.0       2.0        1        1    1.8 s    1.8 s         1       8
                6.5 s       4.0       2.0        0        1    1.9 s    1.9 s         1       6
                  7 s       6.0       2.0        0        2    1.8 s    1.8 s         1       6
                7.5 s       4.0       2.0        0        1    1.9 s    1.9 s         1       7
                  8 s       6.0       0.0        0        3        -        -         1       7
                8.5 s       4.0       0.0        0        2        -        -         1       8
                  9 s       6.0       0.0        0        3        -        -         1       8
                9.5 s       4.0       0.0        1        1        -        -         1       8
                 10 s       2.0       0.0        0        1        -        -         1       6
               10.5 s       0.0       0.0        0        0        -        -         1       6
                 11 s       0.0       0.0        0        0        -        -         1       2
               11.5 s       0.0       0.0        0        0        -        -         1       0
        "#]],
    );
}

#[test]
fn batches_grow_with_the_load() {
    let program = one("batch max-size=32 max-cost=100; replicas min=1");
    let sizes = ["2", "40", "200"].map(|rate| {
        let trace = format!("time,rate\n0,{rate}\n30,{rate}\n");
        let record = run(&program, &trace, |_, assumed| {
            assumed.service = "20ms + 1ms/item".parse().unwrap();
            assumed.cost = (5, 15);
        });
        let node = &record.nodes[0];
        assert_eq!(node.refused + node.late, 0);
        assert_eq!(node.batched, record.requests.len() as u64);
        (node.mean_batch() * 10.0).round() / 10.0
    });
    expect!["[1.0, 1.0, 5.0]"].assert_eq(&format!("{sizes:?}"));
}

#[test]
fn a_request_walks_the_graph() {
    let program = program(
        r#"
model minilm { source "hf:sentence-transformers/all-MiniLM-L6-v2" }
model gemma { source "file:gemma.gguf" }
index docs { path "docs.index"; model minilm }
graph rag timeout="10s" {
    input { query type=string; deep type=boolean default=#false; parts type=list of=string }
    embed question { model minilm; text "{{ input.query }}" }
    search hits { index docs; vector "{{ question }}"; top-k 5 }
    embed checked { model minilm; each "{{ input.parts }}"; each-width 2; text "{{ item }}"; when "{{ input.deep }}" }
    generate answer { model gemma; prompt "{{ hits }} {{ input.query }}"; fallback "busy" }
    output { answer "{{ answer }}"; count "{{ checked }}" }
}
"#,
    );
    let record = run(&program, "time,rate\n0,2\n10,2\n", |node, assumed| {
        assumed.startup = Duration::ZERO;
        match node {
            "checked" => (assumed.each, assumed.share) = (5, 0.5),
            "answer" => assumed.service = "1s + 100ms/item".parse().unwrap(),
            _ => {}
        }
    });
    expect![[r#"
        rag: 19 requests in 10 s

          answered         19  100.0 %
          refused           0    0.0 %
          too late          0    0.0 %
          latency     p50 1.3 s  p95 1.3 s  p99 1.3 s  max 1.3 s

        embed question: takes 5ms + 2ms/item, starts in 0s
          1 to 1 replicas, 10.8 replica-seconds; 19 batches of 1.0
          waited p50 0 p99 0; at most 0 waiting; 0 refused, 0 too late
        search hits: takes 2ms, starts in 0s
          1 to 1 replicas, 10.8 replica-seconds; 19 batches of 1.0
          waited p50 0 p99 0; at most 0 waiting; 0 refused, 0 too late
        embed checked: takes 5ms + 2ms/item, starts in 0s, 5 elements, for 50 % of requests
          1 to 1 replicas, 10.8 replica-seconds; 55 batches of 1.0
          waited p50 7.0 ms p99 7.0 ms; at most 1 waiting; 0 refused, 0 too late
        generate answer: takes 1s + 100ms/item, starts in 0s
          1 to 1 replicas, 10.8 replica-seconds; 19 batches of 1.0
          waited p50 0 p99 0; at most 0 waiting; 0 refused, 0 too late

             time   offered  answered  refused too late      p50      p99          question              hits           checked            answer
                         /s        /s                                      replicas waiting  replicas waiting  replicas waiting  replicas waiting
              0 s       0.0       0.0        0        0        -        -         1       0         1       0         1       0         1       0
            0.5 s       2.0       2.0        0        0    1.1 s    1.1 s         1       0         1       0         1       0         1       0
              1 s       2.0       2.0        0        0    1.2 s    1.2 s         1       0         1       0         1       0         1       0
            1.5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
              2 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       0         1       0
            2.5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
              3 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       0         1       0
            3.5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
              4 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
            4.5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
              5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       0         1       0
            5.5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
              6 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
            6.5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       0         1       0
              7 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       0         1       0
            7.5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       0         1       0
              8 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
            8.5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
              9 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
            9.5 s       2.0       2.0        0        0    1.3 s    1.3 s         1       0         1       0         1       1         1       0
             10 s       0.0       0.0        0        0        -        -         1       0         1       0         1       0         1       0
           10.5 s       0.0       0.0        0        0        -        -         1       0         1       0         1       0         1       0
    "#]].assert_eq(&text(&record));
}

#[test]
fn the_same_scenario_is_the_same_record() {
    let program = one(SCALED);
    let record = || run(&program, STEP, |_, assumed| assumed.cost = (1, 9));
    assert_eq!(record(), record());
}

#[test]
fn replicas_stop_at_what_the_machine_has() {
    let program = one("batch max-size=1; resources cpu=3; replicas min=1 max=6 \
         target-ongoing-requests=2 upscale-delay=\"1s\" look-back=\"1s\"");
    let record = run(&program, "time,rate\n0,40\n30,40\n", |_, assumed| {
        assumed.service = "100ms".parse().unwrap();
    });
    assert_eq!(record.nodes[0].replicas(), (1, 2));
}

#[test]
fn a_picture_is_whole_and_names_what_it_shows() {
    let program = one(SCALED);
    let record = run(&program, STEP, |_, _| {});
    let picture = svg(&record);
    for part in [
        "requests a second",
        "latency of answers",
        "vector: replicas",
        "vector: waiting",
    ] {
        assert!(picture.contains(part), "{part}");
    }
    assert!(
        !picture.contains("NaN") && !picture.contains("inf"),
        "{picture}"
    );
    assert_eq!(
        picture.matches("<path").count(),
        picture.matches("/>").count() - 1
    );
}

#[test]
fn json_has_the_sums() {
    let record = run(&one(SCALED), SPIKE, |_, _| {});
    let json = json(&record);
    assert_eq!(json["requests"], 564);
    let steps = json["steps"].as_array().unwrap();
    let offered: u64 = steps
        .iter()
        .filter_map(|step| step["offered"].as_u64())
        .sum();
    assert_eq!(offered, 564);
    assert!(json["nodes"][0]["replica_seconds"].as_f64().unwrap() >= 79.0);
}
