//! From one generation to the next while requests run: who asks for it, and what came of it.
//!
//! [`watch()`] decides from what is seen of files whether they changed; the [`Supervisor`] owns the
//! change itself. What is here connects it with the listeners: [`Control`] carries orders to it and
//! outcomes back. How a generation comes to be served is in [`rollout`](crate::rollout).
//!
//! [`Supervisor`]: crate::supervisor::Supervisor

pub mod watch;

use crate::{
    content::{self, Named},
    load::Given,
    rollout::report::{Ended, Report},
};
use arc_swap::ArcSwapOption;
use graphs::plan::Counts;
use schema::Sources;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc};
use tokio::sync::{mpsc, oneshot};
use watch::{Seen, Watch};

/// What a supervisor can be told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Load the file again.
    Reload,
    /// Go back to a generation; to the one before the current one if none is named.
    Rollback(Option<u64>),
    /// Have all requests get the generation that a rollout is about.
    Promote,
    /// Give that generation up.
    Abort,
    /// Say what a reload to these texts would do, the main file first, and do nothing.
    Plan(Vec<Given>),
}

/// An order and the way back.
#[derive(Debug)]
pub struct Ordered {
    pub(crate) order: Order,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether what was asked for runs now.
    pub ok: bool,
    /// The generation that is served.
    pub generation: u64,
    /// What stood in the way, one text each, as a person reads them.
    pub problems: Vec<String>,
    /// What happened to the nodes, in words; empty if nothing did.
    pub nodes: String,
    /// What is done to every part, a line each; only where a plan was asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// What became of a rollout, in words; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rollout: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl Outcome {
    pub(crate) fn done(generation: u64, counts: Option<Counts>) -> Self {
        Self {
            ok: true,
            generation,
            problems: Vec::new(),
            nodes: counts.map(|counts| counts.to_string()).unwrap_or_default(),
            plan: String::new(),
            rollout: String::new(),
            millis: 0,
        }
    }

    pub(crate) fn refused(generation: u64, problems: Vec<String>) -> Self {
        Self {
            ok: false,
            generation,
            problems,
            nodes: String::new(),
            plan: String::new(),
            rollout: String::new(),
            millis: 0,
        }
    }
}

/// Where orders are given and outcomes are read.
#[derive(Debug)]
pub struct Control {
    orders: mpsc::Sender<Ordered>,
    last: ArcSwapOption<Outcome>,
    rollout: ArcSwapOption<Report>,
    ended: ArcSwapOption<Ended>,
}

impl Control {
    /// A control, and where its supervisor gets the orders.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Ordered>) {
        // A few orders may wait: they are carried out one after the other.
        let (orders, receiver) = mpsc::channel(8);
        let control = Self {
            orders,
            last: ArcSwapOption::empty(),
            rollout: ArcSwapOption::empty(),
            ended: ArcSwapOption::empty(),
        };
        (Arc::new(control), receiver)
    }

    /// Has an order carried out. `None` if there is no supervisor any more.
    pub async fn order(&self, order: Order) -> Option<Outcome> {
        let (reply, outcome) = oneshot::channel();
        self.orders.send(Ordered { order, reply }).await.ok()?;
        outcome.await.ok()
    }

    /// What came of the last reload; `None` before the first.
    pub fn last(&self) -> Option<Arc<Outcome>> {
        self.last.load_full()
    }

    /// The rollout that is under way.
    pub fn rollout(&self) -> Option<Arc<Report>> {
        self.rollout.load_full()
    }

    /// What came of the last rollout; `None` before the first has ended.
    pub fn last_rollout(&self) -> Option<Arc<Ended>> {
        self.ended.load_full()
    }

    pub(crate) fn report(&self, rollout: Report) {
        self.rollout.store(Some(Arc::new(rollout)));
    }

    pub(crate) fn end(&self, ended: Ended) {
        self.rollout.store(None);
        self.ended.store(Some(Arc::new(ended)));
    }

    pub(crate) fn note(&self, outcome: &Outcome) {
        self.last.store(Some(Arc::new(outcome.clone())));
    }
}

/// A watch over what was loaded: texts, files that could not be read, and what they name on the disk.
pub fn watch(sources: &Sources, unread: &[(PathBuf, Seen)], named: &[(Named, Seen)]) -> Watch {
    let loaded = sources.iter().map(|source| {
        let text = Named::text(PathBuf::from(&source.name));
        (text, content::seen(source.text.as_bytes()))
    });
    let unread = unread
        .iter()
        .map(|(path, seen)| (Named::text(path.clone()), *seen));
    Watch::new(loaded.chain(unread).chain(named.iter().cloned()).collect())
}
