//! The task that owns a worker process: it waits for an event, then applies it.

use super::{Answers, LAST_BREATH, Mode, Order, ending, lost};
use crate::{
    Finish, FinishReason, NodeError, TextSink, Value,
    python::{
        frame::{self, Frame, Said},
        line::{Cut, Line},
    },
    text_stream,
};
use std::{collections::BTreeMap, process::ExitStatus, sync::Arc, time::Duration};
use tokio::{
    process::{Child, ChildStdin},
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

/// How long a worker that is not needed any more may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long after its deadline a coroutine may take to give up.
const GIVING_UP: Duration = Duration::from_secs(2);

/// How often it is looked at whether a text that is being made still has readers.
const LOOK: Duration = Duration::from_millis(100);

enum Event {
    Ordered(Order),
    /// The socket can be read or written.
    Ready(std::io::Result<()>),
    Exited(Option<ExitStatus>),
    /// A time has come.
    Time,
    /// No handle is left.
    Unused,
}

/// The owner of a worker process.
pub(super) struct Owner {
    pub(super) node: Arc<str>,
    pub(super) mode: Mode,
    pub(super) child: Child,
    /// Breaks when the engine ends, and the worker with it.
    pub(super) life: Option<ChildStdin>,
    pub(super) line: Line,
    pub(super) ordered: mpsc::UnboundedReceiver<Order>,
    /// By number, so in the order in which a worker that runs one after the other takes them.
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) ending: watch::Sender<Option<Arc<str>>>,
}

/// What is under way.
pub(super) struct Call {
    deadline: Option<Instant>,
    state: State,
}

enum State {
    Asked {
        answers: Vec<Option<Result<Value, NodeError>>>,
        reply: oneshot::Sender<Answers>,
    },
    /// The text is being made and was handed on.
    Streaming(TextSink),
    /// Nobody waits for it; when this time is over the worker is killed.
    Left { until: Option<Instant> },
}

impl Owner {
    pub(super) async fn run(mut self) {
        let reason = loop {
            let event = self.next().await;
            match self.apply(event, Instant::now()) {
                Ok(true) => {}
                Ok(false) => return self.farewell().await,
                Err(reason) => break reason,
            }
        };
        let reason: Arc<str> = match reason {
            Some(reason) => {
                let _ = self.child.kill().await;
                reason.into()
            }
            // The socket is closed shortly before the process is gone.
            None => {
                let status = timeout(LAST_BREATH, self.child.wait()).await;
                let _ = self.child.kill().await;
                ending(status.ok().and_then(Result::ok)).into()
            }
        };
        let node = &*self.node;
        tracing::warn!(node, %reason, "a Python worker ended");
        let _ = self.ending.send(Some(Arc::clone(&reason)));
        self.give_up(&reason);
    }

    async fn next(&mut self) -> Event {
        let time = self.time();
        tokio::select! {
            biased;
            ready = self.line.ready() => Event::Ready(ready),
            order = self.ordered.recv() => order.map_or(Event::Unused, Event::Ordered),
            status = self.child.wait() => Event::Exited(status.ok()),
            () = async { sleep_until(time.unwrap_or_else(Instant::now)).await }, if time.is_some() => Event::Time,
        }
    }

    /// When something is to be done though nothing happens.
    fn time(&self) -> Option<Instant> {
        let times = self.calls.values().filter_map(|call| match call.state {
            State::Asked { .. } => None,
            State::Streaming(_) => Some(Instant::now() + LOOK),
            State::Left { until } => until,
        });
        times.min()
    }

    /// Whether to go on; an error says why the worker is lost, or nothing if its exit status will.
    fn apply(&mut self, event: Event, now: Instant) -> Result<bool, Option<String>> {
        let said = |error: &dyn std::fmt::Display| Some(error.to_string());
        match event {
            Event::Ordered(order) => self.order(order, now)?,
            Event::Ready(ready) => {
                ready.map_err(|error| said(&error))?;
                let flushed = self.line.flush();
                let filled = self.line.fill();
                // What came before the end counts.
                while let Some(frame) = self.line.take().map_err(|error| said(&error))? {
                    self.hear(frame, now)?;
                }
                match filled {
                    Ok(()) => flushed.map_err(|_| None)?,
                    Err(Cut::Garbled(error)) => return Err(said(&error)),
                    Err(Cut::Closed | Cut::Io(_)) => return Err(None),
                }
            }
            Event::Exited(status) => {
                self.hear_last(now);
                return Err(Some(ending(status)));
            }
            Event::Time => self.look(now)?,
            Event::Unused => return Ok(false),
        }
        Ok(true)
    }

    /// Takes in what a worker sent before it ended.
    fn hear_last(&mut self, now: Instant) {
        let _ = self.line.fill();
        while let Ok(Some(frame)) = self.line.take() {
            let _ = self.hear(frame, now);
        }
    }

