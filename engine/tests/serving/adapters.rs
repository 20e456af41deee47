//! Adapters that are loaded while earlier nodes run: the real residency over a scripted loader, on a
//! paused clock. Time passes only when nothing is being loaded or a test says so.

use crate::kit::{ask, program, request};
use engine::{metrics::Metrics, topology::Topology};
use futures::future::BoxFuture;
use nodes::{
    Catalog, Document, Input, Map, Node, NodeError, Order, Running, Value,
    residency::{AdapterStore, Bounds, Loaded, Loader, Policy, Residency},
};
use schema::Kind;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};
use tokio::time::{Instant, advance, sleep};

const RETRIEVAL: Duration = Duration::from_millis(50);
const COLD_LOAD: Duration = Duration::from_millis(40);

/// Loads what it is asked for, when it is let.
#[derive(Clone, Default)]
struct Script {
    begun: Arc<Mutex<Vec<String>>>,
    gates: Arc<Mutex<BTreeMap<String, mpsc::Receiver<()>>>>,
}

impl Script {
    fn gate(&self, name: &str) -> mpsc::Sender<()> {
        let (open, gate) = mpsc::channel();
        self.gates.lock().unwrap().insert(name.into(), gate);
        open
    }

    fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }
}

impl Loader<String> for Script {
    fn names(&self) -> Result<Vec<String>, NodeError> {
        Ok(Vec::new())
    }

    fn stamp(&self, name: &str) -> Result<String, NodeError> {
        Ok(name.to_owned())
    }

    fn load(&self, name: &str) -> Result<Loaded<String>, NodeError> {
        self.begun.lock().unwrap().push(name.to_owned());
        let gate = self.gates.lock().unwrap().remove(name);
        if let Some(gate) = gate {
            gate.recv().unwrap();
        }
        Ok(Loaded {
            value: name.to_owned(),
            bytes: 10,
            stamp: name.to_owned(),
            generation: name.to_owned(),
        })
    }
}

/// `search` takes [`RETRIEVAL`] and finds a document whose id is what was searched; `generate` says
/// what its adapter is.
struct Library(Residency<String>);

impl Library {
    fn new(script: &Script, max_loaded: usize) -> Arc<Self> {
        let policy = Policy {
            bounds: Bounds {
                max_loaded,
                max_bytes: 1000,
                min_residency: Duration::ZERO,
            },
            refusal_ttl: Duration::from_secs(5),
            check_interval: Duration::from_secs(3600),
        };
        Arc::new(Self(Residency::new(script.clone(), policy)))
    }

    async fn serve(self: &Arc<Self>, adapter: &str) -> Arc<Topology> {
        let text = format!(
            r#"
            model m {{ source "file:m"; adapters "a/" }}
            index i {{ path "i"; dimensions 1 }}
            graph g {{
                input {{ text type=string; lora type=string; wanted type=boolean optional=#true }}
                search hits {{ index i; text "{{{{ input.text }}}}" }}
                generate answer {adapter}
                output {{ answer "{{{{ answer }}}}"; hit "{{{{ hits[0].id }}}}" }}
            }}"#
        );
        let catalog: Arc<dyn Catalog> = Arc::<Self>::clone(self);
        let started = Topology::start(1, program(&text), catalog, &Metrics::new()).await;
        Arc::new(started.unwrap())
    }
}

/// Chosen at the door.
const BY_REQUEST: &str = r#"{
    model m adapter="{{ input.lora }}"
    prompt "{{ hits | length }} hits"
}"#;

/// Chosen by what was found.
const BY_HIT: &str = r#"{
    model m adapter="{{ hits[0].id }}"
    prompt "{{ hits | length }} hits"
}"#;

const IF_WANTED: &str = r#"when="{{ input.wanted and hits | length > 0 }}" {
    model m adapter="{{ input.lora }}"
    prompt "{{ hits | length }} hits"
}"#;

/// Chosen by each element, which is known at the door.
const BY_ITEM: &str = r#"each="{{ input.text | split }}" {
    model m adapter="{{ item }}"
    prompt "{{ hits | length }} hits"
}"#;

impl Catalog for Library {
    fn build<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Arc<dyn Node>, NodeError>> {
        let node: Arc<dyn Node> = Arc::new(Actor {
            kind: order.work.kind(),
            adapters: self.0.clone(),
        });
        Box::pin(async move { Ok(node) })
    }

