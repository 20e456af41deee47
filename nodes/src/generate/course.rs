//! One text on its way: what was read, what was made, and where the pieces go.

use super::{
    Sampler,
    guess::{GUESSES, Record, guess},
    text::{Made, TextMaker},
};
use crate::{
    Finish, FinishReason, NodeError, TextSink,
    adapter::Adapter,
    model::decoder::{KvPool, Scores, Sequence, Tokenizer},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// One text on its way.
pub(super) struct Course {
    /// What of the tokens was read.
    pub(super) sequence: Sequence,
    pub(super) adapter: Option<Arc<Adapter>>,
    /// The prompt and what was made; during a step also what is guessed.
    pub(super) tokens: Vec<u32>,
    /// How many of the last tokens are guesses.
    pub(super) guessed: usize,
    /// A guess that is not tried out; whether it was right says what guesses are worth.
    pub(super) unproven: Option<u32>,
    /// How good guesses are.
    pub(super) record: Record,
    pub(super) prompt_tokens: u32,
    /// Tokens of the prompt that others had read before.
    pub(super) cached_tokens: u32,
    pub(super) max_tokens: usize,
    pub(super) made: u32,
    /// Tokens of what was made that had been guessed.
    pub(super) guessed_right: u32,
    pub(super) sampler: Sampler,
    pub(super) text: TextMaker,
    pub(super) sink: TextSink,
    pub(super) time: Time,
}

/// How long an item may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) began: Instant,
    pub(super) deadline: Option<Instant>,
}

impl Time {
    /// The error of an item whose time is up.
    pub(super) fn up(&self, now: Instant) -> Option<NodeError> {
        let deadline = self.deadline.filter(|deadline| *deadline <= now)?;
        let after: Duration = deadline.saturating_duration_since(self.began);
        Some(NodeError::Timeout { after })
    }
}

/// How a text ends.
pub(super) type End = Result<FinishReason, NodeError>;

impl Course {
    /// Whether the prompt is read, so that each step makes a token.
    pub(super) fn is_decoding(&self) -> bool {
        self.made > 0
    }

    /// The tokens that could be read next.
    pub(super) fn unread(&self) -> &[u32] {
        &self.tokens[self.sequence.len()..]
    }

    /// Leaves out of the prompt what others have read already, up to now.
    pub(super) fn resume(&mut self, cache: &mut KvPool) {
        if !self.is_decoding() {
            self.cached_tokens += cache.resume(&mut self.sequence) as u32;
        }
    }

    /// What may come next, as far as the text may still go on.
    pub(super) fn guess(&self) -> Vec<u32> {
        // The last token of a text need not be read.
        let most = self.max_tokens.saturating_sub(self.made as usize + 1);
        guess(&self.tokens, most.min(GUESSES))
    }

    /// Puts guesses behind the tokens for the next step.
    pub(super) fn try_out(&mut self, guesses: &[u32]) {
        self.tokens.extend(guesses);
        self.guessed = guesses.len();
    }

    /// Takes the logits after the last row that is no guess and after each guess. An end is the end of the
    /// text.
    pub(super) fn take<'a>(
        &mut self,
        mut rows: impl Iterator<Item = Scores<'a>>,
        cache: &mut KvPool,
        tokenizer: &Tokenizer,
    ) -> Option<End> {
        let guesses = self.tokens.split_off(self.tokens.len() - self.guessed);
        self.guessed = 0;
        for guess in guesses {
            if let Some(end) = self.make(rows.next(), tokenizer) {
                return Some(end);
            }
            let right = self.tokens.last() == Some(&guess);
            self.record.note(right);
            if !right {
                return None;
            }
            cache.advance(&mut self.sequence, 1);
            self.guessed_right += 1;
        }
        let end = self.make(rows.next(), tokenizer);
        if let Some(guess) = self.unproven.take() {
            self.record.note(self.tokens.last() == Some(&guess));
        }
        end
    }

    /// Makes the next token.
    fn make(&mut self, scores: Option<Scores<'_>>, tokenizer: &Tokenizer) -> Option<End> {
        let Some(token) = scores.and_then(|scores| self.sampler.next(scores)) else {
            return Some(Err(NodeError::failed("the model's logits are not numbers")));
        };
        if tokenizer.is_end(token) {
            return Some(Ok(FinishReason::Stop));
        }
        self.made += 1;
        self.tokens.push(token);
        let mut bytes = Vec::new();
        tokenizer.bytes(token, &mut bytes);
        match self.text.push(&bytes) {
            Made::Stopped(piece) => {
                self.show(piece);
                return Some(Ok(FinishReason::Stop));
            }
            Made::Piece(piece) => self.show(piece),
        }
        (self.made as usize >= self.max_tokens).then_some(Ok(FinishReason::Length))
    }

    fn show(&self, piece: String) {
        if !piece.is_empty() {
            self.sink.push(piece);
        }
    }

    /// Shows what was held back and ends the text.
    pub(super) fn end(self, end: End) -> Sequence {
        let rest = self.text.finish();
        if end.is_ok() && !rest.is_empty() {
            self.sink.push(rest);
        }
        self.sink.end(end.map(|reason| Finish {
            reason,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            completion_tokens: self.made,
            guessed_tokens: self.guessed_right,
        }));
        self.sequence
    }
}
