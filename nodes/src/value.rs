//! What flows along the edges of a graph.

mod fit;
mod json;
mod template;

pub use fit::Misfit;

use crate::TextStream;
use indexmap::IndexMap;
use std::sync::Arc;

/// A map from names to values, in the order in which they were put in.
pub type Map = IndexMap<Arc<str>, Value>;

/// A value on its way from node to node. Cloning one copies a pointer at most, so that branches
/// share what they read; nothing is serialised before it leaves the process.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Nothing: the result of a node that was skipped, JSON's `null`.
    #[default]
    None,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A text.
    Text(Arc<str>),
    /// A dense vector.
    Vector(Arc<[f32]>),
    /// A sequence.
    List(Arc<[Value]>),
    /// A map.
    Map(Arc<Map>),
    /// A passage of an index.
    Document(Document),
    /// A text that is still being made.
    Stream(TextStream),
}

/// A passage as `search` finds it and `rerank` orders it.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its id in the index.
    pub id: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
    /// How well it fits; higher is better, the scale is that of the node that gave it.
    pub score: f64,
    /// What else is stored with it.
    pub metadata: Arc<Map>,
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Value::Text(text.into())
    }

    /// A list.
    pub fn list(values: impl IntoIterator<Item = Value>) -> Self {
        Value::List(values.into_iter().collect())
    }

    /// What it is, in the words of the language.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::None => "none",
            Value::Boolean(_) => "boolean",
            Value::Integer(_) => "integer",
            Value::Number(_) => "number",
            Value::Text(_) => "text",
            Value::Vector(_) => "vector",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Document(_) => "document",
            Value::Stream(_) => "stream of text",
        }
    }

    /// Whether there is nothing.
    pub fn is_none(&self) -> bool {
        matches!(self, Value::None)
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&Arc<str>> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one; a number without a fraction is.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(integer) => Some(*integer),
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                Some(*number as i64)
            }
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Integer(integer) => Some(*integer as f64),
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    pub fn as_list(&self) -> Option<&Arc<[Value]>> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }
}
