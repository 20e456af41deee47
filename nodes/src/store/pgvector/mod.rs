//! A table of PostgreSQL with pgvector: neighbours by cosine, words by full-text search, and both in one
//! statement.
//!
//! The table may be one that people have already, with columns of other names. Who migrates it, and which
//! indexes it has, is theirs to say; a table that is not there is made with what searches need.

mod connect;
mod failure;
mod pool;
mod sql;
mod table;

use super::{Entry, Facts, Plan, Store, Wanted};
use crate::{Document, NodeError, index::json};
use connect::Server;
use futures::future::BoxFuture;
use pool::Pool;
use schema::PgvectorIndex;
use std::{collections::HashMap, sync::Arc};
use table::Table;
use tokio_postgres::Row;

/// A table that is there.
pub struct Pgvector {
    pool: Pool,
    table: Table,
    facts: Facts,
}

impl Pgvector {
    /// Connects and looks at the table; none if there is no such table.
    ///
    /// # Errors
    /// The server is out of reach, or the table lacks what a search needs.
    pub async fn open(spec: &PgvectorIndex) -> Result<Option<Self>, NodeError> {
        let pool = Pool::new(Server::new(&spec.url)?, spec.connections);
        let table = Table::describe(spec, &pool).await?;
        Ok(table.map(|table| Self {
            facts: table.facts(),
            pool,
            table,
        }))
    }

    /// Makes the table.
    ///
    /// # Errors
    /// The server is out of reach, or refuses.
    pub async fn create(spec: &PgvectorIndex, plan: Plan) -> Result<(), NodeError> {
        let pool = Pool::new(Server::new(&spec.url)?, 1);
        let name = table::quoted_path(spec.table.expose());
        pool.run(&sql::create(spec, &name, plan.dimensions)).await
    }

    async fn rows(&self, statement: &sql::Statement) -> Result<Vec<Row>, NodeError> {
        self.pool.query(&statement.text, &statement.values()).await
    }
}

impl Store for Pgvector {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn find(&self, wanted: Wanted) -> BoxFuture<'_, Result<Vec<Document>, NodeError>> {
        Box::pin(async move {
            let rows = self.rows(&sql::search(&self.table, &wanted)?).await?;
            rows.iter().map(|row| self.document(row)).collect()
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, NodeError>> {
        Box::pin(async move {
            let count = format!("SELECT count(*) FROM {}", self.table.name);
            let rows = self.pool.query(&count, &[]).await?;
            let count = rows.first().map_or(0, |row| row.get::<_, i64>(0));
            Ok(count.unsigned_abs())
        })
    }

    fn known(
        &self,
        documents: Vec<(Arc<str>, u64)>,
    ) -> BoxFuture<'_, Result<Vec<bool>, NodeError>> {
        Box::pin(async move {
            if !self.table.digest {
                return Ok(vec![false; documents.len()]);
            }
            let ids = documents.iter().map(|(id, _)| id.to_string()).collect();
            let rows = self.rows(&sql::known(&self.table, ids)).await?;
            let held = rows.iter().map(|row| {
                let digest: Option<i64> = row.get(1);
                (row.get::<_, String>(0), digest)
            });
            let held: HashMap<_, _> = held.collect();
            let is_same = |(id, digest): &(Arc<str>, u64)| {
                held.get(&**id).copied().flatten() == Some(digest.cast_signed())
            };
            Ok(documents.iter().map(is_same).collect())
        })
    }

    fn upsert(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(async move {
            let statement = sql::upsert(&self.table, &batch)?;
            self.rows(&statement).await.map(|_| ())
        })
    }

    fn delete(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(async move {
            let statement = sql::delete(&self.table, ids);
            self.rows(&statement).await.map(|_| ())
        })
    }

    fn ids(&self) -> BoxFuture<'_, Result<Vec<String>, NodeError>> {
        Box::pin(async move {
            let Table { name, id, .. } = &self.table;
            let all = format!("SELECT {id}::text FROM {name}");
            let rows = self.pool.query(&all, &[]).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
    }
}

impl Pgvector {
    fn document(&self, row: &Row) -> Result<Document, NodeError> {
        let senseless = |error| {
            let reason = format!("{} answered with what is no document", self.pool.name());
            NodeError::because(reason, error)
        };
        let id: String = row.try_get(0).map_err(senseless)?;
        // A text, or none, in a table of somebody else.
        let text: Option<String> = row.try_get(1).map_err(senseless)?;
        let metadata: Option<String> = row.try_get(2).map_err(senseless)?;
        let metadata = metadata.and_then(|metadata| json::read_map(&metadata));
        Ok(Document {
            id: id.into(),
            text: text.unwrap_or_default().into(),
            score: row.try_get(3).map_err(senseless)?,
            metadata: Arc::new(metadata.unwrap_or_default()),
        })
    }
}
