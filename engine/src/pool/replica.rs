//! One run of a replica: a batch goes in, each caller gets its answer.

use super::owner::{Permit, Ticket};
use crate::metrics::NodeMetrics;
use futures::FutureExt as _;
use nodes::{Input, Node, NodeError, Value};
use std::{panic::AssertUnwindSafe, sync::Arc};
use tokio::{sync::oneshot, time::Instant};

type Reply = oneshot::Sender<Result<Value, NodeError>>;

/// Runs a batch and answers its callers. It is given up when all of them have left. The permit is
/// returned when the last of its answers is complete: at once, or when its stream ends.
pub(super) async fn run(
    node: Arc<dyn Node>,
    batch: Vec<Ticket>,
    permit: Permit,
    metrics: Arc<NodeMetrics>,
) {
    let begun = Instant::now();
    let permit = Arc::new(permit);
    let (inputs, mut replies): (Vec<Input>, Vec<Reply>) =
        batch.into_iter().map(Ticket::into_parts).unzip();
    let expected = replies.len();
    let results = {
        let answers = AssertUnwindSafe(async { node.run(inputs).await }).catch_unwind();
        tokio::select! {
            biased;
            results = answers => results,
            () = all_left(&mut replies) => return,
        }
    };
    metrics
        .batch_duration
        .observe(begun.elapsed().as_secs_f64());
    let mut results = match results {
        Ok(results) => results,
        Err(panic) => vec![Err(panicked(&*panic)); expected],
    };
    let missing = NodeError::failed("the node left the item without an answer");
    results.resize(expected, Err(missing));
    for (reply, result) in replies.into_iter().zip(results) {
        // Who has left does not need it.
        let _ = reply.send(result.map(|value| hold(value, &permit)));
    }
}

/// Keeps the replica's slot for as long as a stream is read.
fn hold(value: Value, permit: &Arc<Permit>) -> Value {
    match value {
        Value::Stream(stream) => Value::Stream(stream.hold(Arc::clone(permit))),
        value => value,
    }
}

async fn all_left(replies: &mut [Reply]) {
    for reply in replies {
        reply.closed().await;
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> NodeError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    NodeError::failed(match text {
        Some(text) => format!("the node panicked: {text}"),
        None => "the node panicked".to_owned(),
    })
}
