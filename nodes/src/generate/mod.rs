//! `generate`: prompts to text, with a decoder in this process.
//!
//! An item's answer is a stream, which is there as soon as the item is admitted; its tokens come from
//! a thread that makes the texts of all items together, step by step.

mod course;
mod guess;
mod plan;
mod request;
mod sampling;
mod serve;
mod text;

pub use sampling::{Sampler, Sampling};

use crate::{
    Input, Node, NodeError, Running, Value,
    adapter::{Adapter, Adapters},
    compute::ComputePool,
    model::decoder::LanguageModel,
};
use course::Time;
use futures::future::{BoxFuture, join_all};
use guess::{GUESSES, Pace};
use plan::StepRows;
use request::Request;
use serve::{Job, Server};
use std::{
    sync::Arc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// How a replica generates.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Threads that compute, at least one.
    pub threads: usize,
    /// Sequences that are under way at once; further items wait.
    pub max_sequences: usize,
    /// Memory for what sequences have read; items wait until there is room for their longest course.
    pub cache_bytes: usize,
    /// How much of it may go on holding prompts that were read, for others with the same beginning.
    pub prefix_bytes: usize,
    /// Most tokens of a sequence, prompt and text together; the model's own limit if that is less.
    pub max_context: Option<usize>,
    /// Rows of a prompt that are read in one step.
    pub prompt_rows: usize,
    /// The same while other texts are being made, which wait as long.
    pub prompt_rows_beside: usize,
    /// Whether the next tokens of a text that is alone are guessed from what stands before, where that is
    /// faster. The text is the same.
    pub guess: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            max_sequences: 64,
            cache_bytes: 512 << 20,
            prefix_bytes: 128 << 20,
            max_context: None,
            prompt_rows: 256,
            prompt_rows_beside: 64,
            guess: true,
        }
    }
}

/// Continues prompts and answers chats.
///
/// Takes the arguments that `schema::Generate` names: `prompt`, or messages (`system`, `user`,
/// `assistant` and `chat`); `max-tokens`, `temperature`, `top-k`, `top-p`, `min-p`,
/// `repetition-penalty`, `seed`, `stop`, and `adapter`. Gives a stream of text.
pub struct Generate {
    model: Arc<LanguageModel>,
    adapters: Arc<dyn Adapters>,
    jobs: mpsc::Sender<Job>,
    longest: usize,
}

/// Items that may lie ready for the thread besides those under way.
const READY: usize = 8;

impl Generate {
    /// Starts a thread that generates with the model; it ends when this is dropped and the texts under
    /// way are made. Replicas share the model, each has a thread and a cache of its own.
    ///
    /// # Errors
    /// The cache has no room for a single sequence, or the system gives no thread.
    pub fn start(
        name: &str,
        model: Arc<LanguageModel>,
        adapters: Arc<dyn Adapters>,
        options: &GenerateOptions,
    ) -> Result<Self, NodeError> {
        let rows = StepRows {
            alone: options.prompt_rows.max(1),
            beside_decoding: options.prompt_rows_beside.max(1),
        };
        let max_rows = rows.alone.max(rows.beside_decoding).max(1 + GUESSES);
        let cache = model.decoder.cache(options.cache_bytes, max_rows);
        let cache = cache.keeping(options.prefix_bytes);
        let context = model.decoder.config().context;
        let context = options.max_context.unwrap_or(context).min(context);
        let longest = longest(context, |tokens| cache.can_hold(tokens));
        if longest < 2 {
            let reason = format!("{} bytes of cache hold no sequence", options.cache_bytes);
            return Err(NodeError::failed(reason));
        }
        let (jobs, received) = mpsc::channel(READY);
        let server = Server {
            model: Arc::clone(&model),
            cache,
            max_sequences: options.max_sequences.max(1),
            rows,
            jobs: received,
            waiting: None,
            running: Vec::new(),
            pace: options.guess.then(Pace::default),
        };
        let threads = options.threads;
        let work = move || ComputePool::new(threads).install(|| server.serve());
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        thread
            .map_err(|error| NodeError::because("failed to start a thread for the model", error))?;
        Ok(Self {
            model,
            adapters,
            jobs,
            longest,
        })
    }

    async fn answer(&self, item: Input) -> Result<Value, NodeError> {
        let began = Instant::now();
        let deadline = item.context.deadline;
        let time = Time { began, deadline };
        let work = async {
            let (request, adapter) = self.prepare(item).await?;
            let (admitted, stream) = oneshot::channel();
            let job = Job {
                request,
                adapter,
                time,
                admitted,
            };
            let ended = || NodeError::failed("the thread of the model has ended");
            self.jobs.send(job).await.map_err(|_| ended())?;
            stream.await.map(Value::Stream).map_err(|_| ended())
        };
        let Some(deadline) = deadline else {
            return work.await;
        };
        let after = deadline.saturating_duration_since(began);
        let late = |_| NodeError::Timeout { after };
        timeout_at(deadline, work).await.map_err(late)?
    }

    /// Templates, tokens and adapters may take milliseconds, so they are no work for the runtime's
    /// own threads.
    async fn prepare(&self, item: Input) -> Result<(Request, Option<Arc<Adapter>>), NodeError> {
        let (model, adapters) = (Arc::clone(&self.model), Arc::clone(&self.adapters));
        let longest = self.longest;
        let prepared = tokio::task::spawn_blocking(move || {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let request = Request::read(&item.arguments, &model, now)?;
            let request = fit(request, longest)?;
            let adapter = request.adapter.as_ref();
            let adapter = adapter.map(|name| adapters.get(name)).transpose()?;
            Ok((request, adapter))
        });
        let panicked = |error| NodeError::because("failed to prepare the prompt", error);
        prepared.await.map_err(panicked)?
    }
}

impl Node for Generate {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(join_all(batch.into_iter().map(|item| self.answer(item))))
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

/// Makes a request fit into the longest sequence: it gets fewer tokens if its prompt is long.
fn fit(mut request: Request, longest: usize) -> Result<Request, NodeError> {
    let prompt = request.prompt.len();
    if prompt == 0 {
        return Err(NodeError::invalid("the prompt is empty"));
    }
    if prompt >= longest {
        let reason = format!(
            "the prompt has {prompt} tokens, and there is room for {}",
            longest - 1
        );
        return Err(NodeError::invalid(reason));
    }
    request.max_tokens = request.max_tokens.min(longest - prompt);
    Ok(request)
}

/// The longest sequence that fits, up to `context`.
fn longest(context: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut fitting, mut beyond) = (0, context + 1);
    while fitting + 1 < beyond {
        let middle = fitting.midpoint(beyond);
        match fits(middle) {
            true => fitting = middle,
            false => beyond = middle,
        }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_sequence_is_found() {
        for limit in [0, 1, 2, 99, 100, 101] {
            assert_eq!(longest(100, |tokens| tokens <= limit), limit.min(100));
        }
    }
}
