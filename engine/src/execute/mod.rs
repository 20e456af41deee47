//! One request's way through a graph: [`graphs::Walk`] decides, this module runs.
//!
//! Everything happens in the task of the caller. A chain runs inline, parallel branches are polled
//! side by side, and dropping the future of a request gives up whatever it has under way. Nothing
//! is serialised on the way, and nothing is decided here that the check could decide.

mod admission;
mod ahead;
mod call;
mod expression;
mod prepared;
mod run;
mod scope;

pub use prepared::Prepared;
pub use run::{Answer, Request};

use nodes::NodeError;
use std::sync::Arc;

/// A piece of a text on its way to an output field.
#[derive(Debug, Clone)]
pub struct Delta {
    /// The field of the answer.
    pub field: Arc<str>,
    /// The next piece of its text.
    pub text: Arc<str>,
}

/// Why a request has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.describe())]
pub struct RequestError {
    /// The graph.
    pub graph: Arc<str>,
    /// The node that failed; none if it was outside of every node.
    pub node: Option<Arc<str>>,
    /// What went wrong there.
    #[source]
    pub error: NodeError,
}

impl RequestError {
    fn describe(&self) -> String {
        match &self.node {
            Some(node) => format!("node `{node}` of graph `{}`: {}", self.graph, self.error),
            None => format!("graph `{}`: {}", self.graph, self.error),
        }
    }
}
