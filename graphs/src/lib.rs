//! Meaning: declarations in, graphs that can run out.
//!
//! [`check()`] resolves names, finds the references inside templates, checks the types of ports and
//! yields a [`Program`], the only proof that a file is good; nothing afterwards looks a name up or
//! asks whether it exists. [`plan()`] says what a running program has to do to become another one. [`Walk`] is the way of one request through a graph, and [`show`] draws
//! graphs. The crate knows no files, no clock and no runtime.

mod check;
mod expression;
mod facts;
mod graph;
pub mod plan;
mod problems;
pub mod show;
#[cfg(test)]
mod sketch;
mod template;
mod types;
mod walk;

pub use check::{OWN_ROUTES, check};
pub use expression::{Expression, Path, Root, Step, TemplateExpression};
pub use facts::{Content, Facts, IndexFacts, Machine, ModelFacts, PythonFacts};
pub use graph::{Bound, BoundEach, BoundFallback, BoundOutput, Graph, GraphNode, NodeIx, Program};
pub use plan::{Plan, plan};
pub use template::builtins;
pub use walk::{Next, Outcome, Ready, Walk};
