//! `rerank` on a service.

use super::{
    Endpoints, Failure, Services, Target, adapter,
    body::{about_texts, most_texts},
};
use crate::{
    Input, Node, NodeError, Running, Value,
    rerank::{documents, keep, order, query},
};
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use schema::kind::Protocol;
use serde::Deserialize;

/// Most documents of a request, as Cohere has it.
const MOST: usize = 1000;
/// Requests of one item that are under way at once.
const AT_ONCE: usize = 4;

/// Scores each document of an item against its query with a service, and gives them best first.
///
/// Takes the arguments `query`, `documents`, `keep`, `adapter` and `extra`. The score is the
/// service's own.
pub struct RemoteRerank {
    endpoints: Endpoints,
    protocol: Protocol,
    most: usize,
}

impl RemoteRerank {
    /// With the endpoints as declared; nothing is connected yet.
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(spec: &schema::kind::Endpoint) -> Result<Self, NodeError> {
        let protocol = spec.protocol.map_or(Protocol::Cohere, |given| given.value);
        Ok(Self {
            endpoints: Endpoints::new(&Services::of(spec, protocol))?,
            protocol,
            most: most_texts(protocol, MOST),
        })
    }

    async fn answer(&self, item: Input) -> Result<Value, NodeError> {
        let (documents, keep, query) = (documents(&item)?, keep(&item)?, query(&item)?);
        let texts: Vec<&str> = documents.iter().map(|document| &*document.text).collect();
        let parts = texts.chunks(self.most);
        let asked: Vec<_> = parts.map(|part| self.score(&item, query, part)).collect();
        let scores: Vec<Vec<f64>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        order(documents, &scores.concat(), keep)
    }

    async fn score(
        &self,
        item: &Input,
        query: &str,
        texts: &[&str],
    ) -> Result<Vec<f64>, NodeError> {
        let protocol = self.protocol;
        let adapter = adapter(item)?;
        let named = self.endpoints.named(adapter);
        let documents = Value::list(texts.iter().map(|text| Value::text(*text)));
        let place = match protocol {
            Protocol::Tei => "texts",
            Protocol::OpenAi | Protocol::Cohere => "documents",
        };
        let fields = [("query", Value::text(query)), (place, documents)];
        let body = about_texts(protocol, named, fields, item.arguments.get("extra"))?;
        let attempt = |target: Target| {
            let body = body.clone();
            async move {
                let ranks = match protocol {
                    Protocol::Tei => target.ask("/rerank", body, named).await?,
                    _ => target.ask::<Results>("/rerank", body, named).await?.results,
                };
                scores(&ranks, texts.len(), &target)
            }
        };
        let (scores, _) = self
            .endpoints
            .call(item.context.deadline, adapter, attempt)
            .await?;
        Ok(scores)
    }
}

impl Node for RemoteRerank {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(join_all(batch.into_iter().map(|item| self.answer(item))))
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

/// An answer in the shape of Cohere and Jina; TEI gives the list alone.
#[derive(Deserialize)]
struct Results {
    results: Vec<Rank>,
}

#[derive(Deserialize)]
struct Rank {
    index: usize,
    #[serde(alias = "relevance_score")]
    score: f64,
}

/// The scores in the order of the documents, each of which must have one.
fn scores(ranks: &[Rank], documents: usize, target: &Target) -> Result<Vec<f64>, Failure> {
    let mut scores = vec![None; documents];
    for rank in ranks {
        if let Some(score) = scores.get_mut(rank.index) {
            *score = Some(rank.score);
        }
    }
    let all: Option<Vec<f64>> = scores.into_iter().collect();
    all.ok_or_else(|| {
        let name = target.name();
        Failure::senseless(format!("{name} left documents without a score"))
    })
}
