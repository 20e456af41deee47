//! The thread that makes texts: it owns the sequences, and each step takes a row or more of each.
//!
//! Items join and leave between two steps (continuous batching, Yu et al. 2022, *Orca*). Prompts are
//! read in parts, so that a long one does not hold up the texts that are being made.

use super::{
    Sampler,
    course::{Course, End, Time},
    guess::{Pace, Record},
    plan::{StepRows, plan},
    request::Request,
    text::TextMaker,
};
use crate::{
    NodeError, TextStream,
    adapter::Adapter,
    model::decoder::{KvPool, LanguageModel, SequenceRows, Wanted},
    text_stream,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// An item on its way to the thread.
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) adapter: Option<Arc<Adapter>>,
    pub(super) time: Time,
    /// Where the stream goes once there is room for the sequence.
    pub(super) admitted: oneshot::Sender<TextStream>,
}

/// What the thread owns.
pub(super) struct Server {
    pub(super) model: Arc<LanguageModel>,
    pub(super) cache: KvPool,
    pub(super) max_sequences: usize,
    pub(super) rows: StepRows,
    pub(super) jobs: mpsc::Receiver<Job>,
    /// The next to be admitted, once there is room.
    pub(super) waiting: Option<Job>,
    pub(super) running: Vec<Course>,
    /// What steps of a text that is alone take; none: nothing is guessed.
    pub(super) pace: Option<Pace>,
}

impl Server {
    /// The life of the thread: until nobody can send items any more, and all texts are made.
    pub(super) fn serve(mut self) {
        while self.wait() {
            self.dismiss(Instant::now());
            self.step();
        }
    }

    /// Lets items in. Sleeps while there is nothing to do; false at the end.
    fn wait(&mut self) -> bool {
        if self.running.is_empty() && self.waiting.is_none() {
            self.waiting = self.jobs.blocking_recv();
            if self.waiting.is_none() {
                return false;
            }
        }
        while self.running.len() < self.max_sequences {
            let Some(job) = self.waiting.take().or_else(|| self.jobs.try_recv().ok()) else {
                break;
            };
            self.waiting = self.admit(job);
            if self.waiting.is_some() {
                break;
            }
        }
        true
    }

    /// Gives the job back if there is no room for it yet.
    fn admit(&mut self, job: Job) -> Option<Job> {
        if job.admitted.is_closed() {
            return None;
        }
        let prompt = job.request.prompt.len();
        let Some(mut sequence) = self.cache.admit(prompt + job.request.max_tokens) else {
            return Some(job);
        };
        let (sink, stream) = text_stream();
        let request = job.request;
        let adapter = job.adapter.as_ref().map(|adapter| adapter.id());
        sequence.reads(request.prompt.clone(), adapter);
        // Nobody waits any more if this fails, which the first step will see.
        let _ = job.admitted.send(stream);
        self.running.push(Course {
            sequence,
            adapter: job.adapter,
            sampler: Sampler::new(request.sampling, &request.prompt),
            tokens: request.prompt,
            guessed: 0,
            unproven: None,
            record: Record::default(),
            prompt_tokens: prompt as u32,
            cached_tokens: 0,
            max_tokens: request.max_tokens,
            made: 0,
            guessed_right: 0,
            text: TextMaker::new(request.stops),
            sink,
            time: job.time,
        });
        None
    }

    /// Ends texts that nobody reads, and those whose time is up.
    fn dismiss(&mut self, now: Instant) {
        for index in (0..self.running.len()).rev() {
            let course = &self.running[index];
            let gone = || NodeError::failed("nobody reads the text any more");
            let abandoned = course.sink.is_abandoned().then(gone);
            if let Some(error) = abandoned.or_else(|| course.time.up(now)) {
                self.end(index, Err(error));
            }
        }
    }

    fn end(&mut self, index: usize, end: End) {
        let sequence = self.running.remove(index).end(end);
        self.cache.release(sequence);
    }

