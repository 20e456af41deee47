//! A changed file changes what runs, and no request notices: nothing is lost, nothing is answered
//! twice, and a mistake in the file keeps what runs.
//!
//! `ENGINE_RELOADS=100` makes as many reloads, under load and for leaks, and prints what it measures
//! (with `--nocapture`); the default is small.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use serde_json::{Value, json};
use std::{
    collections::HashSet,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tests::{Engine, write_graph};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// Far above what a reload takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(60);

/// The file of one step: what it serves says the step's number, and it differs from its neighbours
/// in the other ways that a file can.
fn file(step: usize) -> String {
    let queued = 1000 + step % 2;
    let (node, piece) = match step % 3 {
        0 => ("split more { text \"{{ input.id }}\" }", "{{ more[0] }}"),
        _ => ("", "none"),
    };
    let graph = match step % 4 {
        0 => "graph extra { template a { text \"x\" }\n output { a \"{{ a }}\" } }",
        _ => "",
    };
    format!(
        r#"
graph echo {{
    input {{
        id type=string
    }}
    split parts {{
        text "{{{{ input.id }}}}"
        max-queued-requests {queued}
    }}
    {node}
    template step {{ text "{step}" }}
    output {{
        id "{{{{ parts[0] }}}}"
        step "{{{{ step }}}}"
        more "{piece}"
    }}
}}
{graph}
"#
    )
}

fn save(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// Asks until the answer is as wanted.
async fn until(engine: &Engine, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let asking = async {
        loop {
            let answer = engine.send(engine.client().get(engine.admin(path))).await;
            last = answer.json();
            if wanted(&last) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let asked = timeout(PATIENCE, asking).await;
    assert!(asked.is_ok(), "{last}\n{}", engine.log());
    last
}

async fn generation(engine: &Engine, wanted: u64) {
    until(engine, "/status", |status| status["generation"] == wanted).await;
}

async fn step(engine: &Engine) -> String {
    let answer = engine.post("/echo", json!({ "id": "asked" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["step"].as_str().unwrap().to_owned()
}

/// What a client got: an id of its own, when it asked, and how long the answer took.
struct Answered {
    id: String,
    asked: Instant,
    took: Duration,
}

/// Asks with ids of its own until told to stop; gives back what was answered, each once.
async fn client(engine: Arc<Engine>, number: usize, stop: Arc<AtomicBool>) -> Vec<Answered> {
    let mut answered = Vec::new();
    while !stop.load(Relaxed) {
        let (id, asked) = (format!("{number}-{}", answered.len()), Instant::now());
        let answer = engine.post("/echo", json!({ "id": id })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["id"], id);
        let took = asked.elapsed();
        answered.push(Answered { id, asked, took });
    }
    answered
}

/// How long it takes from the beginning of a write to the first answer of what was written, and how
/// often was asked.
async fn first_answer(engine: &Engine, path: &Path, number: usize) -> (Duration, usize) {
    let begun = Instant::now();
    save(path, &file(number));
    let mut asked = 1;
    let asking = async {
        while step(engine).await != number.to_string() {
            asked += 1;
            sleep(Duration::from_millis(2)).await;
        }
    };
    let found = timeout(PATIENCE, asking).await;
    assert!(found.is_ok(), "{}", engine.log());
    (begun.elapsed(), asked)
}

/// The nearest rank of a percentile, in milliseconds.
fn percentile(times: impl Iterator<Item = Duration>, share: f64) -> f64 {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let rank = (share * times.len() as f64).ceil() as usize;
    let time = times.get(rank.max(1) - 1).copied().unwrap_or_default();
    time.as_secs_f64() * 1e3
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_nothing_and_repeat_nothing() {
    let reloads = std::env::var("ENGINE_RELOADS").map_or(12, |n| n.parse().unwrap());
    let (_folder, path) = write_graph(&file(0));
    let engine = Arc::new(Engine::start(&path));
    let stop = Arc::new(AtomicBool::new(false));
    let start = |number| tokio::spawn(client(Arc::clone(&engine), number, Arc::clone(&stop)));
    let clients: Vec<_> = (0..4).map(start).collect();
    // Once all is warm, a second of quiet to compare with.
    sleep(Duration::from_millis(500)).await;
    let warm = Instant::now();
    sleep(Duration::from_secs(1)).await;
    let (begun, mut published) = (Instant::now(), 1);
    // The step is asked for once more at the end.
    let (mut firsts, mut asked) = (Vec::new(), 1);
    for number in 1..=reloads {
        if number % 5 == 0 {
            save(&path, "graph echo {");
            until(&engine, "/status", |status| {
                status["last_reload"]["ok"] == false
            })
            .await;
        }
        let (first, asks) = first_answer(&engine, &path, number).await;
        firsts.push(first);
        asked += asks;
        published += 1;
        generation(&engine, published).await;
    }
    stop.store(true, Relaxed);
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    let ids: HashSet<_> = all.iter().map(|one| &one.id).collect();
    let answered = all.len();
    assert_eq!(ids.len(), answered);
    let p99 = |quiet: bool| {
        let warm = all.iter().filter(|one| one.asked >= warm);
        let phase = warm.filter(|one| (one.asked < begun) == quiet);
        percentile(phase.map(|one| one.took), 0.99)
    };
    println!(
        "{reloads} reloads, {answered} requests; first new answer after p50 {:.0} ms, p99 {:.0} ms; \
         p99 of all answers {:.2} ms, quiet {:.2} ms: {:.2} times",
        percentile(firsts.iter().copied(), 0.5),
        percentile(firsts.iter().copied(), 0.99),
        p99(false),
        p99(true),
        p99(false) / p99(true)
    );
    assert!(answered > reloads, "{answered} requests are no load");
    assert_eq!(step(&engine).await, reloads.to_string());
    let metrics = engine
        .send(engine.client().get(engine.admin("/metrics")))
        .await;
    // Those that asked for the step are counted too.
    let expected = format!(
        "engine_node_requests_total{{graph=\"echo\",node=\"parts\"}} {}",
        answered + asked
    );
    assert!(
        metrics.text.contains(&expected),
        "{expected}\n{}",
        metrics.text
    );
    let failed = metrics
        .text
        .lines()
        .find(|line| line.starts_with("engine_requests_total") && !line.contains("code=\"200\""));
    assert_eq!(failed, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_touched_goes_on() {
    let (_folder, path) = write_graph(&file(1));
    let engine = Engine::start(&path);
    assert_eq!(step(&engine).await, "1");
    // Only the template differs: the queue's limit is that of every odd step.
    save(&path, &file(1).replace("text \"1\"", "text \"one\""));
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "one");
    // The pool has counted since the first generation.
    let parts = |status: &Value| {
        let nodes = status["graphs"][0]["nodes"].as_array().cloned();
        let parts = nodes?.into_iter().find(|node| node["node"] == "parts");
        parts?["pool"]["answered"].as_u64()
    };
    let status = until(&engine, "/status", |status| parts(status) == Some(2)).await;
    let last = &status["last_reload"];
    assert_eq!(
        last["nodes"],
        "1 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_limits_are_adjusted_in_place() {
    let (folder, path) = write_graph(&file(1));
    let engine = Engine::start(&path);
    assert_eq!(step(&engine).await, "1");
    let changed = file(1).replace(
        "max-queued-requests 1001",
        "max-queued-requests 7; max-ongoing-requests 3; replicas min=2; timeout \"5s\"",
    );
    assert_ne!(changed, file(1));
    let next = folder.path().join("next.kdl");
    save(&next, &changed);
    let admin = engine.admin("").replace("http://", "");
    let next = next.display().to_string();
    let planned = tests::run_command(&["plan", &next, "--admin", &admin]);
    assert_eq!(
        String::from_utf8(planned.stdout).unwrap(),
        "keep     graph echo\n\
         adjust     split parts: replicas min 1 \u{2192} 2, replicas max 1 \u{2192} 2, \
         max-ongoing-requests default \u{2192} 3, max-queued-requests 1001 \u{2192} 7, \
         timeout default \u{2192} 5s\n\
         keep       template step\n\
         nodes: 1 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped\n"
    );
    // Asking changes nothing.
    generation(&engine, 1).await;
    save(&path, &changed);
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "1");
    // Both replicas are there, and the pool has counted since the first generation.
    let pool = |status: &Value| {
        let nodes = status["graphs"][0]["nodes"].as_array().cloned();
        let parts = nodes?.into_iter().find(|node| node["node"] == "parts");
        let pool = parts?["pool"].take();
        Some((pool["replicas"].as_u64()?, pool["answered"].as_u64()?))
    };
    until(&engine, "/status", |status| pool(status) == Some((2, 2))).await;
    let shown = tests::run_command(&["status", "--admin", &admin]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("last reload: 1 kept, 1 adjusted,"),
        "{shown}"
    );
    let bad = folder.path().join("bad.kdl");
    save(&bad, "graph echo { output { a \"{{ nothing }}\" } }");
    let bad = bad.display().to_string();
    let planned = tests::run_command(&["plan", &bad, "--admin", &admin]);
    assert_eq!(planned.status.code(), Some(2));
    let problem = String::from_utf8(planned.stderr).unwrap();
    assert!(problem.contains("nothing"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_is_open_before_the_old_one_closes() {
    let at = |address: &str| {
        let server = format!("server {{ listen \"{address}\"; admin \"127.0.0.1:0\" }}\n");
        server + &file(1)
    };
    let (_folder, path) = write_graph(&at("127.0.0.1:0"));
    let engine = Engine::start_as_written(&path);
    let old = engine.url("").replace("http://", "");
    // A request is under way on the old socket while the new one opens: its body is asked for, and
    // comes later.
    let mut stream = TcpStream::connect(&old).await.unwrap();
    let body = json!({ "id": "early" }).to_string();
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut continued = [0; 25];
    stream.read_exact(&mut continued).await.unwrap();
    assert_eq!(&continued, b"HTTP/1.1 100 Continue\r\n\r\n");
    save(&path, &at("localhost:0"));
    generation(&engine, 2).await;
    let closed = async {
        while TcpStream::connect(&old).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, closed).await.is_ok());
    let moved = engine.wait_for_log(PATIENCE, |line| line.contains("at another address"));
    let moved: Value = serde_json::from_str(&moved.unwrap()).unwrap();
    let url = format!("http://{}/echo", moved["listen"].as_str().unwrap());
    let late = engine.client().post(&url).json(&json!({ "id": "late" }));
    let late = engine.send(late).await;
    assert_eq!((late.status, &late.json()["id"]), (200, &json!("late")));
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // To the end: the connection closes after the answer.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("early"),
        "{answer}"
    );
    // An address that cannot be had changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    save(&path, &at(&taken.local_addr().unwrap().to_string()));
    let failed = |status: &Value| status["last_reload"]["ok"] == false;
    let status = until(&engine, "/status", failed).await;
    assert_eq!(status["generation"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_include_keeps_what_runs_and_its_fix_heals() {
    let (folder, path) = write_graph("include \"echo.kdl\"\n");
    let include = folder.path().join("echo.kdl");
    save(&include, &file(1));
    let engine = Engine::start(&path);
    save(&include, "graph echo { output { a \"{{ nothing }}\" } }");
    let failed = |status: &Value| status["last_reload"]["ok"] == false;
    let status = until(&engine, "/status", failed).await;
    assert_eq!(status["generation"], 1);
    let problem = status["last_reload"]["problems"][0].as_str().unwrap();
    assert!(
        problem.contains("nothing") && problem.contains("echo.kdl:1"),
        "{problem}"
    );
    assert_eq!(step(&engine).await, "1");
    save(&include, &file(2));
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "2");
    // Gone for good, and back.
    std::fs::remove_file(&include).unwrap();
    let status = until(&engine, "/status", failed).await;
    assert!(
        status["last_reload"]["problems"][0]
            .as_str()
            .unwrap()
            .contains("cannot read")
    );
    save(&include, &file(3));
    generation(&engine, 3).await;
    let metrics = engine
        .send(engine.client().get(engine.admin("/metrics")))
        .await;
    for line in [
        "engine_config_generation 3",
        "engine_reloads_total{result=\"ok\"} 2",
        "engine_reloads_total{result=\"failed\"} 2",
    ] {
        assert!(metrics.text.contains(line), "{line}\n{}", metrics.text);
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn editors_that_rename_and_mounted_folders_that_are_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, number) in [("v1", 1), ("v2", 2)] {
        std::fs::create_dir(at(version)).unwrap();
        save(&at(version).join("graph.kdl"), &file(number));
    }
    // As Kubernetes mounts a config map: graph.kdl -> current/graph.kdl, current -> v1.
    std::os::unix::fs::symlink(at("v1"), at("current")).unwrap();
    std::os::unix::fs::symlink(at("current").join("graph.kdl"), at("graph.kdl")).unwrap();
    let engine = Engine::start(&at("graph.kdl"));
    assert_eq!(step(&engine).await, "1");
    std::os::unix::fs::symlink(at("v2"), at("next")).unwrap();
    std::fs::rename(at("next"), at("current")).unwrap();
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "2");
    save(&at("saved"), &file(3));
    std::fs::rename(at("saved"), at("graph.kdl")).unwrap();
    generation(&engine, 3).await;
    assert_eq!(step(&engine).await, "3");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn orders_and_history() {
    let (_folder, path) = write_graph(&file(1));
    let engine = Engine::start_with(&path, &["--no-watch"]);
    save(&path, &file(2));
    let order = async |path: &str| {
        let answer = engine.send(engine.client().post(engine.admin(path))).await;
        (answer.status, answer.json())
    };
    let (status, outcome) = order("/reload").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(2)),
        "{outcome}"
    );
    assert_eq!(step(&engine).await, "2");
    save(&path, &file(3));
    let pid = engine.pid().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    generation(&engine, 3).await;
    let (status, outcome) = order("/rollback?generation=1").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(4)),
        "{outcome}"
    );
    assert_eq!(step(&engine).await, "1");
    let (status, outcome) = order("/rollback?generation=99").await;
    assert_eq!((status, &outcome["ok"]), (409, &json!(false)));
    let (status, outcome) = order("/reload").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(5)),
        "{outcome}"
    );
    let page = engine.client().post(engine.admin("/reload"));
    let page = page.header("origin", "http://example.org");
    assert_eq!(engine.send(page).await.status, 403);
}

/// What a process holds: threads, open files, and resident memory in bytes.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy)]
struct Held {
    threads: usize,
    files: usize,
    memory: usize,
}

#[cfg(target_os = "linux")]
impl Held {
    fn by(pid: u32) -> Self {
        let count = |what: &str| {
            std::fs::read_dir(format!("/proc/{pid}/{what}"))
                .unwrap()
                .count()
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Self {
            threads: count("task"),
            files: count("fd"),
            memory: kilobytes * 1024,
        }
    }
}

/// Whatever one reload left behind would add up: each bound is far above what a process varies by,
/// and below what a leak of one thread or file in two reloads comes to.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn reloads_leave_nothing_behind() {
    let reloads: usize = std::env::var("ENGINE_RELOADS").map_or(60, |n| n.parse().unwrap());
    // Every node is replaced each time, and two graphs come and go.
    let file = |step: usize| {
        let graph = |name: &str| {
            let chars = 100 + step;
            format!(
                "graph {name} {{ input {{ id type=string }}\n\
                 split parts {{ text \"{{{{ input.id }}}}\"; max-chars {chars} }}\n\
                 output {{ parts \"{{{{ parts }}}}\" }} }}\n"
            )
        };
        graph("echo") + &graph(&format!("graph{step}"))
    };
    let (_folder, path) = write_graph(&file(0));
    let engine = Engine::start_with(&path, &["--no-watch"]);
    let reload = async |step: usize| {
        save(&path, &file(step));
        let answer = engine
            .send(engine.client().post(engine.admin("/reload")))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let answer = engine.post("/echo", json!({ "id": "asked" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    // The history of generations fills, and pools of threads and memory grow to their size.
    for step in 1..=20 {
        reload(step).await;
    }
    let before = Held::by(engine.pid());
    for step in 21..=20 + reloads {
        reload(step).await;
    }
    let after = Held::by(engine.pid());
    println!("{reloads} reloads: {before:?} before, {after:?} after");
    assert!(
        after.threads < before.threads + reloads / 2,
        "{before:?} {after:?}"
    );
    assert!(
        after.files < before.files + reloads / 2,
        "{before:?} {after:?}"
    );
    let memory = before.memory + (64 << 20) + reloads * (64 << 10);
    assert!(after.memory < memory, "{before:?} {after:?}");
}
