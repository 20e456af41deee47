//! One run of a replica: a batch goes in, each caller gets its answer.
//!
//! A batch that fails as a whole is halved until the guilty items stand alone. If the node itself
//! breaks, its items go back to the owner, which has them run elsewhere.

use super::ticket::{Permit, Report, Ticket};
use crate::{metrics::NodeMetrics, resilience::Fingerprint};
use futures::FutureExt as _;
use nodes::{Input, Node, NodeError, Value};
use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

type Answers = Vec<Result<Value, NodeError>>;

/// A batch on its replica.
pub(super) struct Run {
    pub(super) node: Arc<dyn Node>,
    /// Returned when the last of the answers is complete: at once, or when its stream ends.
    pub(super) permit: Arc<Permit>,
    /// Set when the replica is given up while it runs.
    pub(super) lost: CancellationToken,
    pub(super) metrics: Arc<NodeMetrics>,
}

/// How the run of a part of a batch ended.
enum Ended {
    /// Its callers have their answers.
    Answered,
    /// Its callers have left.
    Abandoned,
    /// Every item failed, which may be the fault of one of them.
    Suspect(Vec<Ticket>),
    /// The node broke.
    Broke(Vec<Ticket>, NodeError),
}

/// What was learned while a batch was halved.
#[derive(Default)]
struct Search {
    halved: bool,
    /// Whether all callers of a part have left before it was answered.
    abandoned: bool,
    /// Whether an item was answered well, so that not everything fails.
    some_well: bool,
    guilty: Vec<(Fingerprint, NodeError)>,
}

impl Run {
    /// Runs a batch and answers its callers. It is given up when all of them have left.
    pub(super) async fn run(self, batch: Vec<Ticket>) {
        let mut search = Search::default();
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            match self.part(part, &mut search).await {
                Ended::Answered => {}
                Ended::Abandoned => search.abandoned = true,
                Ended::Suspect(mut part) => {
                    search.halved = true;
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                Ended::Broke(part, error) => {
                    parts.push(part);
                    let held = parts;
                    return self.permit.report(|replica| Report::Broke {
                        replica,
                        held,
                        error,
                    });
                }
            }
        }
        let abandoned = search.abandoned;
        self.permit
            .report(|replica| Report::Ended { replica, abandoned });
        // Where nothing went well, the node is as likely to be at fault as the items.
        if search.some_well {
            for (item, error) in search.guilty {
                self.permit.report(|_| Report::Guilty { item, error });
            }
        }
    }

    async fn part(&self, mut part: Vec<Ticket>, search: &mut Search) -> Ended {
        let begun = Instant::now();
        let inputs: Vec<Input> = part.iter().map(|ticket| ticket.input.clone()).collect();
        let answers = AssertUnwindSafe(async { self.node.run(inputs).await }).catch_unwind();
        let answers = tokio::select! {
            biased;
            answers = answers => answers,
            () = self.lost.cancelled() => {
                let error = NodeError::failed("the replica was given up");
                return Ended::Broke(part, error);
            }
            () = all_left(&mut part) => return Ended::Abandoned,
        };
        let took = begun.elapsed();
        self.metrics.batch_duration.observe(took.as_secs_f64());
        match answers {
            Err(panic) => Ended::Broke(part, panicked("the node", &*panic)),
            Ok(answers) if answers.len() != part.len() => {
                let (given, items) = (answers.len(), part.len());
                let error = format!("the node gave {given} answers to {items} items");
                Ended::Broke(part, NodeError::failed(error))
            }
            Ok(answers) => {
                if let Some(error) = lost(&answers) {
                    return Ended::Broke(part, error);
                }
                self.permit
                    .report(|replica| Report::Answered { replica, took });
                if part.len() > 1 && all_failed(&answers) {
                    return Ended::Suspect(part);
                }
                self.answer(part, answers, search);
                Ended::Answered
            }
        }
    }

    fn answer(&self, part: Vec<Ticket>, answers: Answers, search: &mut Search) {
        self.permit.count_answered(part.len());
        for (ticket, answer) in part.into_iter().zip(answers) {
            match &answer {
                Ok(_) => search.some_well = true,
                Err(error @ NodeError::Failed { .. }) if search.halved => {
                    let item = Fingerprint::of(&ticket.input.arguments);
                    search.guilty.extend(item.map(|item| (item, error.clone())));
                }
                Err(_) => {}
            }
            ticket.answer(answer.map(|value| self.hold(value)));
        }
    }

    /// Keeps the replica's slot for as long as a stream is read.
    fn hold(&self, value: Value) -> Value {
        match value {
            Value::Stream(stream) => Value::Stream(stream.hold(Arc::clone(&self.permit))),
            value => value,
        }
    }
}

/// How the node was lost, if it was.
fn lost(answers: &Answers) -> Option<NodeError> {
    let mut errors = answers.iter().filter_map(|answer| answer.as_ref().err());
    let lost = errors.find(|error| matches!(error, NodeError::Lost { .. }));
    lost.cloned()
}

fn all_failed(answers: &Answers) -> bool {
    let failed = |answer: &Result<_, _>| matches!(answer, Err(NodeError::Failed { .. }));
    answers.iter().all(failed)
}

async fn all_left(part: &mut [Ticket]) {
    for ticket in part {
        ticket.left().await;
    }
}

/// The error for a panic of `who`.
pub(super) fn panicked(who: &str, panic: &(dyn Any + Send)) -> NodeError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    NodeError::failed(match text {
        Some(text) => format!("{who} panicked: {text}"),
        None => format!("{who} panicked"),
    })
}
