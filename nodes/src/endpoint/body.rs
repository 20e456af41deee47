//! What requests of the services have in common: the fields around texts, and further ones of the
//! file's.

use super::wire::Named;
use crate::{Map, NodeError, Value};
use bytes::Bytes;
use schema::kind::Protocol;
use std::sync::Arc;

/// Most texts of a request to Text Embeddings Inference, which refuses more unless its operator
/// allows them.
const MOST_TEI: usize = 32;

/// Most texts of a request, where other services than TEI take `most`.
pub(super) fn most_texts(protocol: Protocol, most: usize) -> usize {
    match protocol {
        Protocol::Tei => MOST_TEI,
        Protocol::OpenAi | Protocol::Cohere => most,
    }
}

/// The body of a request about texts: what the protocol wants besides, the node's own `fields`, and
/// the further ones of the file.
///
/// # Errors
/// A field of the file that cannot be sent.
pub(super) fn about_texts<const N: usize>(
    protocol: Protocol,
    named: Named<'_>,
    fields: [(&str, Value); N],
    extra: &Value,
) -> Result<Bytes, NodeError> {
    let mut body = Map::new();
    match (protocol, named) {
        // A local model cuts a text that is too long, too.
        (Protocol::Tei, _) => drop(body.insert("truncate".into(), Value::Boolean(true))),
        (_, Some((_, name))) => drop(body.insert("model".into(), Value::text(name))),
        (_, None) => {}
    }
    let fields = fields.into_iter();
    body.extend(fields.map(|(name, value)| (Arc::from(name), value)));
    sealed(body, extra)
}

/// A body with further fields as it is sent; one of them that is none takes its field out.
///
/// # Errors
/// A field that cannot be sent.
pub(super) fn sealed(mut body: Map, extra: &Value) -> Result<Bytes, NodeError> {
    if let Value::Map(extra) = extra {
        for (name, value) in extra.iter() {
            match value {
                Value::None => drop(body.shift_remove(name)),
                value => drop(body.insert(Arc::clone(name), value.clone())),
            }
        }
    }
    let body = Value::Map(Arc::new(body)).to_json();
    let body = body.map_err(|error| NodeError::invalid(error.to_string()))?;
    Ok(body.into())
}
