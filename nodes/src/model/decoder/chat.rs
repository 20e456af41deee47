//! Chat messages to the text that a chat model was trained on, by the template in its file.
//!
//! Templates are Jinja as Hugging Face's `transformers` renders it: Python's methods on texts and
//! maps, `raise_exception`, `strftime_now`, `tojson`. A template comes from the model's file and not
//! from a request, but a file may be hostile too: work and output are bounded.

use super::gguf::{Gguf, GgufError};
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// Why messages cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model was not made for chats.
    #[error("the model has no chat template: give it a prompt, not messages")]
    NoTemplate,
    /// The template refuses the messages, as `raise_exception` says.
    #[error("the model's chat template refuses the messages: {reason}")]
    Refused {
        /// In the template's words.
        reason: String,
    },
    /// The template fails.
    #[error("failed to render the model's chat template")]
    Render(#[source] minijinja::Error),
}

/// Minijinja's measure of work; a template of 20 KiB over a hundred messages takes some 100,000.
const FUEL: u64 = 20_000_000;
const MAX_OUTPUT: usize = 16 << 20;
const NAME: &str = "chat_template";

/// The chat template of a model.
#[derive(Debug)]
pub struct ChatTemplate(Environment<'static>);

impl ChatTemplate {
    /// The template of a file, if it has one.
    ///
    /// # Errors
    /// It is not a text, or not a valid template.
    pub fn from_gguf(file: &Gguf) -> Result<Option<Self>, GgufError> {
        let key = "tokenizer.chat_template";
        let Some(template) = file.text(key)? else {
            return Ok(None);
        };
        let template = Self::new(template).map_err(|_| GgufError::Metadata {
            key: key.to_owned(),
            expected: "a valid template",
        })?;
        Ok(Some(template))
    }

    /// Compiles a template.
    ///
    /// # Errors
    /// It is not valid.
    pub fn new(template: &str) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| {
            Err::<String, _>(minijinja::Error::new(ErrorKind::InvalidOperation, REFUSED).with_source(Refused(reason)))
        });
        environment.add_function("strftime_now", strftime_now);
        environment.add_template_owned(NAME, template.to_owned())?;
        Ok(Self(environment))
    }

    /// The text that the model continues with its answer. `begin` and `end` are how the tokens at a
    /// text's beginning and end are written.
    ///
    /// # Errors
    /// The template refuses the messages or fails.
    pub fn render(&self, messages: &[Message], begin: &str, end: &str) -> Result<String, ChatError> {
        let values = context! {
            messages => messages,
            bos_token => begin,
            eos_token => end,
            add_generation_prompt => true,
        };
        let mut output = Bounded(Vec::new());
        let template = self.0.get_template(NAME).map_err(ChatError::Render)?;
        template.render_captured_to(values, &mut output).map_err(refused_or_failed)?;
        Ok(String::from_utf8_lossy(&output.0).into_owned())
    }
}
