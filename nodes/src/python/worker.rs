//! A worker as the engine sees it: calls go in, answers come out. One task owns the process
//! ([`owner`]).

mod owner;

use super::{frame::Frame, process::Recipe};
use crate::{Arguments, NodeError, Value};
use owner::Owner;
use std::{
    collections::BTreeMap,
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

/// How long a process may take to end after its socket did.
const LAST_BREATH: Duration = Duration::from_secs(5);

type Answers = Vec<Result<Value, NodeError>>;

/// How a worker runs what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One item, then the next.
    Item,
    /// A batch in one call.
    Batch,
    /// Many items at once.
    Concurrent,
}

/// A worker that is ready. Dropping it lets the process end.
pub(super) struct Worker {
    pub(super) mode: Mode,
    pid: Option<u32>,
    numbers: AtomicU64,
    orders: mpsc::UnboundedSender<Order>,
    ended: watch::Receiver<Option<Arc<str>>>,
}

enum Order {
    Call {
        number: u64,
        items: Vec<Arguments>,
        deadline: Option<Instant>,
        answers: oneshot::Sender<Answers>,
    },
    /// Nobody waits for this call any more.
    Leave(u64),
}

impl Worker {
    /// Starts a process and waits until it has imported its file.
    ///
    /// # Errors
    /// It cannot be started, or what its file raised.
    pub(super) async fn start(recipe: &Recipe) -> Result<Self, NodeError> {
        let (mut child, mut line) = recipe.start()?;
        // Taken, because whoever waits for a child closes the input that it has.
        let life = child.stdin.take();
        let mode = match line.next().await {
            Ok(Frame::Ready(about)) => mode(&about),
            Ok(Frame::Unready(said)) => {
                let (node, traceback) = (&*recipe.node, &said.traceback);
                tracing::error!(node, "the worker cannot start\n{traceback}");
                let file = recipe.file.display();
                let reason = format!("failed to load `{}` of {file}: {}", recipe.entry, said.what);
                return Err(NodeError::because(reason, said));
            }
            Ok(_) => None,
            Err(_) => {
                let status = timeout(LAST_BREATH, child.wait()).await;
                let status = status.ok().and_then(Result::ok);
                let reason = format!("the worker ended at its start: {}", ending(status));
                return Err(NodeError::failed(reason));
            }
        };
        let mode = mode.ok_or_else(|| NodeError::failed("the worker does not say how it runs"))?;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (ending, ended) = watch::channel(None);
        let pid = child.id();
        let owner = Owner {
            node: Arc::clone(&recipe.node),
            mode,
            child,
            life,
            line,
            ordered,
            calls: BTreeMap::new(),
            ending,
        };
        tokio::spawn(owner.run());
        Ok(Self {
            mode,
            pid,
            numbers: AtomicU64::new(0),
            orders,
            ended,
        })
    }

    /// Has items answered in one call. Given up, the call is cancelled, and a worker that does not
    /// let go of it by `deadline` is killed.
    pub(super) async fn call(&self, items: Vec<Arguments>, deadline: Option<Instant>) -> Answers {
        let (answers, answered) = oneshot::channel();
        let count = items.len();
        let mut leaving = Leaving {
            number: self.numbers.fetch_add(1, Relaxed),
            orders: &self.orders,
            answered: false,
        };
        let order = Order::Call {
            number: leaving.number,
            items,
            deadline,
            answers,
        };
        let sent = self.orders.send(order).is_ok();
        let result = if sent { answered.await.ok() } else { None };
        leaving.answered = true;
        // A worker that had ended before it got the call had no time to begin it.
        result.unwrap_or_else(|| vec![Err(self.gone()); count])
    }

    /// Comes back when the worker answers, once it is through with what it has.
    pub(super) async fn check(&self) -> Result<(), NodeError> {
        match self.call(Vec::new(), None).await.is_empty() {
            false => Ok(()),
            true => Err(self.gone()),
        }
    }

    /// Bytes of memory that the process takes, where the system tells.
    pub(super) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid?)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// Waits until the process has ended.
    pub(super) fn ended(&self) -> impl Future<Output = NodeError> + use<> {
        let mut ended = self.ended.clone();
        async move {
            let reason = ended.wait_for(Option::is_some).await.ok();
            lost(reason.and_then(|reason| reason.clone()).as_deref(), false)
        }
    }

    fn gone(&self) -> NodeError {
        lost(self.ended.borrow().as_deref(), false)
    }
}

fn mode(about: &Value) -> Option<Mode> {
    let Value::Map(about) = about else {
        return None;
    };
    match &**about.get("mode")?.as_text()? {
        "item" => Some(Mode::Item),
        "batch" => Some(Mode::Batch),
        "concurrent" => Some(Mode::Concurrent),
        _ => None,
    }
}

fn lost(reason: Option<&str>, begun: bool) -> NodeError {
    NodeError::Lost {
        reason: format!("the worker ended: {}", reason.unwrap_or("it was stopped")),
        begun,
    }
}

/// How a process ended, in words.
fn ending(status: Option<ExitStatus>) -> String {
    status.map_or_else(
        || "it does not say how".to_owned(),
        |status| status.to_string(),
    )
}

/// Tells the owner when a caller leaves without its answers.
struct Leaving<'a> {
    number: u64,
    orders: &'a mpsc::UnboundedSender<Order>,
    answered: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // After its owner's end there is nobody to tell.
            let _ = self.orders.send(Order::Leave(self.number));
        }
    }
}
