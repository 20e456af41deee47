//! What an item asks for, from its arguments.

use super::Sampling;
use crate::{
    Arguments, NodeError, Value,
    model::decoder::{LanguageModel, Message},
};
use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::Arc,
    time::Duration,
};

/// What an item asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) prompt: Vec<u32>,
    pub(super) max_tokens: usize,
    pub(super) sampling: Sampling,
    pub(super) stops: Vec<String>,
    pub(super) adapter: Option<Arc<str>>,
}

const MAX_TOKENS: usize = 256;
/// What `Generate::ports` of the schema names the messages of a file by.
const ROLES: [&str; 3] = ["system", "user", "assistant"];

impl Request {
    /// Reads the arguments and puts the prompt into tokens; `now` is the time since 1970, which some
    /// chat templates write.
    ///
    /// # Errors
    /// An argument is missing or senseless.
    pub(super) fn read(
        arguments: &Arguments,
        model: &LanguageModel,
        now: Duration,
    ) -> Result<Self, NodeError> {
        let stops = arguments.all("stop").filter(|stop| !stop.is_none());
        Ok(Self {
            max_tokens: count(arguments, "max-tokens")?.unwrap_or(MAX_TOKENS),
            sampling: sampling(arguments)?,
            stops: stops
                .map(|stop| text("stop", stop).map(str::to_owned))
                .collect::<Result<_, _>>()?,
            adapter: match arguments.get("adapter") {
                Value::None => None,
                name => Some(text("adapter", name)?.into()),
            },
            prompt: prompt(arguments, model, now)?,
        })
    }
}

fn prompt(
    arguments: &Arguments,
    model: &LanguageModel,
    now: Duration,
) -> Result<Vec<u32>, NodeError> {
    let messages = messages(arguments)?;
    let failed = |error| NodeError::because("failed to put the prompt into tokens", error);
    if messages.is_empty() {
        return match arguments.get("prompt") {
            Value::None => Err(NodeError::invalid(
                "neither a prompt nor messages are given",
            )),
            prompt => model
                .tokenizer
                .encode(text("prompt", prompt)?)
                .map_err(failed),
        };
    }
    let rendered = model.render_chat(&messages, now);
    let rendered = rendered.map_err(|error| NodeError::invalid(error.to_string()))?;
    model.tokenizer.encode_rendered(&rendered).map_err(failed)
}

/// The messages of the file, then those of the request.
fn messages(arguments: &Arguments) -> Result<Vec<Message>, NodeError> {
    let written = arguments.iter().filter(|(port, _)| ROLES.contains(port));
    let mut messages = written
        .map(|(role, content)| {
            Ok(Message {
                role: role.to_owned(),
                content: text(role, content)?.to_owned(),
            })
        })
        .collect::<Result<Vec<_>, NodeError>>()?;
    let chat = match arguments.get("chat") {
        Value::None => return Ok(messages),
        Value::List(chat) => chat,
        other => return Err(wrong("chat", "a list of messages", other)),
    };
    for message in chat.iter() {
        let Value::Map(map) = message else {
            return Err(wrong(
                "chat",
                "a list of messages with `role` and `content`",
                message,
            ));
        };
        let field = |name: &str| text(name, map.get(name).unwrap_or(&Value::None));
        messages.push(Message {
            role: field("role")?.to_owned(),
            content: field("content")?.to_owned(),
        });
    }
    match messages.is_empty() {
        true => Err(NodeError::invalid("chat has no messages")),
        false => Ok(messages),
    }
}

fn sampling(arguments: &Arguments) -> Result<Sampling, NodeError> {
    let at_least_0 = |number: f64| number >= 0.0;
    let share = |number: f64| (0.0..=1.0).contains(&number);
    let temperature = number(arguments, "temperature", "0 or more", at_least_0)?;
    let penalty = number(arguments, "repetition-penalty", "above 0", |number| {
        number > 0.0
    })?;
    let seed = match arguments.get("seed") {
        // As good as any other where nobody asks for one.
        Value::None => RandomState::new().build_hasher().finish(),
        seed => seed
            .as_integer()
            .ok_or_else(|| wrong("seed", "a whole number", seed))? as u64,
    };
    Ok(Sampling {
        temperature: temperature.unwrap_or(0.0),
        top_k: count(arguments, "top-k")?,
        top_p: number(arguments, "top-p", "from 0 to 1", share)?,
        min_p: number(arguments, "min-p", "from 0 to 1", share)?,
        repetition_penalty: penalty.unwrap_or(1.0),
        seed,
    })
}

