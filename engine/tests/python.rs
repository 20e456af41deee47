//! Python nodes in a whole graph: what becomes of items whose workers die.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use engine::{execute::Request, metrics::Metrics, topology::Topology};
use futures::future::join_all;
use graphs::Facts;
use nodes::{
    Catalog, Context, Map, StandardCatalog, Value,
    source::{Fetcher, Settings, Silent},
};
use schema::{Source, SourceId};
use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const CODE: &str = "
import asyncio, os, time

def work(n):
    if n == 'poison':
        os._exit(1)
    if n == 'hang':
        time.sleep(600)

def item(n):
    work(n)
    time.sleep(0.002)
    return [os.getpid(), n]

def batch(n):
    for one in n:
        work(one)
    time.sleep(0.005)
    return [[os.getpid(), one] for one in n]

async def later(n):
    work(n)
    await asyncio.sleep(0.005)
    return [os.getpid(), n]
";

/// A graph with one Python node, running.
struct Stage {
    _folder: TempDir,
    topology: Topology,
}

impl Stage {
    async fn start(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("code.py"), CODE).unwrap();
        let text = format!(
            r#"graph g {{ input {{ n type=any }}
                python p {{ file "code.py"; {options}; arguments {{ n "{{{{ input.n }}}}" }} }}
                output {{ y "{{{{ p }}}}" }} }}"#
        );
        let source = Source {
            id: SourceId(0),
            name: "test.kdl".to_owned(),
            text,
        };
        let (document, problems) = schema::parse(&source, &|_| None);
        assert!(problems.is_empty(), "{problems:#?}");
        let program = graphs::check(document, &Facts::default()).unwrap();
        let fetcher = Arc::new(Fetcher::new(Settings::from_environment(), Arc::new(Silent)));
        let catalog = StandardCatalog::new(&[], &[], folder.path(), &fetcher, None);
        let catalog = Arc::new(catalog) as Arc<dyn Catalog>;
        let topology = Topology::start(1, Arc::new(program), catalog, &Metrics::new()).await;
        Self {
            _folder: folder,
            topology: topology.unwrap(),
        }
    }

    /// The worker that answered, and what; the error in words.
    async fn ask(&self, n: Value) -> Result<(i64, Value), String> {
        let request = Request {
            input: Value::Map(Arc::new(Map::from_iter([("n".into(), n)]))),
            context: Context {
                request_id: None,
                deadline: Some(Instant::now() + Duration::from_secs(120)),
            },
            ..Request::default()
        };
        let answer = self.topology.graphs()[0].prepared().run(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let pair = answer.fields["y"].as_list().unwrap().clone();
        Ok((pair[0].as_integer().unwrap(), pair[1].clone()))
    }
}

/// How often workers are killed: 20 times, or as `ENGINE_TEST_KILLS` says.
fn kills() -> usize {
    let said = std::env::var("ENGINE_TEST_KILLS").ok();
    said.map_or(20, |said| said.parse().unwrap())
}

const CLIENTS: usize = 16;

/// Kills the worker again and again while clients ask without a pause. Each asks for numbers of its
/// own, and must get each of them back once.
async fn killed_under_load(options: &str) {
    let stage = Stage::start(options).await;
    let (pid, answered, over) = (
        AtomicI64::new(0),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    let client = async |client: usize| {
        let mut asked = 0;
        while !over.load(SeqCst) {
            let n = (client + asked * CLIENTS) as i64;
            let (worker, back) = stage.ask(Value::Integer(n)).await.unwrap();
            assert_eq!(back.as_integer(), Some(n));
            pid.store(worker, SeqCst);
            answered.fetch_add(1, SeqCst);
            asked += 1;
        }
        asked
    };
    let killer = async {
        let mut killed = 0;
        for round in 0..kills() {
            // Everything that the one before held has been answered by now, and so this kill is the
            // first for whatever is running.
            let enough = answered.load(SeqCst) + 2 * CLIENTS;
            while pid.load(SeqCst) == killed || answered.load(SeqCst) < enough {
                sleep(Duration::from_millis(1)).await;
            }
            sleep(Duration::from_micros(700 * (round as u64 % 10))).await;
            killed = pid.load(SeqCst);
            let mut kill = Command::new("kill");
            let sent = kill.args(["-9", &killed.to_string()]).status();
            assert!(sent.unwrap().success());
        }
        let enough = answered.load(SeqCst) + 2 * CLIENTS;
        while answered.load(SeqCst) < enough {
            sleep(Duration::from_millis(1)).await;
        }
        over.store(true, SeqCst);
    };
    let (asked, ()) = tokio::join!(join_all((0..CLIENTS).map(client)), killer);
    assert_eq!(asked.into_iter().sum::<usize>(), answered.load(SeqCst));
    let status = serde_json::to_value(stage.topology.status()).unwrap();
    let pool = &status["graphs"][0]["nodes"][0]["pool"];
    assert_eq!(pool["healthy"], true, "{status}");
    // One answer for each, and none for nobody.
    assert_eq!(pool["answered"], answered.load(SeqCst), "{status}");
}

#[tokio::test]
async fn killed_workers_lose_no_single_item() {
    killed_under_load(r#"function "item""#).await;
}

#[tokio::test]
async fn killed_workers_lose_no_item_of_a_batch() {
    killed_under_load(r#"function "batch"; batch max-size=8"#).await;
}

#[tokio::test]
async fn killed_workers_lose_no_coroutine() {
    killed_under_load(r#"function "later""#).await;
}

#[tokio::test]
async fn an_item_that_kills_is_refused_alone() {
    for options in [
        r#"function "item""#,
        r#"function "batch"; batch max-size=16 max-wait="20ms""#,
        r#"function "later""#,
    ] {
        let stage = Stage::start(options).await;
        let items = (0..15).map(Value::Integer).chain([Value::text("poison")]);
        let answers = join_all(items.map(|n| stage.ask(n))).await;
        for (n, answer) in answers[..15].iter().enumerate() {
            let (_, back) = answer.as_ref().unwrap();
            assert_eq!(back.as_integer(), Some(n as i64), "{options}");
        }
        let error = answers[15].as_ref().unwrap_err();
        assert!(
            error.contains("the worker ended: exit status: 1"),
            "{error}"
        );
        // It is known by now, and the worker lives on.
        let (before, _) = stage.ask(Value::Integer(1)).await.unwrap();
        assert!(stage.ask(Value::text("poison")).await.is_err());
        let (after, _) = stage.ask(Value::Integer(2)).await.unwrap();
        assert_eq!(before, after, "{options}");
    }
}

#[tokio::test]
async fn a_stuck_worker_is_killed_at_the_nodes_timeout() {
    for function in ["item", "later"] {
        let stage = Stage::start(&format!("function {function:?}; timeout \"1s\"")).await;
        let (before, _) = stage.ask(Value::Integer(1)).await.unwrap();
        let error = stage.ask(Value::text("hang")).await.unwrap_err();
        assert!(error.contains("took longer than 1s"), "{error}");
        // The next may come before the kill, and then waits as long as it may.
        let until = Instant::now() + Duration::from_secs(60);
        let after = loop {
            match stage.ask(Value::Integer(2)).await {
                Ok((after, _)) => break after,
                Err(_) => assert!(Instant::now() < until),
            }
        };
        assert_ne!(before, after);
    }
}
