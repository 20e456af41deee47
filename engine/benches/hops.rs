//! What a hop costs inside the engine: chains of 1 to 64 `template` nodes, walked again and again.
//!
//! Prints the median and the 99th percentile of a whole request and, from the medians of the
//! shortest and the longest chain, the microseconds of one more hop. The goal is 15 µs at p50.

mod support;

use engine::{execute::Request, topology::Topology};
use nodes::{Context, Map, Value};
use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant as Clock},
};
use tokio::time::Instant;

const LENGTHS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const REQUESTS: usize = 4000;

/// The template of a node, from the name of the node before it.
type Template = fn(&str) -> String;

/// What each node of a chain does with the one before it.
const CHAINS: [(&str, Template); 3] = [
    ("path {{ a }}", |before| format!("{{{{ {before} }}}}")),
    ("expression {{ a | upper }}", |before| {
        format!("{{{{ {before} | upper }}}}")
    }),
    ("template \"<{{ a }}>\"", |before| {
        format!("<{{{{ {before} }}}}>")
    }),
];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be built").block_on(async {
        for (name, template) in CHAINS {
            println!("{name}");
            println!(
                "{:>8} {:>12} {:>12} {:>14}",
                "nodes", "p50 µs", "p99 µs", "p50 µs a node"
            );
            let mut medians = Vec::new();
            for length in LENGTHS {
                let times = chain(length, template).await;
                let median = times[times.len() / 2].as_secs_f64() * 1e6;
                let late = times[times.len() * 99 / 100].as_secs_f64() * 1e6;
                let each = median / length as f64;
                println!("{length:>8} {median:>12.2} {late:>12.2} {each:>14.3}");
                medians.push(median);
            }
            let (first, last) = (medians[0], medians[LENGTHS.len() - 1]);
            let hop = (last - first) / (LENGTHS[LENGTHS.len() - 1] - LENGTHS[0]) as f64;
            println!("one more hop: {hop:.3} µs (goal: at most 15)\n");
        }
    });
}

/// The times of requests through a chain, sorted.
async fn chain(length: usize, template: Template) -> Vec<Duration> {
    let mut file = "graph chain { input { text type=string }\n".to_owned();
    let mut before = "input.text".to_owned();
    for index in 0..length {
        // Writing to a string does not fail.
        let _ = writeln!(
            file,
            "template n{index} {{ text \"{}\" }}",
            template(&before)
        );
        before = format!("n{index}");
    }
    let _ = writeln!(file, "output {{ text \"{{{{ {before} }}}}\" }} }}");
    let topology = support::start(&file).await;
    let mut times = Vec::with_capacity(REQUESTS);
    for round in 0..REQUESTS + REQUESTS / 10 {
        let begun = now();
        walk(&topology).await;
        if round >= REQUESTS / 10 {
            times.push(begun.elapsed());
        }
    }
    times.sort();
    times
}

async fn walk(topology: &Topology) {
    let text = Value::text("a text of an ordinary length");
    let request = Request {
        input: Value::Map(Arc::new(Map::from_iter([("text".into(), text)]))),
        context: Context {
            request_id: None,
            deadline: Some(Instant::now() + Duration::from_secs(60)),
        },
        ..Request::default()
    };
    let answer = topology.graphs()[0].prepared().run(request).await;
    std::hint::black_box(answer.expect("a chain of templates has an answer"));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Clock {
    Clock::now()
}
