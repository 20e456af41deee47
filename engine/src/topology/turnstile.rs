//! The turnstile of a graph: it counts the requests inside, and while it is closed others wait outside.
//!
//! It closes where a node and its successor do not fit side by side. Requests that are inside finish
//! on what they began with; those outside see the next generation, or the same one again if that does
//! not start. Which of the two it is, and when, is not known here.

use nodes::NodeError;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// The turnstile of a graph.
#[derive(Debug)]
pub struct Turnstile {
    inside: TaskTracker,
    closed: watch::Sender<Option<Arc<Closed>>>,
}

/// A request that is inside, until this is dropped.
#[derive(Debug)]
pub struct Inside {
    _token: TaskTrackerToken,
}

/// Why a turnstile is closed, and who waits.
#[derive(Debug)]
pub struct Closed {
    /// The node because of which.
    node: Arc<str>,
    /// How many may wait.
    most: usize,
    /// What one that is refused is told to wait.
    retry_after: Duration,
    waiting: AtomicUsize,
}

/// A request that was outside, and why it did not come in.
#[derive(Debug)]
pub struct Outside {
    /// The node because of which.
    pub node: Arc<str>,
    /// [`NodeError::Full`] or [`NodeError::Timeout`].
    pub error: NodeError,
}

impl Closed {
    /// Because of this node; so many requests may wait meanwhile.
    pub fn because(node: &str, most: usize, retry_after: Duration) -> Self {
        Self {
            node: node.into(),
            most,
            retry_after,
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Default for Turnstile {
    fn default() -> Self {
        Self {
            inside: TaskTracker::new(),
            closed: watch::Sender::new(None),
        }
    }
}

impl Turnstile {
    /// Goes in; `None` while it is closed.
    pub fn enter(&self) -> Option<Inside> {
        // In this order: whoever closes the turnstile either counts this one or is seen here.
        let token = self.inside.token();
        (!self.inside.is_closed()).then_some(Inside { _token: token })
    }

    /// Waits until it is open. Whoever waited looks up the generation again.
    ///
    /// # Errors
    /// Too many wait, or the deadline has passed, `after` so long.
    pub async fn wait(&self, deadline: Option<Instant>, after: Duration) -> Result<(), Outside> {
        let mut closed = self.closed.subscribe();
        let Some(why) = closed.borrow_and_update().clone() else {
            return Ok(());
        };
        let outside = |error| Outside {
            node: Arc::clone(&why.node),
            error,
        };
        let _waiting = Waiting(&why.waiting);
        if why.waiting.fetch_add(1, SeqCst) >= why.most {
            let retry_after = why.retry_after;
            return Err(outside(NodeError::Full { retry_after }));
        }
        let open = closed.wait_for(Option::is_none);
        match deadline {
            // The sender lives as long as the turnstile.
            None => drop(open.await),
            Some(deadline) => {
                let opened = timeout_at(deadline, open).await;
                opened
                    .map_err(|_| outside(NodeError::Timeout { after }))?
                    .ok();
            }
        }
        Ok(())
    }

    /// Lets nobody in from now on.
    pub fn close(&self, why: Closed) {
        self.closed.send_replace(Some(Arc::new(why)));
        self.inside.close();
    }

    /// Waits until nobody is inside of a closed turnstile.
    pub async fn empty(&self) {
        self.inside.wait().await;
    }

    /// Has those who wait look for another one: nobody comes in here any more.
    pub fn redirect(&self) {
        self.closed.send_replace(None);
    }

    /// Lets everybody in.
    pub fn open(&self) {
        self.inside.reopen();
        self.closed.send_replace(None);
    }

    /// How many wait outside.
    pub fn waiting(&self) -> usize {
        let closed = self.closed.borrow();
        closed
            .as_ref()
            .map_or(0, |closed| closed.waiting.load(SeqCst))
    }
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    fn closed(most: usize) -> Closed {
        Closed::because("answer", most, Duration::from_secs(2))
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_inside_finishes_and_who_is_outside_waits() {
        let turnstile = Arc::new(Turnstile::default());
        let inside = turnstile.enter().unwrap();
        turnstile.close(closed(8));
        assert!(turnstile.enter().is_none());
        let waits = tokio::spawn({
            let turnstile = Arc::clone(&turnstile);
            async move { turnstile.wait(None, Duration::ZERO).await.is_ok() }
        });
        let empty = tokio::spawn({
            let turnstile = Arc::clone(&turnstile);
            async move { turnstile.empty().await }
        });
        sleep(Duration::from_secs(5)).await;
        assert!(!empty.is_finished() && !waits.is_finished());
        assert_eq!(turnstile.waiting(), 1);
        drop(inside);
        empty.await.unwrap();
        assert!(!waits.is_finished());
        turnstile.open();
        assert!(waits.await.unwrap());
        assert!(turnstile.enter().is_some());
        assert_eq!(turnstile.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_has_bounds() {
        let turnstile = Turnstile::default();
        turnstile.close(closed(1));
        let deadline = Instant::now() + Duration::from_secs(3);
        let first = turnstile.wait(Some(deadline), Duration::from_secs(3));
        let second = async {
            sleep(Duration::from_millis(1)).await;
            turnstile.wait(None, Duration::ZERO).await
        };
        let (first, second) = tokio::join!(first, second);
        let first = first.unwrap_err();
        assert_eq!(&*first.node, "answer");
        assert!(matches!(first.error, NodeError::Timeout { after } if after.as_secs() == 3));
        let told = second.unwrap_err().error;
        assert!(matches!(told, NodeError::Full { retry_after } if retry_after.as_secs() == 2));
        assert_eq!(turnstile.waiting(), 0);
    }
}
