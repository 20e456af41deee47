//! `embed`, `rerank` and `generate` on services: vLLM, SGLang, TensorRT-LLM, Ollama, llama.cpp, Text
//! Embeddings Inference, and whatever else speaks OpenAI's, Cohere's or TEI's protocol.
//!
//! A node has one or several endpoints, over HTTP or gRPC. A call goes to the one with less load of two
//! that are drawn, or where the adapter that it names is warm; one that fails in a way that is not the item's fault goes on to another, and an endpoint that fails
//! several times in a row is left alone, asked after a pause whether it is there, and taken back.
//! Retries, breakers and fallbacks are the engine's affair, around the node.

mod balance;
mod body;
mod completion;
mod embed;
mod events;
mod failure;
mod generate;
mod rerank;
mod site;
#[cfg(test)]
mod tests;
mod unary;
mod wire;

pub use embed::RemoteEmbed;
pub use generate::RemoteGenerate;
pub use rerank::RemoteRerank;

use crate::{NodeError, Value, placement::identity};
use balance::{Balance, Change, Ended};
pub(crate) use failure::Failure;
use schema::{
    Spanned, Text,
    kind::{Placement, Protocol},
};
use site::{Site, Way};
use smallvec::SmallVec;
use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info, warn};
pub(crate) use wire::escaped;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a service may be silent where neither node nor request has a timeout.
const SILENCE: Duration = Duration::from_secs(300);
/// How long an endpoint may take to say that it is there again.
const PROBE: Duration = Duration::from_secs(2);
/// Further endpoints that one call tries. More would multiply the load where all are in trouble.
const ELSEWHERE: usize = 3;

/// The endpoints of a node.
#[derive(Clone)]
pub(crate) struct Endpoints(Arc<Shared>);

pub(crate) struct Shared {
    sites: Vec<Site>,
    model: Option<String>,
    key: Option<Text>,
    /// The header that the key is sent in as it is; `authorization: Bearer` if none.
    key_header: Option<&'static str>,
    probe: &'static str,
    placement: Placement,
    client: reqwest::Client,
    balance: Mutex<Balance>,
    start: Instant,
    chance: RandomState,
    calls: AtomicU64,
}

/// Services that are called alike.
pub(crate) struct Services<'a> {
    pub(crate) urls: &'a [Spanned<Text>],
    /// What is put before paths where an address has none of its own.
    pub(crate) prefix: &'static str,
    /// What is asked to find out whether one is there again: a path, or a method of gRPC that takes
    /// nothing.
    pub(crate) probe: &'static str,
    /// The model's name there.
    pub(crate) model: Option<&'a Text>,
    pub(crate) key: Option<&'a Text>,
    /// The header that the key is sent in as it is; `authorization: Bearer` if none.
    pub(crate) key_header: Option<&'static str>,
    /// Where calls go that name an adapter.
    pub(crate) placement: Placement,
}

impl<'a> Services<'a> {
    /// The endpoints of a model as declared.
    fn of(spec: &'a schema::kind::Endpoint, protocol: Protocol) -> Self {
        let (prefix, probe) = match protocol {
            Protocol::OpenAi | Protocol::Cohere => ("/v1", "/models"),
            Protocol::Tei => ("", "/health"),
        };
        Self {
            urls: &spec.urls,
            prefix,
            probe,
            model: spec.model.as_ref(),
            key: spec.api_key.as_ref(),
            key_header: None,
            placement: spec.placement,
        }
    }
}

