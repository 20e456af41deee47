//! `generate`: prompt to text.

use super::{Backend, Port};
use crate::{Argument, Type};

/// Continues a prompt, or answers chat messages, with a language model.
///
/// Every sampling option is an argument: a request may choose it through a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Generate {
    /// A GGUF decoder, or an OpenAI-compatible service.
    pub backend: Backend,
    /// The prompt as it is given to the model. Either this or `messages`.
    pub prompt: Option<Argument>,
    /// Chat messages in the file, put through the model's chat template.
    pub messages: Vec<ChatMessage>,
    /// A list of `{role, content}` maps, put through the model's chat template.
    pub chat: Option<Argument>,
    /// Most tokens to generate. Default 256.
    pub max_tokens: Argument,
    /// 0 takes the likeliest token each time. Default 0.
    pub temperature: Argument,
    /// Sample from this many likeliest tokens only.
    pub top_k: Option<Argument>,
    /// Sample from the fewest tokens that together have this probability (nucleus sampling,
    /// Holtzman et al. 2019).
    pub top_p: Option<Argument>,
    /// Sample from tokens with at least this share of the likeliest one's probability.
    pub min_p: Option<Argument>,
    /// Divides the logits of tokens that were used already (Keskar et al. 2019). Default 1.
    pub repetition_penalty: Option<Argument>,
    /// Makes sampling repeatable.
    pub seed: Option<Argument>,
    /// Texts at which generation ends; they are not part of the result.
    pub stop: Vec<Argument>,
}

/// A chat message in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// Its text.
    pub content: Argument,
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