    fn adapters(&self, model: &str) -> Option<Arc<dyn AdapterStore>> {
        (model == "m").then(|| Arc::new(self.0.clone()) as Arc<dyn AdapterStore>)
    }
}

struct Actor {
    kind: Kind,
    adapters: Residency<String>,
}

impl Actor {
    async fn act(&self, item: Input) -> Result<Value, NodeError> {
        let text = |port| item.arguments.get(port).as_text().unwrap();
        if self.kind == Kind::Search {
            sleep(RETRIEVAL).await;
            let document = Document {
                id: Arc::clone(text("text")),
                text: "".into(),
                score: 1.0,
                metadata: Arc::new(Map::new()),
            };
            return Ok(Value::list([Value::Document(document)]));
        }
        let adapter = self.adapters.get(text("adapter")).await?;
        Ok(Value::text(format!("by {adapter}")))
    }
}

impl Node for Actor {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        let items = batch.into_iter().map(|item| self.act(item));
        Box::pin(futures::future::join_all(items))
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

/// A request under way, and when it was answered.
fn send(topology: &Arc<Topology>, fields: &str) -> tokio::task::JoinHandle<(Duration, String)> {
    let (topology, request) = (Arc::clone(topology), request(fields));
    tokio::spawn(async move {
        let begun = Instant::now();
        let answer = ask(&topology, request).await;
        (begun.elapsed(), answer)
    })
}

/// Waits for threads and other tasks; no paused time passes while something is being loaded.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if what() {
            return;
        }
        tokio::task::yield_now().await;
        std::thread::sleep(Duration::from_micros(500));
    }
    panic!("it never happened");
}

