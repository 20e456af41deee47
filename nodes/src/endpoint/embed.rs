//! `embed` on a service: the texts of a batch go out in one request.

use super::{
    Endpoints, Failure, Services, Target, adapter,
    body::{about_texts, most_texts},
};
use crate::{
    Input, Node, NodeError, Running, Value,
    embed::{texts, wrong},
};
use futures::{
    StreamExt as _,
    future::{BoxFuture, join, join_all},
    stream,
};
use schema::kind::Protocol;
use serde::Deserialize;
use tokio::time::Instant;

/// Batches that are under way at one endpoint.
const AT_ONCE: usize = 4;
/// Most texts of a request.
const MOST: usize = 256;

/// Embeds a text, or each of a list of texts, for each item, with a service.
///
/// Takes the arguments `text`, `adapter` and `extra`. Texts of a batch that name the same adapter and
/// the same further fields share a request.
pub struct RemoteEmbed {
    endpoints: Endpoints,
    protocol: Protocol,
    most: usize,
}

impl RemoteEmbed {
    /// With the endpoints as declared; nothing is connected yet.
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(spec: &schema::kind::Endpoint) -> Result<Self, NodeError> {
        let protocol = spec.protocol.map_or(Protocol::OpenAi, |given| given.value);
        Ok(Self {
            endpoints: Endpoints::new(&Services::of(spec, protocol))?,
            protocol,
            most: most_texts(protocol, MOST),
        })
    }

    async fn answer(&self, batch: &[Input]) -> Vec<Result<Value, NodeError>> {
        let items: Vec<_> = batch.iter().map(Item::read).collect();
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut places = Vec::with_capacity(batch.len());
        for item in &items {
            places.push(item.as_ref().ok().map(|item| Group::add(&mut groups, item)));
        }
        let answers = join_all(groups.iter().map(|group| self.group(group))).await;
        let answer = |(item, place): (Result<Item<'_>, NodeError>, Option<(usize, usize)>)| {
            let item = item?;
            let (group, first) = place.unwrap_or_default();
            let own = &answers[group][first..first + item.texts.len()];
            let mut vectors = own.iter().cloned();
            match item.is_list {
                true => Ok(Value::list(vectors.collect::<Result<Vec<_>, _>>()?)),
                false => vectors.next().unwrap_or(Ok(Value::None)),
            }
        };
        items.into_iter().zip(places).map(answer).collect()
    }

    async fn group(&self, group: &Group<'_>) -> Vec<Result<Value, NodeError>> {
        let parts = group.texts.chunks(self.most);
        let asked: Vec<_> = parts.map(|part| self.part(group, part)).collect();
        let answers: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        answers.into_iter().flatten().collect()
    }

    /// A part of a group that fits into one request. If one of its texts is at fault, the service
    /// refuses them all, so each half is asked by itself.
    fn part<'a>(
        &'a self,
        group: &'a Group<'a>,
        texts: &'a [&'a str],
    ) -> BoxFuture<'a, Vec<Result<Value, NodeError>>> {
        Box::pin(async move {
            match self.ask(group, texts).await {
                Ok(vectors) => vectors.into_iter().map(Ok).collect(),
                Err(NodeError::Invalid { .. }) if texts.len() > 1 => {
                    let (first, second) = texts.split_at(texts.len() / 2);
                    let halves = join(self.part(group, first), self.part(group, second));
                    let (mut first, second) = halves.await;
                    first.extend(second);
                    first
                }
                Err(error) => texts.iter().map(|_| Err(error.clone())).collect(),
            }
        })
    }

    async fn ask(&self, group: &Group<'_>, texts: &[&str]) -> Result<Vec<Value>, NodeError> {
        let protocol = self.protocol;
        let named = self.endpoints.named(group.adapter);
        let input = Value::list(texts.iter().map(|text| Value::text(*text)));
        let body = match protocol {
            Protocol::Tei => about_texts(protocol, named, [("inputs", input)], group.extra),
            Protocol::OpenAi | Protocol::Cohere => {
                let floats = ("encoding_format", Value::text("float"));
                about_texts(protocol, named, [("input", input), floats], group.extra)
            }
        }?;
        let attempt = |target: Target| {
            let body = body.clone();
            async move {
                let vectors = match protocol {
                    Protocol::Tei => target.ask("/embed", body, named).await?,
                    _ => {
                        let answer: Embeddings = target.ask("/embeddings", body, named).await?;
                        answer.in_order()
                    }
                };
                checked(vectors, texts.len(), &target)
            }
        };
        let (vectors, _) = self
            .endpoints
            .call(group.deadline, group.adapter, attempt)
            .await?;
        Ok(vectors)
    }
}

