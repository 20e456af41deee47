//! Runs a synchronous model on a thread of its own, with its own compute threads, as a [`Node`].
//!
//! A model computes for milliseconds at a time and must never hold up a worker of the runtime. What
//! is not here: batching, and what to try again after a failure; a replica decides that.

use crate::{BatchKey, Input, Node, NodeError, Value, adapter::Adapters, compute::ComputePool};
use futures::future::BoxFuture;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};
use tokio::sync::{mpsc, oneshot};

/// A computation over batches, without `async`.
pub trait Model: Send + 'static {
    /// Answers each item, in order: as many results as items. The failure of one item does not touch
    /// the others. After a panic it must be fit for the next batch.
    fn forward(&mut self, batch: Vec<Input>) -> Vec<Result<Value, NodeError>>;

    /// How to tell what an item costs of a batch's `max-cost`, from any thread.
    fn cost(&self) -> Cost {
        Box::new(|_| 1)
    }

    /// The adapters that items name with their argument `adapter`. An item whose adapter is still to
    /// be loaded does not share a batch with others, which would have to wait for the load.
    fn adapters(&self) -> Option<Arc<dyn Adapters>> {
        None
    }
}

/// Tells what an item costs.
pub type Cost = Box<dyn Fn(&Input) -> u64 + Send + Sync>;

type Answers = Vec<Result<Value, NodeError>>;

/// A batch on its way to the model, and where its answers go.
struct Task {
    batch: Vec<Input>,
    answers: oneshot::Sender<Answers>,
}

/// A model on a thread of its own. Dropping it ends the thread after the batch that it is at.
pub struct OnThread {
    tasks: mpsc::Sender<Task>,
    cost: Cost,
    adapters: Option<Arc<dyn Adapters>>,
}

impl OnThread {
    /// Starts the thread, which is named `name` and computes on `threads` threads, itself among them.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn<M: Model>(name: &str, threads: usize, model: M) -> Result<Self, NodeError> {
        // One batch may wait while another runs, so that the model does not stand idle in between.
        let (tasks, waiting) = mpsc::channel(1);
        let (cost, adapters) = (model.cost(), model.adapters());
        let thread = thread::Builder::new().name(name.to_owned());
        let work = move || ComputePool::new(threads).install(|| serve(model, waiting));
        match thread.spawn(work) {
            Ok(_) => Ok(Self {
                tasks,
                cost,
                adapters,
            }),
            Err(error) => Err(NodeError::because(
                "failed to start a thread for the model",
                error,
            )),
        }
    }
}

impl Node for OnThread {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Answers> {
        Box::pin(async move {
            let items = batch.len();
            let (answers, answered) = oneshot::channel();
            let answers = match self.tasks.send(Task { batch, answers }).await {
                Ok(()) => answered.await.ok(),
                Err(_) => None,
            };
            let lost = || NodeError::failed("the thread of the model has ended");
            answers.unwrap_or_else(|| vec![Err(lost()); items])
        })
    }

    fn cost(&self, item: &Input) -> u64 {
        (self.cost)(item)
    }

    fn key(&self, item: &Input) -> Option<BatchKey> {
        let adapters = self.adapters.as_ref()?;
        match item.arguments.get("adapter") {
            Value::Text(name) if !adapters.is_loaded(name) => Some(BatchKey(Arc::clone(name))),
            _ => None,
        }
    }

    fn is_resident(&self, key: &BatchKey) -> bool {
        let adapters = self.adapters.as_ref();
        adapters.is_none_or(|adapters| adapters.is_loaded(&key.0))
    }

    /// The thread answers an empty batch, after those before it.
    fn check(&self) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(async move {
            let (answers, answered) = oneshot::channel();
            let batch = Vec::new();
            // Where it cannot be sent, `answers` is dropped too.
            let _ = self.tasks.send(Task { batch, answers }).await;
            let lost = |_| NodeError::failed("the thread of the model has ended");
            answered.await.map(drop).map_err(lost)
        })
    }
}

