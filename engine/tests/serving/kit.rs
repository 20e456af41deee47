//! A catalog whose nodes do what their input says, and programs from text.

use engine::{execute::Request, metrics::Metrics, topology::Topology};
use futures::{FutureExt as _, future::BoxFuture};
use graphs::{Facts, Program};
use nodes::{
    Catalog, Context, Document, Finish, FinishReason, Input, Map, Node, NodeError, Order, Running,
    Value, text_stream,
};
use schema::{Kind, Source, SourceId};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The program that a text declares.
pub(crate) fn program(text: &str) -> Arc<Program> {
    let source = Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: text.to_owned(),
    };
    let (document, problems) = schema::parse(&source, &|_| None);
    assert!(problems.is_empty(), "{problems:#?}");
    let program = graphs::check(document, &Facts::default());
    Arc::new(program.unwrap_or_else(|problems| panic!("{problems:#?}")))
}

/// A running program.
pub(crate) async fn start(text: &str, catalog: &Scripted) -> Topology {
    Topology::start(1, program(text), catalog.shared(), &Metrics::new())
        .await
        .unwrap()
}

/// A request with these fields, given a minute.
pub(crate) fn request(fields: &str) -> Request {
    Request {
        input: Value::from_json(fields.as_bytes()).unwrap(),
        context: Context {
            request_id: None,
            deadline: Some(Instant::now() + Duration::from_secs(60)),
        },
        ..Request::default()
    }
}

/// The answer of a program's only graph, or its error, as text.
pub(crate) async fn ask(topology: &Topology, request: Request) -> String {
    match topology.graphs()[0].prepared().run(request).await {
        Ok(answer) => serde_json::to_string(&*answer.fields).unwrap(),
        Err(error) => format!("error: {error}"),
    }
}

/// Builds nodes of every kind. A text or prompt that a node gets is what it does:
/// `sleep MILLISECONDS TEXT` waits first, `fail TEXT`, `down TEXT` and `panic` do that, `break`
/// panics and keeps further nodes from being built, `hang` never answers. Other texts are answered: `embed` by a vector of their length, `generate` word
/// by word, `search` by numbered documents.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    pub(crate) seen: Arc<Seen>,
}

/// What the nodes have seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Items that run.
    pub(crate) running: AtomicUsize,
    /// Most items that ran at once.
    pub(crate) most: AtomicUsize,
    /// Items that were dropped before they were answered.
    pub(crate) dropped: AtomicUsize,
    /// Whether no node can be built.
    pub(crate) broken: AtomicBool,
    /// Every text, as it came.
    pub(crate) texts: Mutex<Vec<String>>,
}

impl Scripted {
    /// The same for a topology to keep.
    pub(crate) fn shared(&self) -> Arc<dyn Catalog> {
        Arc::new(self.clone())
    }
}

impl Catalog for Scripted {
    fn build<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Arc<dyn Node>, NodeError>> {
        let node = Actor {
            kind: order.work.kind(),
            seen: Arc::clone(&self.seen),
        };
        let model = order.work.model().map(|model| model.value.to_string());
        async move {
            if self.seen.broken.load(SeqCst) {
                return Err(NodeError::failed("its file is gone"));
            }
            match model.as_deref() {
                Some("broken") => Err(NodeError::failed("its file is damaged")),
                _ => Ok(Arc::new(node) as Arc<dyn Node>),
            }
        }
        .boxed()
    }
}

struct Actor {
    kind: Kind,
    seen: Arc<Seen>,
}

impl Node for Actor {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        let items = batch.into_iter().map(|item| self.act(item));
        futures::future::join_all(items).boxed()
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

impl Actor {
    async fn act(&self, item: Input) -> Result<Value, NodeError> {
        let mut presence = Presence::enter(&self.seen);
        let result = self.follow(item).await;
        presence.answered = true;
        result
    }

    async fn follow(&self, item: Input) -> Result<Value, NodeError> {
        let arguments = &item.arguments;
        let text = ["text", "prompt", "query"]
            .iter()
            .find_map(|port| arguments.get(port).as_text());
        let mut text = text.map_or("", |text| text);
        self.seen.texts.lock().unwrap().push(text.to_owned());
        if let Some(rest) = text.strip_prefix("sleep ") {
            let (wait, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            sleep(Duration::from_millis(wait.parse().unwrap())).await;
            text = rest;
        }
        match text.split_once(' ').unwrap_or((text, "")) {
            ("fail", reason) => Err(NodeError::failed(reason)),
            ("down", reason) => Err(NodeError::unavailable(reason)),
            ("panic", _) => panic!("as told"),
            ("break", _) => {
                self.seen.broken.store(true, SeqCst);
                panic!("as told")
            }
            ("hang", _) => std::future::pending().await,
            _ => Ok(self.answer(text, &item)),
        }
    }

    fn answer(&self, text: &str, item: &Input) -> Value {
        match self.kind {
            Kind::Embed => Value::Vector([text.len() as f32].into()),
            Kind::Search => {
                let many = item.arguments.get("top-k").as_integer().unwrap_or(1);
                Value::list(
                    (0..many).map(|n| document(&format!("d{n}"), text, 1.0 / (n + 1) as f64)),
                )
            }
            Kind::Rerank => match item.arguments.get("documents") {
                Value::List(list) => Value::list(list.iter().rev().cloned()),
                other => other.clone(),
            },
            Kind::Generate => generate(text),
            _ => Value::text(text),
        }
    }
}

fn document(id: &str, text: &str, score: f64) -> Value {
    Value::Document(Document {
        id: id.into(),
        text: text.into(),
        score,
        metadata: Arc::new(Map::new()),
    })
}

/// One word each 10 ms; a word `fail!` breaks the text off there.
fn generate(prompt: &str) -> Value {
    let (sink, stream) = text_stream();
    let words: Vec<String> = prompt.split_inclusive(' ').map(str::to_owned).collect();
    tokio::spawn(async move {
        let made = words.len() as u32;
        for word in words {
            sleep(Duration::from_millis(10)).await;
            if word.trim() == "fail!" {
                return sink.end(Err(NodeError::failed("lost the thread")));
            }
            sink.push(word);
        }
        sink.end(Ok(Finish {
            reason: FinishReason::Stop,
            prompt_tokens: 4,
            cached_tokens: 3,
            completion_tokens: made,
            guessed_tokens: 2,
        }));
    });
    Value::Stream(stream)
}

/// An item that runs; counted as dropped unless it is answered.
struct Presence<'a> {
    seen: &'a Seen,
    answered: bool,
}

impl<'a> Presence<'a> {
    fn enter(seen: &'a Seen) -> Self {
        let now = seen.running.fetch_add(1, SeqCst) + 1;
        seen.most.fetch_max(now, SeqCst);
        let answered = false;
        Self { seen, answered }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.seen.running.fetch_sub(1, SeqCst);
        if !self.answered {
            self.seen.dropped.fetch_add(1, SeqCst);
        }
    }
}

/// Lets every task do what it can without time passing.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
