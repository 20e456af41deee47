//! What a service says while it generates, in OpenAI's shapes. Pure: the data of events goes in,
//! pieces of text and the end come out.

use crate::{Finish, FinishReason};
use serde::{Deserialize, Serialize};

/// The parts of an answer, put together.
#[derive(Debug, Default)]
pub(super) struct Completion {
    reason: Option<FinishReason>,
    usage: Option<Usage>,
    calls: Vec<ToolCall>,
    pieces: u32,
    done: bool,
}

/// Why an answer is not worth reading on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It is not in the shape of a completion.
    Senseless(String),
    /// The service says that it failed.
    Failed(String),
}

/// A completion as a whole, or a part of a streamed one: the fields that both have.
#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    #[serde(alias = "message")]
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCallPart>>,
}

#[derive(Deserialize)]
struct ToolCallPart {
    index: Option<usize>,
    id: Option<String>,
    function: Option<FunctionPart>,
}

#[derive(Deserialize)]
struct FunctionPart {
    name: Option<String>,
    arguments: Option<String>,
}

/// A call of a tool, as the text of the node shows it.
#[derive(Debug, Default, Serialize)]
struct ToolCall {
    id: String,
    r#type: &'static str,
    function: Function,
}

#[derive(Debug, Default, Serialize)]
struct Function {
    name: String,
    arguments: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: u32,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    accepted_prediction_tokens: u32,
}

/// What the service sends after the last part.
const DONE: &str = "[DONE]";

impl Completion {
    /// Takes in a part, and gives its piece of text.
    pub(super) fn take(&mut self, data: &str) -> Result<Option<String>, Broken> {
        if data.trim() == DONE {
            self.done = true;
            return Ok(None);
        }
        let part: Part = serde_json::from_str(data).map_err(|error| {
            Broken::Senseless(format!("a part of the answer makes no sense: {error}"))
        })?;
        if let Some(error) = part.error.filter(|error| !error.is_null()) {
            let message = error.get("message").unwrap_or(&error);
            let text = message.as_str().map(str::to_owned);
            return Err(Broken::Failed(text.unwrap_or_else(|| message.to_string())));
        }
        self.usage = part.usage.or(self.usage);
        // Only one text is asked for, so there is one choice at most.
        let Some(choice) = part.choices.into_iter().next() else {
            return Ok(None);
        };
        if let Some(reason) = choice.finish_reason {
            self.reason = Some(reason_of(&reason));
        }
        let (content, calls) = match choice.delta {
            Some(delta) => (delta.content, delta.tool_calls.unwrap_or_default()),
            None => (None, Vec::new()),
        };
        for (place, call) in calls.into_iter().enumerate() {
            self.call(place, call);
        }
        let piece = choice.text.or(content).filter(|piece| !piece.is_empty());
        self.pieces += u32::from(piece.is_some());
        Ok(piece)
    }

    /// Adds a part of a call. The id and the name come once, the arguments in pieces.
    fn call(&mut self, place: usize, part: ToolCallPart) {
        let index = part.index.unwrap_or(place).min(self.calls.len());
        if index == self.calls.len() {
            self.calls.push(ToolCall {
                r#type: "function",
                ..ToolCall::default()
            });
        }
        let call = &mut self.calls[index];
        call.id.push_str(&part.id.unwrap_or_default());
        if let Some(function) = part.function {
            let (name, arguments) = (function.name, function.arguments);
            call.function.name.push_str(&name.unwrap_or_default());
            let arguments = arguments.unwrap_or_default();
            call.function.arguments.push_str(&arguments);
        }
    }

    /// Whether the service has said that this was all.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The calls of tools as JSON, if there are any.
    pub(super) fn calls(&self) -> Option<String> {
        match self.calls.is_empty() {
            true => None,
            // Texts only, which always become JSON.
            false => serde_json::to_string(&self.calls).ok(),
        }
    }

    /// How it ended, when the body has; none if it broke off.
    pub(super) fn finish(&self) -> Option<Finish> {
        let reason = match self.reason {
            None if !self.done => return None,
            None => FinishReason::Stop,
            Some(reason) => reason,
        };
        // A service that does not count tokens sends about one a piece.
        let usage = self.usage.unwrap_or(Usage {
            prompt_tokens: 0,
            completion_tokens: self.pieces,
            prompt_tokens_details: None,
            completion_tokens_details: None,
        });
        let (read, made) = (usage.prompt_tokens_details, usage.completion_tokens_details);
        Some(Finish {
            reason,
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: read.map_or(0, |details| details.cached_tokens),
            completion_tokens: usage.completion_tokens,
            guessed_tokens: made.map_or(0, |details| details.accepted_prediction_tokens),
        })
    }
}

fn reason_of(reason: &str) -> FinishReason {
    match reason {
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        // "stop", and what services say besides: "eos_token", "stop_sequence".
        _ => FinishReason::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&str]) -> (String, Completion) {
        let mut completion = Completion::default();
        let mut text = String::new();
        for part in parts {
            text.extend(completion.take(part).unwrap());
        }
        (text, completion)
    }

    #[test]
    fn a_chat_is_put_together() {
        let (text, completion) = read(&[
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"choices":[{"delta":{"content":"Hel"}}],"usage":null}"#,
            r#"{"choices":[{"delta":{"content":"lo"}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"accepted_prediction_tokens":1}}}"#,
            "[DONE]",
        ]);
        assert_eq!(text, "Hello");
        assert!(completion.is_done());
        let expected = Finish {
            reason: FinishReason::Length,
            prompt_tokens: 3,
            cached_tokens: 1,
            completion_tokens: 2,
            guessed_tokens: 1,
        };
        assert_eq!(completion.finish(), Some(expected));
    }

    #[test]
    fn a_completion_without_usage_counts_its_pieces() {
        let (text, completion) = read(&[
            r#"{"choices":[{"text":"a","finish_reason":null}]}"#,
            r#"{"choices":[{"text":"b","finish_reason":"stop"}]}"#,
        ]);
        assert_eq!(text, "ab");
        assert_eq!(completion.finish().unwrap().completion_tokens, 2);
    }

    #[test]
    fn an_answer_that_breaks_off_has_no_end() {
        let (_, completion) = read(&[r#"{"choices":[{"text":"a"}]}"#]);
        assert_eq!(completion.finish(), None);
    }

    #[test]
    fn calls_of_tools_are_put_together() {
        let (text, completion) = read(&[
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"add","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"c2","function":{"name":"now","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#,
        ]);
        assert_eq!(text, "");
        assert_eq!(
            completion.calls().unwrap(),
            r#"[{"id":"c1","type":"function","function":{"name":"add","arguments":"{\"a\":1}"}},{"id":"c2","type":"function","function":{"name":"now","arguments":"{}"}}]"#
        );
        let finish = completion.finish().unwrap();
        assert_eq!(finish.reason, FinishReason::ToolCalls);
    }

    #[test]
    fn errors_in_the_middle_are_told_apart_from_nonsense() {
        let mut completion = Completion::default();
        let failed = completion.take(r#"{"error":{"message":"out of memory","code":500}}"#);
        assert_eq!(failed, Err(Broken::Failed("out of memory".to_owned())));
        let senseless = completion.take("<html>");
        assert!(matches!(senseless, Err(Broken::Senseless(_))));
    }
}
