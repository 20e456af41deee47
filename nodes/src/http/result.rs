//! `result`: a template over a response. A text that is one `{{ expression }}` keeps the type of its
//! value, as everywhere in a graph. Unlike the templates of a graph it reads no other node, and so is
//! compiled here.

use super::answer::Answer;
use crate::{Map, NodeError, Value};
use minijinja::{
    AutoEscape, Environment, Error, Expression, UndefinedBehavior, value::Value as Shown,
};
use schema::Argument;
use std::sync::{Arc, LazyLock};

/// Most instructions that one evaluation may take.
const FUEL: u64 = 1_000_000;

/// Most bytes that a text may have.
const MOST: usize = 8 << 20;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// The only template of the environment of a [`Result::Text`].
const NAME: &str = "result";

/// What of a response a node yields.
#[derive(Debug)]
pub(super) enum Result {
    Body,
    Constant(Value),
    Native(Expression<'static, 'static>),
    Text(Box<Environment<'static>>),
}

impl Result {
    pub(super) fn new(argument: Option<&Argument>) -> std::result::Result<Self, NodeError> {
        let template = match argument {
            None => return Ok(Result::Body),
            Some(Argument::Literal(literal)) => {
                return Ok(Result::Constant((&literal.value).into()));
            }
            Some(Argument::Template(template)) => template.text(),
        };
        let text = template.trim();
        let inner = text
            .strip_prefix("{{")
            .and_then(|text| text.strip_suffix("}}"));
        if let Some(inner) = inner
            && let Ok(expression) = ENVIRONMENT.compile_expression_owned(inner.trim().to_owned())
        {
            return Ok(Result::Native(expression));
        }
        let mut environment = environment();
        environment
            .add_template_owned(NAME, template.to_owned())
            .map_err(failed)?;
        Ok(Result::Text(Box::new(environment)))
    }

    pub(super) fn of(&self, answer: Answer) -> std::result::Result<Value, NodeError> {
        match self {
            Result::Body => Ok(answer.body),
            Result::Constant(value) => Ok(value.clone()),
            Result::Native(expression) => {
                let value = expression.eval(shown(answer));
                let value = value.and_then(|value| Value::from_template(&value));
                value.map_err(failed)
            }
            Result::Text(environment) => {
                let template = environment.get_template(NAME);
                let text = template.and_then(|template| template.render(shown(answer)));
                let text = text.map_err(failed)?;
                match text.len() <= MOST {
                    true => Ok(Value::text(text)),
                    false => Err(NodeError::failed("`result` is too long")),
                }
            }
        }
    }
}

/// A response as templates see it.
fn shown(answer: Answer) -> Shown {
    let names = [
        ("status", Value::Integer(answer.status.into())),
        ("headers", Value::Map(Arc::new(answer.headers))),
        ("body", answer.body),
    ];
    let names: Map = names.map(|(name, value)| (name.into(), value)).into();
    Value::Map(Arc::new(names)).to_template()
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.add_filter("json", minijinja::filters::tojson);
    environment
}

fn failed(error: Error) -> NodeError {
    let detail = error.detail().map(|detail| format!(": {detail}"));
    let reason = format!(
        "`result` cannot be evaluated: {}{}",
        error.kind(),
        detail.unwrap_or_default()
    );
    NodeError::failed(reason)
}