    fn order(&mut self, order: Order, now: Instant) -> Result<(), Option<String>> {
        match order {
            Order::Call {
                number,
                items,
                deadline,
                answers,
            } => {
                let bytes = match frame::call(number, &items) {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        let _ = answers.send(vec![Err(error); items.len()]);
                        return Ok(());
                    }
                };
                let state = State::Asked {
                    answers: vec![None; items.len()],
                    reply: answers,
                };
                self.calls.insert(number, Call { deadline, state });
                self.line.send(bytes).map_err(|_| None)
            }
            Order::Leave(number) => self.leave(number, now),
        }
    }

    /// Nobody waits for a call any more. A coroutine is cancelled, and so is a generator; whatever
    /// else runs can only be waited for, or killed when it should long be done.
    fn leave(&mut self, number: u64, now: Instant) -> Result<(), Option<String>> {
        let Some(call) = self.calls.get_mut(&number) else {
            return Ok(());
        };
        let grace = match self.mode {
            Mode::Concurrent => GIVING_UP,
            Mode::Item | Mode::Batch => Duration::ZERO,
        };
        let until = call.deadline.map(|deadline| deadline.max(now) + grace);
        call.state = State::Left { until };
        self.line.send(frame::cancel(number)).map_err(|_| None)?;
        self.look(now)
    }

    /// Looks for texts without readers, and for calls whose time is over.
    fn look(&mut self, now: Instant) -> Result<(), Option<String>> {
        let unread = self.calls.iter().filter(
            |(_, call)| matches!(&call.state, State::Streaming(sink) if sink.is_abandoned()),
        );
        let unread: Vec<u64> = unread.map(|(number, _)| *number).collect();
        for number in unread {
            self.leave(number, now)?;
        }
        let over =
            |call: &Call| matches!(call.state, State::Left { until: Some(until) } if until <= now);
        match self.calls.values().any(over) {
            true => Err(Some("it was killed, as an item took too long".to_owned())),
            false => Ok(()),
        }
    }

    fn hear(&mut self, frame: Frame, now: Instant) -> Result<(), Option<String>> {
        match frame {
            Frame::Value { call, item, value } => self.answer(call, item, Ok(value)),
            Frame::Error { call, item, said } => {
                let (node, traceback) = (&*self.node, &said.traceback);
                tracing::warn!(node, "an item raised an exception\n{traceback}");
                self.answer(call, item, Err(raised(said)));
            }
            Frame::Piece { call, text } => return self.piece(call, text, now),
            Frame::End { call } => self.end(call, Ok(DONE)),
            Frame::Ready(_) | Frame::Unready(_) => {
                return Err(Some("it began a second time".to_owned()));
            }
        }
        Ok(())
    }

    fn answer(&mut self, number: u64, item: u32, answer: Result<Value, NodeError>) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        match &mut call.state {
            State::Asked { answers, .. } => {
                if let Some(place) = answers.get_mut(item as usize) {
                    *place = Some(answer);
                }
                if answers.iter().any(Option::is_none) {
                    return;
                }
            }
            // A generator failed in the middle.
            State::Streaming(_) => return self.end(number, answer.map(|_| DONE)),
            State::Left { .. } => {}
        }
        if let Some(Call {
            state: State::Asked { answers, reply },
            ..
        }) = self.calls.remove(&number)
        {
            let _ = reply.send(answers.into_iter().flatten().collect());
        }
    }

    fn piece(&mut self, number: u64, text: String, now: Instant) -> Result<(), Option<String>> {
        let Some(call) = self.calls.get_mut(&number) else {
            return Ok(());
        };
        if let State::Asked { .. } = call.state {
            let (sink, stream) = text_stream();
            let before = std::mem::replace(&mut call.state, State::Streaming(sink));
            if let State::Asked { reply, .. } = before {
                let _ = reply.send(vec![Ok(Value::Stream(stream))]);
            }
        }
        if let State::Streaming(sink) = &call.state {
            sink.push(text);
            if sink.is_abandoned() {
                return self.leave(number, now);
            }
        }
        Ok(())
    }

    /// A text is complete, or will never be.
    fn end(&mut self, number: u64, end: Result<Finish, NodeError>) {
        match self.calls.remove(&number).map(|call| call.state) {
            Some(State::Streaming(sink)) => sink.end(end),
            // A generator that yielded nothing.
            Some(State::Asked { reply, .. }) => {
                let _ = reply.send(vec![end.map(|_| Value::text(""))]);
            }
            Some(State::Left { .. }) | None => {}
        }
    }

    /// Tells every caller that the worker is lost. One that takes its calls in turn has begun the
    /// first of them alone.
    fn give_up(&mut self, reason: &str) {
        let in_turn = self.mode != Mode::Concurrent;
        for (place, (_, call)) in std::mem::take(&mut self.calls).into_iter().enumerate() {
            let begun = place == 0 || !in_turn;
            match call.state {
                State::Asked { answers, reply } => {
                    let answers = answers.into_iter();
                    let answers = answers.map(|_| Err(lost(Some(reason), begun)));
                    let _ = reply.send(answers.collect());
                }
                State::Streaming(sink) => {
                    let reason = format!("the worker ended in the middle of a text: {reason}");
                    sink.end(Err(NodeError::failed(reason)));
                }
                State::Left { .. } => {}
            }
        }
        // Those who sent their calls in the meantime learn it from the loss of the channel.
        self.ordered.close();
    }

    /// Lets the process end: it does when its socket ends, once it is done with what it has.
    async fn farewell(self) {
        let Self {
            mut child,
            line,
            life,
            ..
        } = self;
        drop(line);
        if timeout(FAREWELL, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        drop(life);
    }
}

const DONE: Finish = Finish {
    reason: FinishReason::Stop,
    prompt_tokens: 0,
    cached_tokens: 0,
    completion_tokens: 0,
    guessed_tokens: 0,
};

fn raised(said: Said) -> NodeError {
    NodeError::because(said.what.clone(), said)
}
