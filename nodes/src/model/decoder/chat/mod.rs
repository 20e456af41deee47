//! Chat messages to the text that a chat model was trained on, by the template in its file.
//!
//! Templates are Jinja as Hugging Face's `transformers` renders it: Python's methods on texts and
//! maps, `raise_exception`, `strftime_now`, `tojson`. A template comes from the model's file and not
//! from a request, but a file may be hostile too: work and output are bounded.

mod date;

use super::gguf::{Gguf, GgufError};
use minijinja::{Environment, ErrorKind, Value, context, syntax::SyntaxConfig};
use minijinja_contrib::pycompat;
use std::{fmt, io, time::Duration};

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    fn value(&self) -> Value {
        Value::from_pairs([
            ("role", self.role.as_str()),
            ("content", self.content.as_str()),
        ])
    }
}

/// Why messages cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model was not made for chats.
    #[error("the model has no chat template: give it a prompt and not messages")]
    NoTemplate,
    /// The template refuses the messages, as `raise_exception` says.
    #[error("the model's chat template refuses the messages: {reason}")]
    Refused {
        /// In the template's words.
        reason: String,
    },
    /// The template fails.
    #[error("failed to render the model's chat template: {0}")]
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
        let Some(template) = file.text("tokenizer.chat_template")? else {
            return Ok(None);
        };
        Ok(Some(Self::new(template)?))
    }

    /// Compiles a template.
    ///
    /// # Errors
    /// It is not valid.
    pub fn new(template: &str) -> Result<Self, GgufError> {
        let compiled = Self::compile(template);
        compiled.map_err(|source| GgufError::Template { source })
    }

    fn compile(template: &str) -> Result<Self, minijinja::Error> {
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?;
        let mut environment = Environment::new();
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, template.to_owned())?;
        Ok(Self(environment))
    }

    /// The text that the model continues with its answer. `begin` and `end` are how the tokens at a
    /// text's beginning and end are written, `now` is the time since 1970 for templates that give the
    /// date.
    ///
    /// # Errors
    /// The template refuses the messages or fails.
    pub fn render(
        &self,
        messages: &[Message],
        begin: &str,
        end: &str,
        now: Duration,
    ) -> Result<String, ChatError> {
        let values = context! {
            messages => messages.iter().map(Message::value).collect::<Value>(),
            bos_token => begin,
            eos_token => end,
            add_generation_prompt => true,
            strftime_now => Value::from_function(move |format: String| date::format(now, &format)),
        };
        let mut output = Bounded(Vec::new());
        let template = self.0.get_template(NAME).map_err(ChatError::Render)?;
        let rendered = template.render_captured_to(values, &mut output);
        rendered.map_err(refused_or_failed)?;
        Ok(String::from_utf8_lossy(&output.0).into_owned())
    }
}

/// What a template says against the messages.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn raise_exception(reason: String) -> Result<String, minijinja::Error> {
    let error = minijinja::Error::new(ErrorKind::InvalidOperation, "the template refuses");
    Err(error.with_source(Refused(reason)))
}

fn refused_or_failed(error: minijinja::Error) -> ChatError {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(Refused(reason)) = cause.downcast_ref() {
            let reason = reason.clone();
            return ChatError::Refused { reason };
        }
        source = cause.source();
    }
    ChatError::Render(error)
}

/// Takes so much output and no more.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("the text grows beyond 16 MiB"));
        }
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message {
            role: role.to_owned(),
            content: content.to_owned(),
        }
    }

    fn render(template: &str, messages: &[Message]) -> Result<String, ChatError> {
        let template = ChatTemplate::new(template).unwrap();
        template.render(messages, "<s>", "</s>", Duration::from_secs(1_700_000_000))
    }

    #[test]
    fn templates_of_the_known_families_render() {
        let cases = [
            // Constructs of Gemma 3's, Qwen's and Llama 3's templates.
            (
                "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\n\n' -%}{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set loop_messages = messages -%}{%- endif -%}\n{%- for message in loop_messages -%}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must alternate') }}{%- endif -%}{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}",
                "<s><start_of_turn>user\nBe brief.\n\n Hi \"you\"<end_of_turn>\n<start_of_turn>model\n"
                    .replace("\n\n Hi", "\n\nHi"),
            ),
            (
                "{%- set ns = namespace(last=none) %}\n{%- for m in messages[::-1] %}\n    {%- if ns.last is none and m.role == 'user' and m.content is string and not(m.content.startswith('<x>')) %}\n        {%- set ns.last = loop.index0 %}\n    {%- endif %}\n{%- endfor %}\n{%- for m in messages %}\n{{- '<|im_start|>' + m.role + '\\n' + m.content.strip('\\n').split('</think>')[-1].lstrip() + '<|im_end|>\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n    {%- if enable_thinking is defined and enable_thinking is false %}\n        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}",
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi \"you\"<|im_end|>\n<|im_start|>assistant\n".to_owned(),
            ),
            (
                "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}\nToday: {{ date_string }}\n{% for key, value in messages[1].items() %}{{ key }}={{ value | tojson }};{% endfor %}",
                "Today: 14 Nov 2023\nrole=\"user\";content=\" Hi \\\"you\\\"\";".to_owned(),
            ),
            (
                "{%- macro turn(m) %}[{{ m.role }}]{% endmacro %}\n{%- for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ turn(m) }}{% endfor %}",
                "[system]".to_owned(),
            ),
        ];
        let messages = [
            message("system", "Be brief."),
            message("user", " Hi \"you\""),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template, &messages).unwrap(), expected);
        }
    }

    #[test]
    fn a_template_can_refuse_and_cannot_run_away() {
        let message_of = |template: &str| render(template, &[]).unwrap_err().to_string();
        assert_eq!(
            message_of("{{ raise_exception('no system role') }}"),
            "the model's chat template refuses the messages: no system role"
        );
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% set x = c %}{% endfor %}{% endfor %}{% endfor %}";
        assert!(
            message_of(endless).contains("out of fuel"),
            "{}",
            message_of(endless)
        );
        let long = "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}";
        assert!(render(long, &[]).is_err());
        assert!(ChatTemplate::new("{% if %}").is_err());
    }
}