    fn step(&mut self) {
        // Again before each step: what one prompt reads, those that wait behind it need not read.
        for course in &mut self.running {
            course.resume(&mut self.cache);
        }
        self.guess();
        let unread = self
            .running
            .iter()
            .map(|c| (c.unread().len(), c.is_decoding()));
        let rows = plan(&unread.collect::<Vec<_>>(), self.rows);
        let mut sent: Vec<(usize, usize)> = rows
            .into_iter()
            .enumerate()
            .filter(|(_, rows)| *rows > 0)
            .collect();
        // All may have been dismissed.
        if sent.is_empty() {
            return;
        }
        // Neighbours with the same adapter are computed together.
        sent.sort_by_key(|(index, _)| self.running[*index].adapter.as_ref().map(Arc::as_ptr));
        let mut ends = Vec::new();
        let alone = alone(&mut self.running).map(|course| course.guessed);
        let began = Instant::now();
        match self.compute(&sent, &mut ends) {
            Err(error) => self.compute_one_by_one(&sent, &mut ends, error),
            Ok(()) => {
                if let (Some(guesses), Some(pace)) = (alone, &mut self.pace) {
                    pace.note(guesses, began.elapsed());
                }
            }
        }
        ends.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, end) in ends {
            self.end(index, end);
        }
    }

    /// Has a text that is alone try more than its next token, where that is likely to be faster. Beside
    /// others their rows are a better use of a step.
    fn guess(&mut self) {
        let (Some(pace), Some(course)) = (&mut self.pace, alone(&mut self.running)) else {
            return;
        };
        let guesses = course.guess();
        if !guesses.is_empty() && pace.is_worth(guesses.len(), course.record) {
            course.try_out(&guesses);
        } else {
            course.unproven = guesses.first().copied();
        }
    }

    /// After a failure of a whole step, finds the sequences that are at fault.
    fn compute_one_by_one(
        &mut self,
        sent: &[(usize, usize)],
        ends: &mut Vec<(usize, End)>,
        error: NodeError,
    ) {
        tracing::error!(%error, sequences = sent.len(), "a step failed");
        if let [(index, _)] = sent {
            return ends.push((*index, Err(error)));
        }
        for one in sent {
            if let Err(error) = self.compute(&[*one], ends) {
                ends.push((one.0, Err(error)));
            }
        }
    }

    /// Sends so many rows of the sequences through the model. Nothing has changed after an error.
    fn compute(
        &mut self,
        sent: &[(usize, usize)],
        ends: &mut Vec<(usize, End)>,
    ) -> Result<(), NodeError> {
        let Self {
            model,
            cache,
            running,
            ..
        } = self;
        let mut courses: Vec<Option<&mut Course>> = running.iter_mut().map(Some).collect();
        let mut chosen: Vec<(usize, &mut Course, usize)> = sent
            .iter()
            .filter_map(|&(index, rows)| Some((index, courses[index].take()?, rows)))
            .collect();
        let mut rows: Vec<SequenceRows<'_>> = chosen
            .iter_mut()
            .map(|(_, course, rows)| SequenceRows {
                logits: match course.tokens.len() == course.sequence.len() + *rows {
                    true => course.sampler.wants(),
                    false => Wanted::Nothing,
                },
                tokens: &course.tokens[course.sequence.len()..][..*rows],
                sequence: &mut course.sequence,
                adapter: course.adapter.as_ref(),
                guessed: course.guessed,
            })
            .collect();
        let step = catch_unwind(AssertUnwindSafe(|| model.decoder.step(cache, &mut rows)));
        let logits = match step {
            Ok(Ok(logits)) => logits,
            Ok(Err(error)) => return Err(NodeError::because("failed to compute a step", error)),
            Err(_) => return Err(NodeError::failed("the model panicked")),
        };
        let ended = logits.read(|rows| {
            let mut rows = rows.iter().copied();
            for (index, course, _) in &mut chosen {
                if course.unread().len() == course.guessed {
                    let end = course.take(&mut rows, cache, &model.tokenizer);
                    ends.extend(end.map(|end| (*index, end)));
                }
            }
        });
        ended.map_err(|error| NodeError::because("failed to read logits", error))
    }
}

/// The text that is being made, if there is only one and no prompt is read.
fn alone(running: &mut [Course]) -> Option<&mut Course> {
    match running {
        [course] if course.is_decoding() => Some(course),
        _ => None,
    }
}
