//! What a Python node adds: a vector of 384 floats from a request through a graph to a worker and
//! back, and how long a killed worker is missed.
//!
//! Prints percentiles of a whole request, of which the worker's own work is a function that returns
//! what it gets, and of the time from a kill to the next answer. The goals are 150 µs at p50, and
//! 100 ms beside the import of the file, which takes nothing here.

use engine::{execute::Request, metrics::Metrics, topology::Topology};
use graphs::Facts;
use nodes::{
    Catalog, Context, Map, StandardCatalog, Value,
    source::{Fetcher, Settings, Silent},
};
use schema::{Source, SourceId};
use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant as Clock},
};

const CODE: &str = "
import os

def back(x):
    return x

async def later(x):
    return x

def pid(x):
    return os.getpid()
";

const ROUNDS: usize = 5000;
const KILLS: usize = 50;

fn main() {
    let folder = std::env::temp_dir().join(format!("python-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    std::fs::write(folder.join("code.py"), CODE).expect("a file can be written");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be built").block_on(async {
        println!("{:>34} {:>10} {:>10} {:>10}", "", "p50", "p90", "p99");
        for (name, function) in [
            ("a vector, plain function", "back"),
            ("a vector, coroutine", "later"),
        ] {
            let topology = start(&folder, function).await;
            let vector = Value::Vector((0..384).map(|n| n as f32).collect());
            let mut times = Vec::new();
            for round in 0..ROUNDS + ROUNDS / 10 {
                let begun = now();
                std::hint::black_box(ask(&topology, vector.clone()).await);
                if round >= ROUNDS / 10 {
                    times.push(begun.elapsed());
                }
            }
            show(name, times);
        }
        let topology = start(&folder, "pid").await;
        let mut times = Vec::new();
        for _ in 0..KILLS {
            let pid = ask(&topology, Value::Boolean(true)).await;
            let pid = pid.as_integer().expect("a worker knows its number");
            let begun = now();
            let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
            assert!(killed.is_ok_and(|status| status.success()));
            while ask(&topology, Value::Boolean(true)).await.as_integer() == Some(pid) {}
            times.push(begun.elapsed());
        }
        show("from a kill to the next answer", times);
    });
    let _ = std::fs::remove_dir_all(&folder);
}

fn show(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{name:>34} {:>10.1?} {:>10.1?} {:>10.1?}",
        at(50),
        at(90),
        at(99)
    );
}

async fn start(folder: &Path, function: &str) -> Topology {
    let text = format!(
        r#"graph g {{ input {{ x type=any }}
            python p {{ file "code.py"; function "{function}"; arguments {{ x "{{{{ input.x }}}}" }} }}
            output {{ y "{{{{ p }}}}" }} }}"#
    );
    let source = Source {
        id: SourceId(0),
        name: "bench.kdl".to_owned(),
        text,
    };
    let (document, problems) = schema::parse(&source, &|_| None);
    assert!(problems.is_empty(), "{problems:#?}");
    let program = graphs::check(document, &Facts::default());
    let program = program.unwrap_or_else(|problems| panic!("{problems:#?}"));
    let fetcher = Arc::new(Fetcher::new(Settings::from_environment(), Arc::new(Silent)));
    let catalog = StandardCatalog::new(&[], &[], folder, &fetcher, None);
    let catalog = Arc::new(catalog) as Arc<dyn Catalog>;
    let topology = Topology::start(1, Arc::new(program), catalog, &Metrics::new()).await;
    topology.unwrap_or_else(|errors| panic!("{errors:#?}"))
}

async fn ask(topology: &Topology, x: Value) -> Value {
    let request = Request {
        input: Value::Map(Arc::new(Map::from_iter([("x".into(), x)]))),
        context: Context::default(),
        ..Request::default()
    };
    let answer = topology.graphs()[0].prepared().run(request).await;
    answer.expect("the worker answers").fields["y"].clone()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Clock {
    Clock::now()
}
