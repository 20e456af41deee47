//! A text that arrives piece by piece and can be read by several.

use crate::NodeError;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Those of them that had been read before, for a prompt with the same beginning.
    pub cached_tokens: u32,
    /// Tokens made.
    pub completion_tokens: u32,
    /// Those of them that were guessed before, and took no step of their own.
    pub guessed_tokens: u32,
}

/// Why generation ended; names as in OpenAI's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its text, or a stop text was met.
    Stop,
    /// `max-tokens` was reached.
    Length,
    /// The model calls tools.
    ToolCalls,
    /// A service kept a part of the text back.
    ContentFilter,
}

/// Makes a stream: pieces go into the sink and come out of every clone of the stream, each from
/// the first piece on.
pub fn text_stream() -> (TextSink, TextStream) {
    let shared = Arc::new(Shared::default());
    let stream = TextStream {
        shared: Arc::clone(&shared),
        readers: Arc::new(()),
        read: 0,
        guard: None,
    };
    let readers = Arc::downgrade(&stream.readers);
    (TextSink { shared, readers }, stream)
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    pieces: Vec<Arc<str>>,
    end: Option<Result<Finish, NodeError>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while pieces are pushed leaves whole pieces behind, which are good to read.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the maker of a text puts its pieces. Dropping it without [`TextSink::end`] is an error for
/// the readers.
pub struct TextSink {
    shared: Arc<Shared>,
    readers: std::sync::Weak<()>,
}

impl TextSink {
    /// Hands a piece to the readers.
    pub fn push(&self, piece: impl Into<Arc<str>>) {
        self.shared.lock().pieces.push(piece.into());
        self.shared.changed.notify_waiters();
    }

    /// Ends the text.
    pub fn end(self, end: Result<Finish, NodeError>) {
        self.shared.lock().end = Some(end);
    }

    /// Whether nobody reads any more, so that making more of it is in vain.
    pub fn is_abandoned(&self) -> bool {
        self.readers.strong_count() == 0
    }
}

impl Drop for TextSink {
    fn drop(&mut self) {
        let lost = NodeError::failed("the text ended early");
        self.shared.lock().end.get_or_insert(Err(lost));
        self.shared.changed.notify_waiters();
    }
}

/// A reader of a text that is still being made. A clone reads from the first piece on.
pub struct TextStream {
    shared: Arc<Shared>,
    readers: Arc<()>,
    read: usize,
    guard: Option<Arc<dyn Send + Sync>>,
}

impl TextStream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The maker's error, after the pieces that came before it.
    pub async fn next(&mut self) -> Option<Result<Arc<str>, NodeError>> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that a push between the two is not missed.
            changed.as_mut().enable();
            {
                let state = self.shared.lock();
                if let Some(piece) = state.pieces.get(self.read) {
                    self.read += 1;
                    return Some(Ok(Arc::clone(piece)));
                }
                match &state.end {
                    Some(Ok(_)) => return None,
                    Some(Err(error)) => return Some(Err(error.clone())),
                    None => {}
                }
            }
            changed.await;
        }
    }

    /// The whole text and how it ended.
    ///
    /// # Errors
    /// The maker's error.
    pub async fn collect(mut self) -> Result<(String, Finish), NodeError> {
        let mut text = String::new();
        while let Some(piece) = self.next().await {
            text.push_str(&piece?);
        }
        match self.finish() {
            Some(finish) => Ok((text, finish)),
            None => Err(NodeError::failed("the text ended early")),
        }
    }

    /// How it ended, once it has ended well.
    pub fn finish(&self) -> Option<Finish> {
        match self.shared.lock().end {
            Some(Ok(finish)) => Some(finish),
            _ => None,
        }
    }

    /// Where one can see how it ends without reading it.
    pub fn end(&self) -> StreamEnd {
        StreamEnd(Arc::clone(&self.shared))
    }

    /// Keeps `guard` until the last reader that was cloned from this one is gone: a slot of a
    /// replica, say, which is taken as long as the text is being made.
    #[must_use]
    pub fn hold(mut self, guard: impl Send + Sync + 'static) -> Self {
        let before = self.guard.take();
        self.guard = Some(Arc::new((before, guard)));
        self
    }
}

/// Sees how a text ended, and keeps nobody from giving it up.
#[derive(Clone)]
pub struct StreamEnd(Arc<Shared>);

impl StreamEnd {
    /// How it ended; none as long as it has not.
    pub fn get(&self) -> Option<Result<Finish, NodeError>> {
        self.0.lock().end.clone()
    }
}

impl Clone for TextStream {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            readers: Arc::clone(&self.readers),
            read: 0,
            guard: self.guard.clone(),
        }
    }
}

impl fmt::Debug for TextStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("TextStream")
            .field("pieces", &state.pieces.len())
            .field("ended", &state.end.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Finish = Finish {
        reason: FinishReason::Stop,
        prompt_tokens: 1,
        cached_tokens: 0,
        completion_tokens: 2,
        guessed_tokens: 0,
    };

    #[tokio::test]
    async fn every_reader_gets_every_piece() {
        let (sink, first) = text_stream();
        sink.push("a");
        let second = first.clone();
        let reading = tokio::spawn(first.collect());
        sink.push("b");
        sink.end(Ok(DONE));
        assert_eq!(reading.await.unwrap().unwrap(), ("ab".to_owned(), DONE));
        assert_eq!(second.collect().await.unwrap(), ("ab".to_owned(), DONE));
    }

    #[tokio::test]
    async fn a_lost_maker_is_an_error_after_its_pieces() {
        let (sink, mut stream) = text_stream();
        sink.push("a");
        drop(sink);
        assert_eq!(&*stream.next().await.unwrap().unwrap(), "a");
        assert!(stream.next().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn the_maker_sees_when_nobody_reads() {
        let (sink, stream) = text_stream();
        let other = stream.clone();
        drop(stream);
        assert!(!sink.is_abandoned());
        drop(other);
        assert!(sink.is_abandoned());
    }

    #[tokio::test]
    async fn a_guard_lives_as_long_as_a_reader() {
        let (_sink, stream) = text_stream();
        let guard = Arc::new(());
        let stream = stream.hold(Arc::clone(&guard));
        let other = stream.clone();
        drop(stream);
        assert_eq!(Arc::strong_count(&guard), 2);
        drop(other);
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}