impl Node for RemoteEmbed {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(async move { self.answer(&batch).await })
    }

    fn running(&self) -> Running {
        Running::Batches(AT_ONCE * self.endpoints.count())
    }
}

/// What an item asks for.
struct Item<'a> {
    texts: Vec<&'a str>,
    is_list: bool,
    adapter: Option<&'a str>,
    extra: &'a Value,
    deadline: Option<Instant>,
}

impl<'a> Item<'a> {
    fn read(item: &'a Input) -> Result<Self, NodeError> {
        let (texts, is_list) = texts(item.arguments.get("text"))?;
        let extra = item.arguments.get("extra");
        if !matches!(extra, Value::None | Value::Map(_)) {
            return Err(wrong("a map of further fields", extra));
        }
        Ok(Self {
            texts,
            is_list,
            adapter: adapter(item)?,
            extra,
            deadline: item.context.deadline,
        })
    }
}

/// Texts that can share a request.
struct Group<'a> {
    texts: Vec<&'a str>,
    adapter: Option<&'a str>,
    extra: &'a Value,
    /// That of the item that has most time; those with less are given up by the pool.
    deadline: Option<Instant>,
}

impl<'a> Group<'a> {
    /// Puts the texts of an item into the group where they belong, and says where they are.
    fn add(groups: &mut Vec<Self>, item: &Item<'a>) -> (usize, usize) {
        let same = |extra: &Value| extra.to_json().ok() == item.extra.to_json().ok();
        let fits = |group: &Self| group.adapter == item.adapter && same(group.extra);
        let index = groups.iter().position(fits).unwrap_or_else(|| {
            groups.push(Self {
                texts: Vec::new(),
                adapter: item.adapter,
                extra: item.extra,
                deadline: item.deadline,
            });
            groups.len() - 1
        });
        let group = &mut groups[index];
        group.deadline = group.deadline.zip(item.deadline).map(|(a, b)| a.max(b));
        let first = group.texts.len();
        group.texts.extend(&item.texts);
        (index, first)
    }
}

/// An answer in OpenAI's shape.
#[derive(Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: Option<usize>,
    embedding: Vec<f32>,
}

impl Embeddings {
    fn in_order(mut self) -> Vec<Vec<f32>> {
        self.data.sort_by_key(|embedding| embedding.index);
        let vectors = self.data.into_iter();
        vectors.map(|embedding| embedding.embedding).collect()
    }
}

/// One vector a text, all of one size.
fn checked(vectors: Vec<Vec<f32>>, texts: usize, target: &Target) -> Result<Vec<Value>, Failure> {
    let size = vectors.first().map_or(0, Vec::len);
    let even = vectors
        .iter()
        .all(|vector| vector.len() == size && size > 0);
    if vectors.len() != texts || (!even && texts > 0) {
        let (name, given) = (target.name(), vectors.len());
        let reason = format!("{name} answered {texts} texts with {given} vectors, or uneven ones");
        return Err(Failure::senseless(reason));
    }
    let vectors = vectors.into_iter();
    Ok(vectors.map(|vector| Value::Vector(vector.into())).collect())
}