/// The life of the thread.
fn serve(mut model: impl Model, mut tasks: mpsc::Receiver<Task>) {
    while let Some(Task { batch, answers }) = tasks.blocking_recv() {
        // Nobody waits for it any more.
        if answers.is_closed() {
            continue;
        }
        // The caller may have left by now, which is no matter.
        let _ = answers.send(forward(&mut model, batch));
    }
}

fn forward(model: &mut impl Model, batch: Vec<Input>) -> Answers {
    let items = batch.len();
    if items == 0 {
        return Vec::new();
    }
    let error = match catch_unwind(AssertUnwindSafe(|| model.forward(batch))) {
        Ok(answers) if answers.len() == items => return answers,
        Ok(answers) => format!("the model gave {} answers to {items} items", answers.len()),
        Err(panic) => {
            let message = message(&*panic);
            tracing::error!(message, items, "a model panicked");
            format!("the model panicked: {message}")
        }
    };
    vec![Err(NodeError::failed(error)); items]
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arguments;
    use futures::{FutureExt, future::join_all};
    use std::sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    };

    /// Answers with the item's number, and panics at 13. It notes what it runs, waits for leave
    /// where there is a gate, and says when it is dropped.
    struct Scripted {
        ran: Arc<Mutex<Vec<i64>>>,
        gate: Option<(Sender<()>, Receiver<()>)>,
        dropped: Option<oneshot::Sender<()>>,
    }

    impl Scripted {
        fn new() -> Self {
            Self {
                ran: Arc::default(),
                gate: None,
                dropped: None,
            }
        }
    }

    impl Model for Scripted {
        fn forward(&mut self, batch: Vec<Input>) -> Answers {
            if let Some((entered, leave)) = &self.gate {
                entered.send(()).unwrap();
                leave.recv().unwrap();
            }
            let answer = |item: Input| {
                let number = item.arguments.get("n").as_integer().unwrap();
                self.ran.lock().unwrap().push(number);
                assert!(number != 13, "unlucky number");
                Ok(Value::Integer(number))
            };
            let mut answers: Answers = batch.into_iter().map(answer).collect();
            // An item of 99 is lost.
            answers.retain(|answer| !matches!(answer, Ok(Value::Integer(99))));
            answers
        }

        fn cost(&self) -> Cost {
            Box::new(|item| item.arguments.get("n").as_integer().unwrap_or(0) as u64)
        }
    }

    impl Drop for Scripted {
        fn drop(&mut self) {
            if let Some(dropped) = self.dropped.take() {
                dropped.send(()).unwrap();
            }
        }
    }

    fn item(number: i64) -> Input {
        Input {
            arguments: Arguments::from_iter([("n", Value::Integer(number))]),
            context: crate::Context::default(),
        }
    }

    async fn run(node: &OnThread, numbers: &[i64]) -> Vec<Result<i64, String>> {
        let batch = numbers.iter().map(|number| item(*number)).collect();
        let answers = node.run(batch).await.into_iter();
        answers
            .map(|answer| match answer {
                Ok(value) => Ok(value.as_integer().unwrap()),
                Err(error) => Err(error.to_string()),
            })
            .collect()
    }

    /// Adapters of which those with a short name are loaded.
    struct Short;

    impl Adapters for Short {
        fn get(&self, _: &str) -> Result<Arc<crate::adapter::Adapter>, NodeError> {
            unreachable!("nothing here asks for one")
        }

        fn is_loaded(&self, name: &str) -> bool {
            name.len() < 4
        }
    }

    struct Adapted;

    impl Model for Adapted {
        fn forward(&mut self, batch: Vec<Input>) -> Answers {
            batch.iter().map(|_| Ok(Value::None)).collect()
        }

        fn adapters(&self) -> Option<Arc<dyn Adapters>> {
            Some(Arc::new(Short))
        }
    }

    #[tokio::test]
    async fn an_item_whose_adapter_is_to_be_loaded_does_not_share_a_batch() {
        let node = OnThread::spawn("adapted", 1, Adapted).unwrap();
        let key = |name: &str| {
            let mut item = item(1);
            item.arguments.push("adapter".into(), Value::text(name));
            node.key(&item)
        };
        assert_eq!(node.key(&item(1)), None);
        assert_eq!(key("qa"), None);
        let long = key("headline").unwrap();
        assert_eq!(&*long.0, "headline");
        assert!(!node.is_resident(&long));
        assert!(node.is_resident(&BatchKey("qa".into())));
    }

    #[tokio::test]
    async fn answers_come_in_order_and_to_their_callers() {
        let node = OnThread::spawn("scripted", 1, Scripted::new()).unwrap();
        let batches: Vec<[i64; 2]> = (100..120).map(|n| [2 * n, 2 * n + 1]).collect();
        let answers = join_all(batches.iter().map(|batch| run(&node, batch))).await;
        for (batch, answers) in batches.iter().zip(answers) {
            assert_eq!(answers, batch.map(Ok));
        }
        assert_eq!(node.cost(&item(7)), 7);
    }

    #[tokio::test]
    async fn a_panic_fails_its_batch_and_no_other() {
        let node = OnThread::spawn("scripted", 1, Scripted::new()).unwrap();
        let failed = Err("the model panicked: unlucky number".to_owned());
        assert_eq!(run(&node, &[1, 13, 3]).await, vec![failed; 3]);
        assert_eq!(run(&node, &[4]).await, [Ok(4)]);
    }

    #[tokio::test]
    async fn a_lost_answer_fails_its_batch() {
        let node = OnThread::spawn("scripted", 1, Scripted::new()).unwrap();
        let failed = Err("the model gave 1 answers to 2 items".to_owned());
        assert_eq!(run(&node, &[1, 99]).await, vec![failed; 2]);
    }

    #[tokio::test]
    async fn what_is_abandoned_before_it_began_is_not_run() {
        let (mut model, (entered, has_entered), (leave, may_leave)) =
            (Scripted::new(), channel(), channel());
        let ran = Arc::clone(&model.ran);
        model.gate = Some((entered, may_leave));
        let node = OnThread::spawn("scripted", 1, model).unwrap();
        let mut first = Box::pin(run(&node, &[1]));
        assert!(first.as_mut().now_or_never().is_none());
        has_entered.recv().unwrap();
        let mut abandoned = Box::pin(run(&node, &[2]));
        assert!(abandoned.as_mut().now_or_never().is_none());
        drop(abandoned);
        leave.send(()).unwrap();
        leave.send(()).unwrap();
        assert_eq!(first.await, [Ok(1)]);
        assert_eq!(run(&node, &[3]).await, [Ok(3)]);
        assert_eq!(*ran.lock().unwrap(), [1, 3]);
    }

    #[tokio::test]
    async fn a_thread_that_is_stuck_does_not_say_that_it_is_well() {
        let (mut model, (entered, has_entered), (leave, may_leave)) =
            (Scripted::new(), channel(), channel());
        model.gate = Some((entered, may_leave));
        let node = OnThread::spawn("scripted", 1, model).unwrap();
        assert!(node.check().await.is_ok());
        let mut stuck = Box::pin(run(&node, &[1]));
        assert!(stuck.as_mut().now_or_never().is_none());
        has_entered.recv().unwrap();
        let mut check = node.check();
        assert!(check.as_mut().now_or_never().is_none());
        leave.send(()).unwrap();
        assert!(check.await.is_ok());
        assert_eq!(stuck.await, [Ok(1)]);
    }

    #[tokio::test]
    async fn dropping_the_node_ends_the_thread() {
        let (mut model, (says, dropped)) = (Scripted::new(), oneshot::channel());
        model.dropped = Some(says);
        let node = OnThread::spawn("scripted", 2, model).unwrap();
        assert_eq!(run(&node, &[1]).await, [Ok(1)]);
        drop(node);
        dropped.await.unwrap();
    }
}
