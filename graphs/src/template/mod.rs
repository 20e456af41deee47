//! Templates: parsed, their names found, their types inferred. Nothing here renders one.

pub mod builtins;
mod call;
mod condition;
mod expression;
mod filters;
mod infer;
mod member;
mod operator;
mod parse;
mod place;
mod scope;

pub(crate) use expression::literal_type;
pub(crate) use infer::{infer, with_article};
pub(crate) use parse::{Parsed, Tree, literal, parse};
pub(crate) use place::{extent, subject};
pub(crate) use scope::{Known, Scope};