fn count(arguments: &Arguments, port: &'static str) -> Result<Option<usize>, NodeError> {
    let value = arguments.get(port);
    if value.is_none() {
        return Ok(None);
    }
    let count = value.as_integer().filter(|count| *count >= 1);
    let count = count.and_then(|count| usize::try_from(count).ok());
    let error = || NodeError::invalid(format!("{port} must be a whole number from 1 on"));
    count.map(Some).ok_or_else(error)
}

fn number(
    arguments: &Arguments,
    port: &str,
    expected: &str,
    fits: impl Fn(f64) -> bool,
) -> Result<Option<f32>, NodeError> {
    let value = arguments.get(port);
    if value.is_none() {
        return Ok(None);
    }
    let number = value
        .as_number()
        .filter(|number| number.is_finite() && fits(*number));
    let error = || NodeError::invalid(format!("{port} must be a number {expected}"));
    number.map(|number| Some(number as f32)).ok_or_else(error)
}

fn text<'a>(port: &str, value: &'a Value) -> Result<&'a str, NodeError> {
    value
        .as_text()
        .map(|text| &**text)
        .ok_or_else(|| wrong(port, "a text", value))
}

fn wrong(port: &str, expected: &str, value: &Value) -> NodeError {
    NodeError::invalid(format!(
        "{port} must be {expected}, it is {}",
        value.type_name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(port: &str, value: Value) -> Arguments {
        Arguments::from_iter([(port, value)])
    }

    #[test]
    fn senseless_arguments_are_refused_with_a_reason() {
        let cases = [
            (
                "temperature",
                Value::Number(-1.0),
                "temperature must be a number 0 or more",
            ),
            (
                "temperature",
                Value::Number(f64::NAN),
                "temperature must be a number 0 or more",
            ),
            (
                "temperature",
                Value::text("hot"),
                "temperature must be a number 0 or more",
            ),
            (
                "top-k",
                Value::Integer(0),
                "top-k must be a whole number from 1 on",
            ),
            (
                "top-k",
                Value::Number(1.5),
                "top-k must be a whole number from 1 on",
            ),
            (
                "top-p",
                Value::Number(1.1),
                "top-p must be a number from 0 to 1",
            ),
            (
                "min-p",
                Value::Integer(-1),
                "min-p must be a number from 0 to 1",
            ),
            (
                "repetition-penalty",
                Value::Integer(0),
                "repetition-penalty must be a number above 0",
            ),
            (
                "seed",
                Value::text("x"),
                "seed must be a whole number, it is text",
            ),
        ];
        for (port, value, expected) in cases {
            let error = sampling(&arguments(port, value)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let none = sampling(&arguments("top-k", Value::None)).unwrap();
        assert_eq!(
            (none.top_k, none.temperature, none.repetition_penalty),
            (None, 0.0, 1.0)
        );
    }

    #[test]
    fn messages_come_from_the_file_and_then_from_the_request() {
        let map = |fields: &[(&str, &str)]| {
            let fields = fields
                .iter()
                .map(|(name, text)| ((*name).into(), Value::text(*text)));
            Value::Map(Arc::new(fields.collect()))
        };
        let chat = Value::list([map(&[("role", "assistant"), ("content", "c")])]);
        let given = [
            ("system", Value::text("a")),
            ("user", Value::text("b")),
            ("chat", chat),
        ];
        let read = messages(&Arguments::from_iter(given)).unwrap();
        let read: Vec<_> = read.iter().map(|m| (&*m.role, &*m.content)).collect();
        assert_eq!(read, [("system", "a"), ("user", "b"), ("assistant", "c")]);
        let cases = [
            (
                Value::text("x"),
                "chat must be a list of messages, it is text",
            ),
            (Value::list([]), "chat has no messages"),
            (
                Value::list([Value::Integer(1)]),
                "chat must be a list of messages with `role` and `content`, it is integer",
            ),
            (
                Value::list([map(&[("role", "user")])]),
                "content must be a text, it is none",
            ),
        ];
        for (value, expected) in cases {
            let error = messages(&arguments("chat", value)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
