//! `embed`: texts to vectors, with an encoder in this process.

use crate::{
    Input, NodeError, Value,
    adapter::{Adapter, Adapters},
    model::{Encoder, Sequence, TokenizeError},
    on_thread::{Cost, Model},
};
use std::{ops::Range, sync::Arc};

/// Embeds a text, or each of a list of texts, for each item.
///
/// Takes the arguments `text` (a text or a list of texts; too long a text is cut as the model says)
/// and `adapter` (a name, or none for the bare model). Gives a vector, or a list of vectors.
pub struct Embed {
    encoder: Encoder,
    adapters: Arc<dyn Adapters>,
}

impl Embed {
    /// Over an encoder, whose clones may stand in other replicas.
    pub fn new(encoder: Encoder, adapters: Arc<dyn Adapters>) -> Self {
        Self { encoder, adapters }
    }

    /// Adds the texts of an item to those of the batch.
    fn read(&self, item: &Input, sequences: &mut Vec<Sequence>) -> Result<Read, NodeError> {
        let adapter = adapter(item, &*self.adapters)?;
        let start = sequences.len();
        let (texts, is_list) = texts(item.arguments.get("text"))?;
        for text in texts {
            let tokens = self.encoder.tokenize().text(text).map_err(unsplit)?;
            let adapter = adapter.clone();
            sequences.push(Sequence { tokens, adapter });
        }
        Ok(Read {
            range: start..sequences.len(),
            is_list,
        })
    }
}

/// Where the vectors of an item will be.
struct Read {
    range: Range<usize>,
    is_list: bool,
}

impl Model for Embed {
    fn forward(&mut self, batch: Vec<Input>) -> Vec<Result<Value, NodeError>> {
        let mut sequences = Vec::with_capacity(batch.len());
        let items: Vec<_> = batch
            .iter()
            .map(|item| self.read(item, &mut sequences))
            .collect();
        let vectors = self.encoder.embed(&sequences);
        let vectors = vectors.map_err(|e| NodeError::because("failed to embed the texts", e));
        let answer = |item: Result<Read, NodeError>| {
            let (read, vectors) = (item?, vectors.as_ref().map_err(NodeError::clone)?);
            let mut own = vectors[read.range].iter().cloned().map(Value::Vector);
            Ok(match own.next() {
                Some(only) if !read.is_list => only,
                first => Value::list(first.into_iter().chain(own)),
            })
        };
        items.into_iter().map(answer).collect()
    }

    fn adapters(&self) -> Option<Arc<dyn Adapters>> {
        Some(Arc::clone(&self.adapters))
    }

    fn cost(&self) -> Cost {
        let encoder = self.encoder.clone();
        Box::new(move |item| {
            let texts = texts(item.arguments.get("text")).map(|(texts, _)| texts);
            let costs = texts.unwrap_or_default().into_iter();
            costs
                .map(|text| encoder.tokenize().estimate(text.len()))
                .sum()
        })
    }
}

/// The adapter that an item names; none if it names none.
pub(crate) fn adapter(
    item: &Input,
    adapters: &dyn Adapters,
) -> Result<Option<Arc<Adapter>>, NodeError> {
    match item.arguments.get("adapter") {
        Value::None => Ok(None),
        Value::Text(name) => adapters.get(name).map(Some),
        other => Err(wrong("an adapter's name", other)),
    }
}

/// The texts, and whether they came as a list.
pub(crate) fn texts(value: &Value) -> Result<(Vec<&str>, bool), NodeError> {
    match value {
        Value::Text(text) => Ok((vec![text], false)),
        Value::List(list) => {
            let texts = list.iter().map(|value| match value {
                Value::Text(text) => Ok(&**text),
                other => Err(wrong("a text", other)),
            });
            Ok((texts.collect::<Result<_, _>>()?, true))
        }
        other => Err(wrong("a text or a list of texts", other)),
    }
}

pub(crate) fn unsplit(error: TokenizeError) -> NodeError {
    NodeError::invalid(error.to_string())
}

/// The argument is not what it should be.
pub(crate) fn wrong(wanted: &str, have: &Value) -> NodeError {
    NodeError::invalid(format!("{wanted} is needed, this is {}", have.type_name()))
}
