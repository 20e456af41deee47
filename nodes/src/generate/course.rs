//! One text on its way: what was read, what was made, and where the pieces go.

use super::{
    Sampler,
    text::{Made, TextMaker},
};
use crate::{
    Finish, FinishReason, NodeError, TextSink,
    adapter::Adapter,
    model::decoder::{KvPool, Sequence, Tokenizer},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// One text on its way.
pub(super) struct Course {
    pub(super) sequence: Sequence,
    pub(super) adapter: Option<Arc<Adapter>>,
    /// The prompt, or what was made last: what comes after the sequence's end.
    pub(super) unread: Vec<u32>,
    pub(super) prompt_tokens: u32,
    /// Tokens of the prompt that others had read before.
    pub(super) cached_tokens: u32,
    pub(super) max_tokens: usize,
    pub(super) made: u32,
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

    /// Leaves out of the prompt what others have read already, up to now.
    pub(super) fn resume(&mut self, cache: &mut KvPool) {
        if !self.is_decoding() {
            let read = cache.resume(&mut self.sequence);
            self.unread.drain(..read);
            self.cached_tokens += read as u32;
        }
    }

    /// Takes the logits after the last row. An end is the end of the text.
    pub(super) fn take(&mut self, logits: &[f32], tokenizer: &Tokenizer) -> Option<End> {
        let Some(token) = self.sampler.next(logits) else {
            return Some(Err(NodeError::failed("the model's logits are not numbers")));
        };
        if tokenizer.is_end(token) {
            return Some(Ok(FinishReason::Stop));
        }
        self.made += 1;
        self.unread.push(token);
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
        }));
        self.sequence
    }
}
