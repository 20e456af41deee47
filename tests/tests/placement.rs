//! Adapters on several servers that keep their own: with placement each is loaded by few of them, and
//! no server has much more to do than its share.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use axum::{Json, Router, extract::State, response::IntoResponse, routing::post};
use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};
use tests::{Engine, write_graph};
use tokio::{net::TcpListener, time::sleep};

const SERVERS: usize = 4;
const ADAPTERS: usize = 64;
/// Adapters that a server has room for: all together have room for half of them.
const ROOM: usize = 8;
const REQUESTS: usize = 1200;
/// Requests that are under way at once.
const AT_ONCE: usize = 16;

/// A server that keeps the adapters that were asked for last, as vLLM does.
#[derive(Default)]
struct Server {
    loaded: VecDeque<String>,
    loads: usize,
    ongoing: usize,
    most: usize,
}

impl Server {
    fn begin(&mut self, adapter: &str) {
        self.ongoing += 1;
        self.most = self.most.max(self.ongoing);
        match self.loaded.iter().position(|loaded| loaded == adapter) {
            Some(place) => drop(self.loaded.remove(place)),
            None => self.loads += 1,
        }
        self.loaded.push_back(adapter.to_owned());
        if self.loaded.len() > ROOM {
            self.loaded.pop_front();
        }
    }
}

type Shared = Arc<Mutex<Server>>;

async fn complete(State(server): State<Shared>, Json(body): Json<Value>) -> impl IntoResponse {
    let adapter = body["model"].as_str().unwrap();
    server.lock().unwrap().begin(adapter);
    sleep(Duration::from_millis(2)).await;
    server.lock().unwrap().ongoing -= 1;
    let part = json!({ "choices": [{ "index": 0, "text": adapter, "finish_reason": "stop" }] });
    let kind = [("content-type", "text/event-stream")];
    (kind, format!("data: {part}\n\ndata: [DONE]\n\n"))
}

async fn servers() -> (Vec<String>, Vec<Shared>) {
    let (mut urls, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..SERVERS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.push(format!("\"http://{}\"", listener.local_addr().unwrap()));
        let server = Shared::default();
        let app = Router::new().route("/v1/completions", post(complete));
        let app = app.with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, app).await });
        servers.push(server);
    }
    (urls, servers)
}

/// Names of adapters, the n-th 1/n times as often as the first; the same ones each time.
fn zipf() -> impl Iterator<Item = usize> {
    let weights = (1..=ADAPTERS).map(|rank| 1.0 / rank as f64);
    let all: f64 = weights.clone().sum();
    let mut state = 1_u64;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let mut left = (state >> 11) as f64 / (1_u64 << 53) as f64 * all;
        let mut ranks = weights.clone().enumerate();
        let found = ranks.find(|(_, weight)| {
            left -= weight;
            left <= 0.0
        });
        found.map_or(ADAPTERS - 1, |(rank, _)| rank)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_stay_where_they_are_loaded() {
    let mut file = String::new();
    let mut all = Vec::new();
    for placement in ["warm", "load"] {
        let (urls, servers) = servers().await;
        write!(
            file,
            r#"
            graph {placement} route="/{placement}" {{
                input {{ adapter type=string }}
                generate answer {{
                    endpoint {} {{
                        adapter "{{{{ input.adapter }}}}"
                        placement "{placement}"
                    }}
                    prompt "x"
                }}
                output {{ answer "{{{{ answer }}}}" }}
            }}"#,
            urls.join(" ")
        )
        .unwrap();
        all.push((placement, servers));
    }
    let (_folder, path) = write_graph(&file);
    let engine = Engine::start(&path);
    let mut loads = Vec::new();
    for (placement, servers) in &all {
        let asked = zipf().take(REQUESTS).map(async |rank| {
            let adapter = format!("a{rank}");
            let asked = json!({ "adapter": adapter });
            let answer = engine.post(&format!("/{placement}"), asked).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.json(), json!({ "answer": adapter }));
        });
        let answers = stream::iter(asked).buffer_unordered(AT_ONCE);
        answers.collect::<Vec<()>>().await;
        let each: Vec<_> = servers
            .iter()
            .map(|server| server.lock().unwrap().loads)
            .collect();
        eprintln!("{placement}: loads {each:?} of {REQUESTS} requests");
        loads.push(each.iter().sum::<usize>());
        if *placement == "warm" {
            let most = servers
                .iter()
                .map(|server| server.lock().unwrap().most)
                .max();
            // Its share of all, and a quarter.
            let bound = (1.25 * AT_ONCE as f64 / SERVERS as f64).ceil() as usize;
            assert!(most.unwrap() <= bound, "{most:?}");
        }
    }
    assert!(
        loads[0] * 4 < loads[1] * 3,
        "with placement and without: {loads:?}"
    );
}
