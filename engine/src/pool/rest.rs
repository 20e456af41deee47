//! A pool that has no replicas for a while, because its successor needs their place.

use super::{Order, Pool, limits};
use std::time::Duration;
use tokio::{sync::oneshot, time::timeout};

impl Pool {
    /// Lets go of the pool's replicas and waits until they and what they took are free: until each has
    /// finished what it holds, or `grace` is over. What is asked of the pool from then on waits in its
    /// queue.
    pub async fn rest(&self, grace: Duration) {
        if timeout(grace, self.let_go(false)).await.is_err() {
            self.let_go(true).await;
        }
    }

    /// Has the replicas built again.
    pub fn wake(&self) {
        // Its owner lives as long as there is a handle, unless it was retired: nothing comes back then.
        let _ = self.0.orders.send(Order::Wake);
    }

    async fn let_go(&self, now: bool) {
        let (gone, all) = oneshot::channel();
        // Where the owner has ended, so have the replicas.
        if self.0.orders.send(Order::Rest { now, gone }).is_ok() {
            let _ = all.await;
        }
    }

    /// How many items may wait for its replicas.
    pub fn most_queued(&self) -> usize {
        limits::queued(&self.spec())
    }

    /// How long it may go on when it is not used any more.
    pub fn grace(&self) -> Duration {
        limits::grace(&self.spec())
    }
}