impl Endpoints {
    /// The endpoints as declared; nothing is connected yet.
    ///
    /// # Errors
    /// An address that is none, or a key that cannot be sent.
    pub(crate) fn new(services: &Services<'_>) -> Result<Self, NodeError> {
        let client = crate::http_client()
            .user_agent(concat!("engine/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            // Without this, small requests wait for the acknowledgement of the one before.
            .tcp_nodelay(true)
            // A key must not follow where an answer points.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| NodeError::because("failed to make an HTTP client", error))?;
        Self::with_client(services, client)
    }

    fn with_client(services: &Services<'_>, client: reqwest::Client) -> Result<Self, NodeError> {
        let urls = services.urls.iter();
        let sites = urls.map(|url| Site::new(&url.value, services.prefix));
        let sites: Vec<_> = sites.collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Shared {
            balance: Mutex::new(Balance::new(
                services.urls.iter().map(|url| identity(url.expose())),
            )),
            sites,
            model: services.model.map(|model| model.expose().to_owned()),
            key: services.key.cloned(),
            key_header: services.key_header,
            probe: services.probe,
            placement: services.placement,
            client,
            start: Instant::now(),
            chance: RandomState::new(),
            calls: AtomicU64::new(0),
        })))
    }

    /// Has `attempt` answered by an endpoint, and by others if it fails there and may do better
    /// elsewhere. What it used is given with the answer, for as long as the answer goes on. `adapter`
    /// is the one that it names.
    ///
    /// # Errors
    /// That of the last endpoint that was tried, or that `deadline` has passed.
    pub(crate) async fn call<T, F>(
        &self,
        deadline: Option<Instant>,
        adapter: Option<&str>,
        attempt: impl Fn(Target) -> F,
    ) -> Result<(T, Use), NodeError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let begun = Instant::now();
        let mut tried: SmallVec<[usize; 4]> = SmallVec::new();
        let mut last = NodeError::failed("there is no endpoint");
        while tried.len() <= ELSEWHERE {
            let Some(mut used) = self.begin(&tried, adapter, deadline) else {
                break;
            };
            tried.push(used.target.index);
            let answer = attempt(used.target.clone());
            let answer = match deadline {
                None => answer.await,
                Some(deadline) => timeout_at(deadline, answer)
                    .await
                    .unwrap_or_else(|_| Err(Failure::late(deadline.duration_since(begun)))),
            };
            let failure = match answer {
                Ok(answer) => {
                    used.note(Ended::Well);
                    return Ok((answer, used));
                }
                Err(failure) => failure,
            };
            used.note(failure.ended);
            last = failure.error;
            if !failure.elsewhere {
                break;
            }
            debug!(endpoint = used.target.name(), error = %last, "a call failed");
        }
        Err(last)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.sites.len()
    }

    fn begin(
        &self,
        tried: &[usize],
        adapter: Option<&str>,
        deadline: Option<Instant>,
    ) -> Option<Use> {
        let shared = &self.0;
        let adapter = adapter.filter(|_| shared.placement == Placement::Warm);
        let now = shared.start.elapsed();
        let chance = shared.chance.hash_one(shared.calls.fetch_add(1, Relaxed));
        let (chosen, due) = {
            let mut balance = shared.balance();
            (
                balance.choose(now, tried, adapter, chance),
                balance.due(now),
            )
        };
        if let Some(index) = due {
            tokio::spawn(self.target(index).probe());
        }
        Some(Use {
            target: self.target(chosen?),
            begun: Instant::now(),
            deadline,
            noted: false,
        })
    }

    fn target(&self, index: usize) -> Target {
        Target {
            shared: Arc::clone(&self.0),
            index,
        }
    }

    /// The model that a request names: the adapter if it has one, as vLLM takes it.
    fn named<'a>(&'a self, adapter: Option<&'a str>) -> Option<(&'static str, &'a str)> {
        let adapter = adapter.map(|name| ("adapter", name));
        adapter.or(self.0.model.as_deref().map(|name| ("model", name)))
    }
}

impl Shared {
    fn balance(&self) -> MutexGuard<'_, Balance> {
        // Held for a few instructions, none of which leaves half a change behind.
        self.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint that a call was sent to.
#[derive(Clone)]
pub(crate) struct Target {
    shared: Arc<Shared>,
    index: usize,
}

impl Target {
    fn site(&self) -> &Site {
        &self.shared.sites[self.index]
    }

    /// What errors and logs call it.
    pub(crate) fn name(&self) -> &str {
        &self.site().name
    }

    /// Finds out whether the endpoint is there again. Any answer but a server's error will do: that of
    /// a path that it does not have as well.
    async fn probe(self) {
        let path = self.shared.probe;
        let there = match &self.site().way {
            Way::Http { .. } => {
                let answer = self.request(reqwest::Method::GET, path).timeout(PROBE);
                let answer = answer.send().await;
                answer.is_ok_and(|answer| !answer.status().is_server_error())
            }
            Way::Grpc(_) => {
                let ready = self.is_ready(path);
                timeout(PROBE, ready).await.unwrap_or(false)
            }
        };
        let now = self.shared.start.elapsed();
        self.shared.balance().probed(now, self.index, there);
        if there {
            info!(endpoint = self.name(), "the endpoint is there again");
        }
    }
}

/// A call that is under way at an endpoint.
pub(crate) struct Use {
    target: Target,
    begun: Instant,
    deadline: Option<Instant>,
    noted: bool,
}

impl Use {
    /// Notes how it ended, or for a stream how it began and then ended.
    fn note(&mut self, ended: Ended) {
        self.noted = true;
        let (shared, took) = (&self.target.shared, self.begun.elapsed());
        let now = shared.start.elapsed();
        let change = shared.balance().ended(now, self.target.index, took, ended);
        if let Change::Out(pause) = change {
            let endpoint = self.target.name();
            warn!(endpoint, ?pause, "the endpoint is left alone for a while");
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let late = |deadline: Instant| deadline <= Instant::now();
        if !self.noted && self.deadline.is_some_and(late) {
            self.note(Ended::Badly);
        }
        self.target.shared.balance().left(self.target.index);
    }
}

/// The adapter that an item names.
fn adapter(item: &crate::Input) -> Result<Option<&str>, NodeError> {
    match item.arguments.get("adapter") {
        Value::None => Ok(None),
        Value::Text(name) => Ok(Some(name)),
        other => Err(crate::embed::wrong("an adapter's name", other)),
    }
}
