//! `generate`: prompt to text.

use super::{Backend, Port, Protocol};
use crate::{
    Argument, Literal, Type,
    decode::{Fields, block},
};

block! {
    /// Continues a prompt, or answers chat messages, with a language model: a GGUF decoder or an
    /// OpenAI-compatible service. The result is a text that can be streamed.
    ///
    /// Every sampling option may be a template, so that a request chooses it.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Generate {
        /// Where it computes.
        pub backend: Backend = then(|f| Backend::read(f, &[Protocol::OpenAi])),
        /// The prompt as it is given to the model.
        pub prompt: Option<Argument> = option("prompt").optional(),
        /// Chat messages in the file, put through the model's chat template.
        pub messages: Vec<ChatMessage> = blocks_of(&ChatMessage::ROLES, ChatMessage::read),
        /// A list of `{role, content}` maps, put through the model's chat template.
        pub chat: Option<Argument> = option("chat").optional(),
        /// Tools that the model may call, as OpenAI's API describes them: a list of maps. It goes
        /// to the endpoint; if the model calls tools, the text is the JSON of its calls.
        pub tools: Option<Argument> = option("tools").optional(),
        /// Most tokens to generate.
        pub max_tokens: Argument = option("max-tokens")
            .within(1.0, f64::INFINITY)
            .or(Argument::constant(Literal::Integer(256))),
        /// 0 takes the likeliest token each time.
        pub temperature: Argument = option("temperature")
            .within(0.0, 100.0)
            .or(Argument::constant(Literal::Integer(0))),
        /// Sample from this many likeliest tokens only.
        pub top_k: Option<Argument> = option("top-k").within(1.0, f64::INFINITY).optional(),
        /// Sample from the fewest tokens that together have this probability (nucleus sampling,
        /// Holtzman et al. 2019).
        pub top_p: Option<Argument> = option("top-p").within(0.0, 1.0).optional(),
        /// Sample from tokens with at least this share of the likeliest one's probability.
        pub min_p: Option<Argument> = option("min-p").within(0.0, 1.0).optional(),
        /// Divides the logits of tokens that were used already (Keskar et al. 2019); 1 if absent.
        pub repetition_penalty: Option<Argument> = option("repetition-penalty")
            .within(0.01, 100.0)
            .optional(),
        /// Makes sampling repeatable.
        pub seed: Option<Argument> = option("seed").within(0.0, f64::INFINITY).optional(),
        /// Texts at which generation ends; they are not part of the result.
        pub stop: Vec<Argument> = option("stop").many(),
    }
}

/// A chat message in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// Its text.
    pub content: Argument,
}

impl ChatMessage {
    const ROLES: [(&'static str, &'static str); 3] = [
        ("system", "A message that says how the model should behave."),
        ("user", "A message of the user."),
        ("assistant", "An earlier answer of the model."),
    ];

    fn read(role: &'static str, f: &mut Fields) -> Self {
        ChatMessage {
            role,
            content: f.doc("Its text.").argument("text").required(),
        }
    }
}

impl Generate {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        let mut ports = Vec::new();
        if let Some(prompt) = &self.prompt {
            ports.push(Port::new("prompt", Type::Text, prompt));
        }
        for message in &self.messages {
            ports.push(Port::new(message.role, Type::Text, &message.content));
        }
        if let Some(chat) = &self.chat {
            ports.push(Port::new("chat", Type::list(Type::Map), chat));
        }
        if let Some(tools) = &self.tools {
            ports.push(Port::new("tools", Type::list(Type::Map), tools));
        }
        ports.push(Port::new("max-tokens", Type::Integer, &self.max_tokens));
        ports.push(Port::new("temperature", Type::Number, &self.temperature));
        let sampling = [
            ("top-k", Type::Integer, &self.top_k),
            ("top-p", Type::Number, &self.top_p),
            ("min-p", Type::Number, &self.min_p),
            ("repetition-penalty", Type::Number, &self.repetition_penalty),
            ("seed", Type::Integer, &self.seed),
        ];
        for (name, accepts, argument) in sampling {
            if let Some(argument) = argument {
                ports.push(Port::new(name, accepts, argument));
            }
        }
        for stop in &self.stop {
            ports.push(Port::new("stop", Type::Text, stop));
        }
        ports.extend(self.backend.ports());
        ports
    }
}
