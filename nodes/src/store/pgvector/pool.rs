//! Connections to PostgreSQL: some at most, kept while they are well, and given up by who leaves.

use super::{connect::Server, failure};
use crate::NodeError;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{sync::Semaphore, time::Instant};
use tokio_postgres::{
    Client, Error, Row,
    error::SqlState,
    types::{ToSql, Type},
};

/// Connections to one server.
pub(super) struct Pool {
    server: Server,
    room: Semaphore,
    idle: Mutex<Vec<Arc<Client>>>,
}

/// The values of a statement with their types.
pub(super) type Values<'v> = [(&'v (dyn ToSql + Sync), Type)];

impl Pool {
    /// A pool that connects when it has to.
    pub(super) fn new(server: Server, connections: u32) -> Self {
        Self {
            server,
            room: Semaphore::new(connections as usize),
            idle: Mutex::default(),
        }
    }

    /// What errors call the server.
    pub(super) fn name(&self) -> &str {
        &self.server.name
    }

    /// Runs one statement that takes effect once however often it is run. Who drops this has the server
    /// give it up.
    ///
    /// # Errors
    /// The server is out of reach, or refuses.
    pub(super) async fn query(
        &self,
        statement: &str,
        values: &Values<'_>,
    ) -> Result<Vec<Row>, NodeError> {
        let begun = Instant::now();
        let failed = |error| failure::of(self.name(), &error, begun.elapsed());
        // The semaphore is never closed.
        let _room = self.room.acquire().await;
        while let Some(client) = self.idle() {
            let running = Running::new(self, client);
            match running.client.query_typed(statement, values).await {
                Err(error) if lost(&error, &running.client) => drop(running.end()),
                answer => {
                    self.put_back(running.end());
                    return answer.map_err(failed);
                }
            }
        }
        let running = Running::new(self, self.connect().await.map_err(failed)?);
        let answer = running.client.query_typed(statement, values).await;
        self.put_back(running.end());
        answer.map_err(failed)
    }

    /// Runs several statements that take no values, all or none of them.
    ///
    /// # Errors
    /// The server is out of reach, or refuses.
    pub(super) async fn run(&self, statements: &str) -> Result<(), NodeError> {
        let begun = Instant::now();
        let failed = |error| failure::of(self.name(), &error, begun.elapsed());
        let _room = self.room.acquire().await;
        let running = Running::new(self, self.connect().await.map_err(failed)?);
        let answer = running.client.batch_execute(statements).await;
        drop(running.end());
        answer.map_err(failed)
    }

    async fn connect(&self) -> Result<Arc<Client>, Error> {
        Ok(Arc::new(self.server.connect().await?))
    }

    fn idle(&self) -> Option<Arc<Client>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|client| !client.is_closed());
        idle.pop()
    }

    fn put_back(&self, client: Arc<Client>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !client.is_closed() {
            idle.push(client);
        }
    }
}

/// Whether a connection went while nobody used it, so that another is worth a try.
fn lost(error: &Error, client: &Client) -> bool {
    let stopped = [
        &SqlState::ADMIN_SHUTDOWN,
        &SqlState::CRASH_SHUTDOWN,
        &SqlState::IDLE_SESSION_TIMEOUT,
    ];
    client.is_closed()
        || error.is_closed()
        || error.code().is_some_and(|code| stopped.contains(&code))
}

/// A connection that runs a statement. Dropped before the end, it has the server cancel that.
struct Running<'p> {
    pool: &'p Pool,
    client: Arc<Client>,
    over: bool,
}

impl<'p> Running<'p> {
    fn new(pool: &'p Pool, client: Arc<Client>) -> Self {
        Self {
            pool,
            client,
            over: false,
        }
    }

    fn end(mut self) -> Arc<Client> {
        self.over = true;
        Arc::clone(&self.client)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.pool.server.cancel(&self.client);
        }
    }
}
