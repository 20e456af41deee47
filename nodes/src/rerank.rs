//! `rerank`: documents to better ordered documents, with a cross-encoder in this process.

use crate::{
    Document, Input, Map, NodeError, Value,
    adapter::Adapters,
    compute,
    embed::{adapter, unsplit, wrong},
    model::{Encoder, Sequence},
    on_thread::{Cost, Model},
};
use std::{ops::Range, sync::Arc};

/// Scores each document of an item against its query and gives them best first.
///
/// Takes the arguments `query` (a text), `documents` (documents or texts, of which the id is their
/// place in the list), `keep` (how many to give; all if none) and `adapter` (a name, or none for the
/// bare model). The score is the classifier's own number, not bounded; documents with equal scores
/// stay in their order.
pub struct Rerank {
    encoder: Encoder,
    adapters: Arc<dyn Adapters>,
}

impl Rerank {
    /// Over an encoder, whose clones may stand in other replicas.
    pub fn new(encoder: Encoder, adapters: Arc<dyn Adapters>) -> Self {
        Self { encoder, adapters }
    }

    /// Adds the pairs of an item to those of the batch.
    fn read(&self, item: &Input, pairs: &mut Vec<Sequence>) -> Result<Read, NodeError> {
        let documents = documents(item)?;
        let keep = keep(item)?;
        let query = query(item)?;
        let adapter = adapter(item, &*self.adapters)?;
        if let Some(problem) = self.encoder.scoring_problem(adapter.as_deref()) {
            return Err(NodeError::invalid(problem));
        }
        let start = pairs.len();
        let tokenize = self.encoder.tokenize();
        let query = tokenize.first(query).map_err(unsplit)?;
        let split = compute::map(documents.len(), |index| {
            tokenize.pair(&query, &documents[index].text)
        });
        let split: Vec<_> = split
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(unsplit)?;
        pairs.extend(split.into_iter().map(|tokens| Sequence {
            tokens,
            adapter: adapter.clone(),
        }));
        Ok(Read {
            documents,
            keep,
            range: start..pairs.len(),
        })
    }
}

/// An item, and where its scores will be.
struct Read {
    documents: Vec<Document>,
    keep: usize,
    range: Range<usize>,
}

impl Read {
    fn order(self, scores: &[f32]) -> Result<Value, NodeError> {
        let scores: Vec<f64> = scores[self.range]
            .iter()
            .map(|score| f64::from(*score))
            .collect();
        order(self.documents, &scores, self.keep)
    }
}

/// The documents with their scores, best first, as many as are to be kept.
pub(crate) fn order(
    mut documents: Vec<Document>,
    scores: &[f64],
    keep: usize,
) -> Result<Value, NodeError> {
    for (document, score) in documents.iter_mut().zip(scores) {
        if score.is_nan() {
            let reason = format!(
                "the score of the document {:?} is not a number",
                document.id
            );
            return Err(NodeError::failed(reason));
        }
        document.score = *score;
    }
    // Stable, so that equal scores keep the order of the search before.
    documents.sort_by(|a, b| b.score.total_cmp(&a.score));
    documents.truncate(keep);
    Ok(Value::list(documents.into_iter().map(Value::Document)))
}

impl Model for Rerank {
    fn forward(&mut self, batch: Vec<Input>) -> Vec<Result<Value, NodeError>> {
        let mut pairs = Vec::new();
        let items: Vec<_> = batch
            .iter()
            .map(|item| self.read(item, &mut pairs))
            .collect();
        let scores = self.encoder.score(&pairs);
        let scores = scores.map_err(|e| NodeError::because("failed to score the documents", e));
        let answer =
            |item: Result<Read, NodeError>| item?.order(scores.as_ref().map_err(NodeError::clone)?);
        items.into_iter().map(answer).collect()
    }

    fn adapters(&self) -> Option<Arc<dyn Adapters>> {
        Some(Arc::clone(&self.adapters))
    }

    fn cost(&self) -> Cost {
        let encoder = self.encoder.clone();
        Box::new(move |item| {
            let query = query(item).map_or(0, str::len);
            let documents = documents(item).unwrap_or_default();
            let cost = |text: &str| encoder.tokenize().estimate(query + text.len());
            documents.iter().map(|document| cost(&document.text)).sum()
        })
    }
}

pub(crate) fn query(item: &Input) -> Result<&str, NodeError> {
    match item.arguments.get("query") {
        Value::Text(query) => Ok(query),
        other => Err(wrong("a query", other)),
    }
}

pub(crate) fn keep(item: &Input) -> Result<usize, NodeError> {
    let keep = item.arguments.get("keep");
    if keep.is_none() {
        return Ok(usize::MAX);
    }
    let number = keep
        .as_integer()
        .ok_or_else(|| wrong("the number of documents to keep", keep))?;
    usize::try_from(number)
        .map_err(|_| NodeError::invalid(format!("{number} documents cannot be kept")))
}

pub(crate) fn documents(item: &Input) -> Result<Vec<Document>, NodeError> {
    let documents = match item.arguments.get("documents") {
        Value::List(documents) => documents,
        other => return Err(wrong("a list of documents", other)),
    };
    let document = |(index, value): (usize, &Value)| match value {
        Value::Document(document) => Ok(document.clone()),
        Value::Text(text) => Ok(Document {
            id: index.to_string().into(),
            text: Arc::clone(text),
            score: 0.0,
            metadata: Arc::default(),
        }),
        Value::Map(map) => from_map(index, map),
        other => Err(wrong("a document or a text", other)),
    };
    documents.iter().enumerate().map(document).collect()
}

/// A document as JSON has it.
fn from_map(index: usize, map: &Map) -> Result<Document, NodeError> {
    let Some(Value::Text(text)) = map.get("text") else {
        return Err(NodeError::invalid(format!(
            "the document at {index} has no \"text\""
        )));
    };
    let id = match map.get("id") {
        Some(Value::Text(id)) => Arc::clone(id),
        Some(Value::Integer(id)) => id.to_string().into(),
        _ => index.to_string().into(),
    };
    let metadata = match map.get("metadata") {
        Some(Value::Map(metadata)) => Arc::clone(metadata),
        _ => Arc::default(),
    };
    Ok(Document {
        id,
        text: Arc::clone(text),
        score: 0.0,
        metadata,
    })
}
