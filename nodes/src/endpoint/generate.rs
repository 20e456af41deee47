//! `generate` on a service that speaks OpenAI's protocol.
//!
//! The answer is a stream as soon as its first piece is there: until then a failure is the item's
//! error, and another endpoint may be asked; afterwards it ends the stream.

use super::{
    Endpoints, Failure, Services, Target, Use, adapter,
    balance::Ended,
    body::sealed,
    completion::{Broken, Completion},
    wire::{EventReader, Named},
};
use crate::{
    Arguments, Finish, Input, Map, Node, NodeError, Running, TextSink, Value, embed::wrong,
    text_stream,
};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use reqwest::header::CONTENT_TYPE;
use schema::kind::Protocol;
use std::sync::Arc;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// What the ports of the file are called in OpenAI's protocol. Those after `seed` are extensions that
/// vLLM and SGLang have; they are sent only where the file gives them.
const FIELDS: [(&str, &str); 8] = [
    ("tools", "tools"),
    ("max-tokens", "max_tokens"),
    ("temperature", "temperature"),
    ("top-p", "top_p"),
    ("seed", "seed"),
    ("top-k", "top_k"),
    ("min-p", "min_p"),
    ("repetition-penalty", "repetition_penalty"),
];
const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// Continues prompts and answers chats with a service.
///
/// Takes the arguments that `schema::Generate` names. Messages go to `/chat/completions`, a prompt to
/// `/completions`. Gives a stream of text; if the model calls tools, the text is the JSON of its calls.
pub struct RemoteGenerate {
    endpoints: Endpoints,
}

impl RemoteGenerate {
    /// With the endpoints as declared; nothing is connected yet.
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(spec: &schema::kind::Endpoint) -> Result<Self, NodeError> {
        let endpoints = Endpoints::new(&Services::of(spec, Protocol::OpenAi))?;
        Ok(Self { endpoints })
    }

    #[cfg(test)]
    pub(super) fn over(endpoints: Endpoints) -> Self {
        Self { endpoints }
    }

    async fn answer(&self, item: Input) -> Result<Value, NodeError> {
        let adapter = adapter(&item)?;
        let named = self.endpoints.named(adapter);
        let (path, body) = request(&item.arguments, named)?;
        let deadline = item.context.deadline;
        let begun = Instant::now();
        let attempt = |target: Target| {
            let body = body.clone();
            async move { Answer::open(target, path, body, named).await }
        };
        let (answer, used) = self.endpoints.call(deadline, adapter, attempt).await?;
        let (sink, stream) = text_stream();
        let (reading, left) = oneshot::channel::<()>();
        let work = async move {
            let mut used = used;
            let end = answer.pass_on(&sink, &mut used);
            let end = match deadline {
                None => end.await,
                Some(deadline) => timeout_at(deadline, end).await.unwrap_or_else(|_| {
                    let after = deadline.duration_since(begun);
                    Err(NodeError::Timeout { after })
                }),
            };
            sink.end(end);
        };
        tokio::spawn(async move {
            tokio::select! {
                // Who reads it has left: dropping the answer closes its connection, by which the
                // service learns of it.
                _ = left => {}
                () = work => {}
            }
        });
        Ok(Value::Stream(stream.hold(reading)))
    }
}

impl Node for RemoteGenerate {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(join_all(batch.into_iter().map(|item| self.answer(item))))
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

/// An answer whose first piece is there.
struct Answer {
    target: Target,
    events: Option<EventReader>,
    completion: Completion,
    first: Option<String>,
}

impl Answer {
    async fn open(
        target: Target,
        path: &str,
        body: Bytes,
        named: Named<'_>,
    ) -> Result<Self, Failure> {
        let mut answer = target.post(path, body, "text/event-stream", named).await?;
        let mut completion = Completion::default();
        let kind = answer.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") {
            // A service that does not stream answers as a whole.
            let whole = target.whole(&mut answer).await?;
            let whole = String::from_utf8_lossy(&whole);
            let first = completion
                .take(&whole)
                .map_err(|why| broken(&target, why))?;
            return Ok(Self {
                target,
                events: None,
                completion,
                first,
            });
        }
        let mut opened = Self {
            target,
            events: Some(EventReader::new(answer)),
            completion,
            first: None,
        };
        opened.first = opened.next().await?;
        if opened.first.is_none() {
            opened.finish()?;
        }
        Ok(opened)
    }

    /// The next piece of text; none at the end.
    async fn next(&mut self) -> Result<Option<String>, Failure> {
        let Some(events) = &mut self.events else {
            return Ok(None);
        };
        while let Some(data) = events.next(&self.target).await? {
            let piece = self.completion.take(&data);
            let piece = piece.map_err(|why| broken(&self.target, why))?;
            if piece.is_some() {
                return Ok(piece);
            }
            if self.completion.is_done() {
                break;
            }
        }
        Ok(None)
    }

    fn finish(&self) -> Result<Finish, Failure> {
        self.completion.finish().ok_or_else(|| {
            let name = self.target.name();
            Failure::unreachable(format!("the answer of {name} broke off"))
        })
    }

    /// Hands all pieces on, and says how it ended.
    async fn pass_on(mut self, sink: &TextSink, used: &mut Use) -> Result<Finish, NodeError> {
        let end = self.pieces(sink).await;
        end.map_err(|failure| {
            used.note(match failure.ended {
                Ended::Well => Ended::Well,
                _ => Ended::Badly,
            });
            failure.error
        })
    }

