//! `embed`: texts to vectors, with an encoder in this process.

use crate::{
    Input, NodeError, Value,
    adapter::{Adapter, Adapters},
    compute,
    model::{Encoder, Sequence, TokenizeError, Tokens},
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

    /// Adds the texts of an item to those of the batch, to be split.
    fn read<'a>(&self, item: &'a Input, all: &mut Vec<&'a str>) -> Result<Read, NodeError> {
        let adapter = adapter(item, &*self.adapters)?;
        let (texts, is_list) = texts(item.arguments.get("text"))?;
        let read = Read {
            texts: texts.len(),
            is_list,
            adapter,
        };
        all.extend(texts);
        Ok(read)
    }
}

/// An item's share of a batch.
struct Read {
    /// How many of the batch's texts are its own, after those of the items before it.
    texts: usize,
    is_list: bool,
    adapter: Option<Arc<Adapter>>,
}

/// Where the vectors of an item will be.
struct Place {
    range: Range<usize>,
    is_list: bool,
}

impl Read {
    /// Adds the tokens of its texts to those of the batch; none of them if one cannot be read.
    fn place(
        self,
        mut split: impl Iterator<Item = Result<Tokens, TokenizeError>>,
        sequences: &mut Vec<Sequence>,
    ) -> Result<Place, NodeError> {
        let own: Vec<_> = split.by_ref().take(self.texts).collect();
        let own: Vec<Tokens> = own.into_iter().collect::<Result<_, _>>().map_err(unsplit)?;
        let start = sequences.len();
        sequences.extend(own.into_iter().map(|tokens| Sequence {
            tokens,
            adapter: self.adapter.clone(),
        }));
        Ok(Place {
            range: start..sequences.len(),
            is_list: self.is_list,
        })
    }
}

impl Model for Embed {
    fn forward(&mut self, batch: Vec<Input>) -> Vec<Result<Value, NodeError>> {
        let mut texts = Vec::with_capacity(batch.len());
        let items: Vec<_> = batch
            .iter()
            .map(|item| self.read(item, &mut texts))
            .collect();
        let tokenize = self.encoder.tokenize();
        let split = compute::map(texts.len(), |index| tokenize.text(texts[index]));
        let (mut split, mut sequences) = (split.into_iter(), Vec::with_capacity(texts.len()));
        let items: Vec<_> = items
            .into_iter()
            .map(|item| item?.place(&mut split, &mut sequences))
            .collect();
        let vectors = self.encoder.embed(&sequences);
        let vectors = vectors.map_err(|e| NodeError::because("failed to embed the texts", e));
        let answer = |item: Result<Place, NodeError>| {
            let (place, vectors) = (item?, vectors.as_ref().map_err(NodeError::clone)?);
            let mut own = vectors[place.range].iter().cloned().map(Value::Vector);
            Ok(match own.next() {
                Some(only) if !place.is_list => only,
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
