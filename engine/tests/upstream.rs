//! A service that fails and comes back, behind an `http` node with everything that a pool can do.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use axum::{Router, http::StatusCode, routing::get};
use engine::{execute::Request, metrics::Metrics, topology::Topology};
use graphs::Facts;
use nodes::{
    Catalog, Context, StandardCatalog, Value,
    source::{Fetcher, Settings, Silent},
};
use schema::{Source, SourceId};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{net::TcpListener, time::Instant};

#[tokio::test]
async fn a_storm_opens_the_breaker_takes_the_fallback_and_ends() {
    let (failing, calls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (fails, counted) = (Arc::clone(&failing), Arc::clone(&calls));
    let answer = move || async move {
        counted.fetch_add(1, SeqCst);
        match fails.load(SeqCst) {
            true => Err(StatusCode::BAD_GATEWAY),
            false => Ok("fresh"),
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let topology = start(&format!(
        r#"graph g {{ input {{ q type=string }}
            http h {{
                url "http://{address}/"
                query "q" "{{{{ input.q }}}}"
                timeout "30s"
                retry max=1 backoff="1ms"
                breaker window="60s" errors=0.5 min-requests=4 open="500ms"
                fallback "stale"
            }}
            output {{ y "{{{{ h }}}}" }} }}"#
    ))
    .await;
    for _ in 0..4 {
        assert_eq!(ask(&topology).await, "fresh");
    }
    failing.store(true, SeqCst);
    for _ in 0..20 {
        assert_eq!(ask(&topology).await, "stale");
    }
    // An open breaker keeps most of them from the service; one goes through now and then.
    let (before, begun) = (calls.load(SeqCst), Instant::now());
    for _ in 0..200 {
        assert_eq!(ask(&topology).await, "stale");
    }
    let trials = 2 + 2 * begun.elapsed().as_millis() as usize / 500;
    let made = calls.load(SeqCst) - before;
    assert!(made <= trials, "{made} calls");
    failing.store(false, SeqCst);
    let until = Instant::now() + Duration::from_secs(60);
    while ask(&topology).await != "fresh" {
        assert!(Instant::now() < until, "the breaker stays open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn start(text: &str) -> Topology {
    let source = Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: text.to_owned(),
    };
    let (document, problems) = schema::parse(&source, &|_| None);
    assert!(problems.is_empty(), "{problems:#?}");
    let program = graphs::check(document, &Facts::default()).unwrap();
    let fetcher = Arc::new(Fetcher::new(Settings::from_environment(), Arc::new(Silent)));
    let catalog = StandardCatalog::new(&[], &[], Path::new("."), &fetcher, None);
    let catalog = Arc::new(catalog) as Arc<dyn Catalog>;
    let topology = Topology::start(1, Arc::new(program), catalog, &Metrics::new()).await;
    topology.unwrap()
}

async fn ask(topology: &Topology) -> String {
    let request = Request {
        input: Value::from_json(br#"{"q": "x"}"#).unwrap(),
        context: Context::default(),
        ..Request::default()
    };
    let answer = topology.graphs()[0].prepared().run(request).await.unwrap();
    answer.fields["y"].as_text().unwrap().to_string()
}