    async fn pieces(&mut self, sink: &TextSink) -> Result<Finish, Failure> {
        let mut piece = self.first.take();
        while let Some(text) = piece {
            sink.push(text);
            piece = self.next().await?;
        }
        let finish = self.finish()?;
        if let Some(calls) = self.completion.calls() {
            sink.push(calls);
        }
        Ok(finish)
    }
}

fn broken(target: &Target, why: Broken) -> Failure {
    let name = target.name();
    match why {
        Broken::Senseless(reason) => Failure::senseless(format!("{name}: {reason}")),
        Broken::Failed(words) => {
            Failure::senseless(format!("{name} failed while it answered: {words}"))
        }
    }
}

/// The path and the body for an item.
fn request(arguments: &Arguments, named: Named<'_>) -> Result<(&'static str, Bytes), NodeError> {
    let mut body = Map::new();
    if let Some((_, name)) = named {
        body.insert("model".into(), Value::text(name));
    }
    let messages = messages(arguments)?;
    let path = match messages {
        Some(messages) => {
            body.insert("messages".into(), messages);
            "/chat/completions"
        }
        None => {
            let prompt = arguments.get("prompt");
            let Value::Text(_) = prompt else {
                let reason = "neither a prompt nor messages are given";
                return Err(NodeError::invalid(reason));
            };
            body.insert("prompt".into(), prompt.clone());
            "/completions"
        }
    };
    for (port, field) in FIELDS {
        let value = arguments.get(port);
        if !value.is_none() {
            body.insert(field.into(), value.clone());
        }
    }
    let stops = arguments.all("stop").filter(|stop| !stop.is_none());
    let stops: Vec<Value> = stops.cloned().collect();
    if !stops.is_empty() {
        body.insert("stop".into(), Value::list(stops));
    }
    body.insert("stream".into(), Value::Boolean(true));
    let usage = Map::from_iter([("include_usage".into(), Value::Boolean(true))]);
    body.insert("stream_options".into(), Value::Map(Arc::new(usage)));
    Ok((path, sealed(body, arguments.get("extra"))?))
}

/// The messages of the file, then those of the request as they are; none if there are no messages.
fn messages(arguments: &Arguments) -> Result<Option<Value>, NodeError> {
    let written = arguments.iter().filter(|(port, _)| ROLES.contains(port));
    let mut messages: Vec<Value> = written
        .map(|(role, content)| {
            let message = [
                ("role".into(), Value::text(role)),
                ("content".into(), content.clone()),
            ];
            Value::Map(Arc::new(Map::from_iter(message)))
        })
        .collect();
    match arguments.get("chat") {
        Value::None => {}
        Value::List(chat) => messages.extend(chat.iter().cloned()),
        other => return Err(wrong("a list of messages", other)),
    }
    if let Some(odd) = messages.iter().find(|one| !matches!(one, Value::Map(_))) {
        return Err(wrong("a list of messages with `role` and `content`", odd));
    }
    let none = messages.is_empty();
    if none && !arguments.get("chat").is_none() {
        return Err(NodeError::invalid("chat has no messages"));
    }
    Ok((!none).then(|| Value::list(messages)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(arguments: &[(&str, Value)], named: Named<'_>, expect: Expect) {
        let arguments = Arguments::from_iter(arguments.iter().cloned());
        expect.assert_eq(&match request(&arguments, named) {
            Ok((path, body)) => format!("{path} {}", String::from_utf8(body.to_vec()).unwrap()),
            Err(error) => format!("error: {error}"),
        });
    }

    fn json(text: &str) -> Value {
        Value::from_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn options_become_fields() {
        check(
            &[
                ("prompt", Value::text("Once")),
                ("max-tokens", Value::Integer(5)),
                ("temperature", Value::Number(0.5)),
                ("top-k", Value::Integer(3)),
                ("stop", Value::text("\n")),
                ("stop", Value::text("END")),
                ("extra", json(r#"{"user": "u", "stream_options": null}"#)),
            ],
            Some(("model", "m")),
            expect![[
                r#"/completions {"model":"m","prompt":"Once","max_tokens":5,"temperature":0.5,"top_k":3,"stop":["\n","END"],"stream":true,"user":"u"}"#
            ]],
        );
    }

    #[test]
    fn messages_and_tools_pass_through() {
        check(
            &[
                ("system", Value::text("Be brief.")),
                (
                    "chat",
                    json(
                        r#"[{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"tool","tool_call_id":"c1","content":"4"}]"#,
                    ),
                ),
                (
                    "tools",
                    json(r#"[{"type":"function","function":{"name":"add"}}]"#),
                ),
            ],
            None,
            expect![[
                r#"/chat/completions {"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"tool","tool_call_id":"c1","content":"4"}],"tools":[{"type":"function","function":{"name":"add"}}],"stream":true,"stream_options":{"include_usage":true}}"#
            ]],
        );
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let nothing = expect!["error: neither a prompt nor messages are given"];
        check(&[], None, nothing);
        check(
            &[("chat", Value::list([]))],
            None,
            expect!["error: chat has no messages"],
        );
        check(
            &[("chat", json("[1]"))],
            None,
            expect![
                "error: a list of messages with `role` and `content` is needed, this is integer"
            ],
        );
    }
}