#[tokio::test(start_paused = true)]
async fn a_cold_adapter_comes_while_retrieval_runs() {
    let script = Script::default();
    let library = Library::new(&script, 4);
    let topology = library.serve(BY_REQUEST).await;
    drop(library.0.get("warm").await.unwrap());
    let warm = send(&topology, r#"{"text": "x", "lora": "warm"}"#);
    let warm = warm.await.unwrap();
    assert_eq!(warm.0, RETRIEVAL, "{}", warm.1);

    let open = script.gate("cold");
    let (begun, before) = (Instant::now(), library.0.snapshot());
    let cold = send(&topology, r#"{"text": "x", "lora": "cold"}"#);
    until(|| script.begun() == ["warm", "cold"]).await;
    assert_eq!(
        begun.elapsed(),
        Duration::ZERO,
        "it is loaded from the door on"
    );
    advance(COLD_LOAD).await;
    open.send(()).unwrap();
    until(|| library.0.snapshot().loaded == 2).await;
    let cold = cold.await.unwrap();
    let expected = r#"{"answer":"by cold","hit":"x"}"#;
    assert_eq!((cold.0, cold.1.as_str()), (warm.0, expected));
    // The node found it there, and let go of it.
    let after = library.0.snapshot();
    assert_eq!((after.hits, after.misses), (before.hits + 1, before.misses));
    assert_eq!(after.leases, 0);
}

#[tokio::test(start_paused = true)]
async fn the_adapters_of_all_elements_come_while_retrieval_runs() {
    let script = Script::default();
    let library = Library::new(&script, 4);
    let topology = library.serve(BY_ITEM).await;
    let open = ["a", "b", "c"].map(|name| script.gate(name));
    let begun = Instant::now();
    let fields = r#"{"text": "a b a ../x c", "lora": "unused"}"#;
    let refused = send(&topology, fields);
    until(|| script.begun().len() == 3).await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "from the door on");
    let mut loaded = script.begun();
    loaded.sort();
    assert_eq!(
        loaded,
        ["a", "b", "c"],
        "each once, and no name that is none"
    );
    advance(COLD_LOAD).await;
    for open in open {
        open.send(()).unwrap();
    }
    until(|| library.0.snapshot().loaded == 3).await;
    // What could not be loaded ahead is an error in its turn.
    let (took, answer) = refused.await.unwrap();
    assert!(answer.contains("an adapter's name consists of"), "{answer}");
    assert_eq!(took, RETRIEVAL);
    until(|| library.0.snapshot().leases == 0).await;

    let before = library.0.snapshot();
    let sent = send(&topology, r#"{"text": "c b a", "lora": "unused"}"#);
    let expected = r#"{"answer":["by c","by b","by a"],"hit":"c b a"}"#;
    assert_eq!(sent.await.unwrap(), (RETRIEVAL, expected.to_owned()));
    let after = library.0.snapshot();
    assert_eq!((after.hits, after.misses), (before.hits + 3, before.misses));
}

#[tokio::test(start_paused = true)]
async fn a_long_list_loads_no_more_ahead_than_there_is_room_for() {
    let script = Script::default();
    let library = Library::new(&script, 2);
    let topology = library.serve(BY_ITEM).await;
    let sent = send(&topology, r#"{"text": "a b c d e f", "lora": "unused"}"#);
    until(|| library.0.snapshot().leases == 2).await;
    tokio::task::yield_now().await;
    assert_eq!(script.begun().len(), 2);
    let answer = sent.await.unwrap().1;
    assert!(
        answer.starts_with(r#"{"answer":["by a","by b","by c""#),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_results_choose_is_loaded_once_they_are_there() {
    let script = Script::default();
    let library = Library::new(&script, 4);
    let topology = library.serve(BY_HIT).await;
    let open = script.gate("cold");
    let begun = Instant::now();
    let sent = send(&topology, r#"{"text": "cold", "lora": "unused"}"#);
    // Nothing is being loaded, so the time of the retrieval passes by itself.
    sleep(RETRIEVAL).await;
    until(|| script.begun() == ["cold"]).await;
    assert_eq!(begun.elapsed(), RETRIEVAL);
    advance(COLD_LOAD).await;
    open.send(()).unwrap();
    let (took, answer) = sent.await.unwrap();
    assert_eq!(took, RETRIEVAL + COLD_LOAD, "{answer}");
    assert_eq!(answer, r#"{"answer":"by cold","hit":"cold"}"#);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_stays_for_its_request_and_goes_with_it() {
    let script = Script::default();
    let library = Library::new(&script, 1);
    let topology = library.serve(BY_REQUEST).await;
    let first = send(&topology, r#"{"text": "x", "lora": "a"}"#);
    until(|| library.0.snapshot().leases == 1).await;
    // Another takes all room there is; the first is in use all the same.
    drop(library.0.get("b").await.unwrap());
    let answer = first.await.unwrap().1;
    assert_eq!(answer, r#"{"answer":"by a","hit":"x"}"#);
    assert_eq!(script.begun(), ["a", "b"], "it was loaded once");
    // A client that goes away takes its lease along.
    let second = send(&topology, r#"{"text": "x", "lora": "c"}"#);
    until(|| library.0.snapshot().leases == 1).await;
    second.abort();
    assert!(second.await.is_err());
    until(|| library.0.snapshot().leases == 0).await;
}

#[tokio::test(start_paused = true)]
async fn many_that_wait_load_no_more_ahead_than_there_is_room_for() {
    let script = Script::default();
    let library = Library::new(&script, 2);
    let topology = library.serve(BY_REQUEST).await;
    let sent: Vec<_> = (0..8)
        .map(|n| send(&topology, &format!(r#"{{"text": "x", "lora": "l{n}"}}"#)))
        .collect();
    until(|| library.0.snapshot().leases == 2).await;
    tokio::task::yield_now().await;
    assert_eq!(script.begun().len(), 2);
    for (n, sent) in sent.into_iter().enumerate() {
        let answer = sent.await.unwrap().1;
        assert_eq!(answer, format!(r#"{{"answer":"by l{n}","hit":"x"}}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_or_no_name_is_not_loaded() {
    let script = Script::default();
    let library = Library::new(&script, 4);
    let topology = library.serve(IF_WANTED).await;
    let sent = send(&topology, r#"{"text": "x", "lora": "a", "wanted": false}"#);
    assert_eq!(sent.await.unwrap().1, r#"{"answer":null,"hit":"x"}"#);
    let sent = send(
        &topology,
        r#"{"text": "x", "lora": "../a", "wanted": true}"#,
    );
    let answer = sent.await.unwrap().1;
    assert!(answer.contains("an adapter's name consists of"), "{answer}");
    assert!(script.begun().is_empty());
    let sent = send(&topology, r#"{"text": "x", "lora": "a", "wanted": true}"#);
    assert_eq!(sent.await.unwrap().1, r#"{"answer":"by a","hit":"x"}"#);
}
