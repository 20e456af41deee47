//! What the expressions of one request can read.

use super::RequestError;
use graphs::{Path, Root, Step};
use minijinja::value::{Enumerator, Object, ObjectExt as _, Value as Shown};
use nodes::{Map, NodeError, Value};
use smallvec::SmallVec;
use std::sync::Arc;

/// The request and the results so far. Cloning copies pointers.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// The request's fields, a map.
    pub(super) input: Value,
    /// The request's headers, a map, or none where the graph reads none.
    pub(super) headers: Value,
    /// Results by node; none for those that have not run.
    pub(super) results: SmallVec<[Value; 8]>,
}

/// A scope, and the element that is looked at inside `each`.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) scope: &'a Scope,
    pub(super) item: Option<&'a Value>,
}

/// Names that a template uses and where they lead.
pub(super) type Names = Arc<[(Box<str>, Root)]>;

impl<'a> View<'a> {
    pub(super) fn root(self, root: Root) -> &'a Value {
        match root {
            Root::Input => &self.scope.input,
            Root::Header => &self.scope.headers,
            Root::Item => self.item.unwrap_or(&Value::None),
            Root::Node(node) => &self.scope.results[node.index()],
        }
    }

    /// Follows a path; a pointer copy.
    pub(super) fn path(self, path: &Path) -> Result<Value, NodeError> {
        let start = self.root(path.root);
        let Some((first, more)) = path.steps.split_first() else {
            return Ok(start.clone());
        };
        // A header that was not sent is none; elsewhere, what does not exist is an error.
        if path.root == Root::Header {
            let found = match (start, first) {
                (Value::Map(headers), Step::Field(name)) => headers.get(name.as_str()),
                _ => None,
            };
            return Ok(found.cloned().unwrap_or_default());
        }
        let mut value = step(start, first).map_err(|reason| missing(path, reason))?;
        for next in more {
            value = step(&value, next).map_err(|reason| missing(path, reason))?;
        }
        Ok(value)
    }

    /// What a template with these names sees.
    pub(super) fn names(self, names: &Names) -> Shown {
        let values = names.iter().map(|(_, root)| self.root(*root).clone());
        Shown::from_object(Named {
            values: values.collect(),
            names: Arc::clone(names),
        })
    }
}

fn step(value: &Value, step: &Step) -> Result<Value, String> {
    match (value, step) {
        // What a skipped node yields has no parts, and reading one of them yields none again.
        (Value::None, _) => Ok(Value::None),
        (Value::Map(map), Step::Field(name)) => map
            .get(name.as_str())
            .cloned()
            .ok_or_else(|| format!("there is no field `{name}`")),
        (Value::Document(document), Step::Field(name)) => document
            .field(name)
            .ok_or_else(|| format!("a document has no field `{name}`")),
        (Value::List(list), Step::Index(index)) => place(*index, list.len())
            .map(|place| list[place].clone())
            .ok_or_else(|| format!("the list has {} elements", list.len())),
        (Value::Vector(vector), Step::Index(index)) => place(*index, vector.len())
            .map(|place| Value::Number(vector[place].into()))
            .ok_or_else(|| format!("the vector has {} elements", vector.len())),
        (value, Step::Field(name)) => Err(format!("a {} has no field `{name}`", value.type_name())),
        (value, Step::Index(_)) => Err(format!("a {} has no elements", value.type_name())),
    }
}

fn place(index: i64, len: usize) -> Option<usize> {
    let place = match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
    };
    (place < len).then_some(place)
}

fn missing(path: &Path, reason: String) -> NodeError {
    let mut text = String::new();
    for step in &path.steps {
        text += &match step {
            Step::Field(name) => format!(".{name}"),
            Step::Index(index) => format!("[{index}]"),
        };
    }
    NodeError::failed(format!("`{text}` cannot be read: {reason}"))
}

/// The root of a template's names.
#[derive(Debug)]
struct Named {
    names: Names,
    values: SmallVec<[Value; 4]>,
}

impl Object for Named {
    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Shown> {
        let place = self.names.iter().position(|(name, _)| **name == *key)?;
        let (root, value) = (self.names[place].1, &self.values[place]);
        Some(match (root, value) {
            (Root::Header, Value::Map(headers)) => Shown::from_object(Headers(Arc::clone(headers))),
            _ => value.to_template(),
        })
    }
}

/// The request's headers, of which all others are none.
#[derive(Debug)]
struct Headers(Arc<Map>);

impl Object for Headers {
    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Shown> {
        let value = self.0.get(key).map(Value::to_template);
        Some(value.unwrap_or_else(|| Shown::from(())))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|this| Box::new(this.0.iter().map(|(name, _)| Shown::from(name))))
    }
}

impl RequestError {
    /// An error outside of every node.
    pub(super) fn of_graph(graph: &Arc<str>, error: NodeError) -> Self {
        Self {
            graph: Arc::clone(graph),
            node: None,
            error,
        }
    }
}
