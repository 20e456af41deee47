//! What a table has, as far as searching it and filling it needs to know.

use super::{Facts, pool::Pool};
use crate::NodeError;
use schema::PgvectorIndex;
use std::collections::HashMap;
use tokio_postgres::types::Type;

/// The column of the digest in tables that are made here.
pub(super) const DIGEST: &str = "digest";

/// A table, its names quoted for SQL.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) id: String,
    /// The type of the id, to which texts are cast.
    pub(super) id_type: String,
    pub(super) text: String,
    /// The metadata, as an expression of type jsonb.
    pub(super) metadata: Option<Metadata>,
    pub(super) vector: Option<Vector>,
    /// The words of the text, as an expression of type tsvector.
    pub(super) words: String,
    /// Its text search configuration, as a literal.
    pub(super) language: String,
    /// Whether it keeps digests.
    pub(super) digest: bool,
}

/// The column of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metadata {
    pub(super) column: String,
    pub(super) column_type: String,
}

/// The column of the vectors.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vector {
    pub(super) column: String,
    /// `vector` or `halfvec`, with its schema where that must be said.
    pub(super) column_type: String,
    pub(super) dimensions: usize,
}

/// A column as PostgreSQL describes it.
struct Column {
    kind: String,
    modifier: i32,
}

impl Table {
    /// Looks at the table; none if there is no such table.
    ///
    /// # Errors
    /// The server cannot be asked, or the table lacks what a search needs.
    pub(super) async fn describe(
        spec: &PgvectorIndex,
        pool: &Pool,
    ) -> Result<Option<Self>, NodeError> {
        let name = quoted_path(spec.table.expose());
        let rows = pool.query(COLUMNS, &[(&name, Type::TEXT)]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut columns = HashMap::new();
        for row in rows {
            let column = Column {
                kind: row.get(1),
                modifier: row.get(2),
            };
            columns.insert(row.get::<_, String>(0), column);
        }
        let mut table = Self::from_columns(spec, name, &columns)?;
        if let Some(vector) = &mut table.vector
            && vector.dimensions == 0
        {
            vector.dimensions = sample(&table.name, vector, pool).await?;
        }
        Ok(Some(table))
    }

    fn from_columns(
        spec: &PgvectorIndex,
        name: String,
        columns: &HashMap<String, Column>,
    ) -> Result<Self, NodeError> {
        let needed = |option: &str, column: &str| {
            columns.get(column).ok_or_else(|| {
                let mut names: Vec<_> = columns.keys().map(String::as_str).collect();
                names.sort_unstable();
                let (table, names) = (&spec.table.value, names.join(", "));
                NodeError::failed(format!(
                    "table `{table}` has no column `{column}` for `{option}`; it has {names}"
                ))
            })
        };
        let (id, text) = (spec.id.expose(), spec.text.expose());
        let id_type = needed("id", id)?.kind.clone();
        needed("text", text)?;
        let metadata = spec.metadata.expose();
        let metadata = columns.get(metadata).map(|column| Metadata {
            column: quoted(metadata),
            column_type: column.kind.clone(),
        });
        if let Some(Metadata { column_type, .. }) = &metadata
            && !matches!(column_type.as_str(), "jsonb" | "json")
        {
            let (column, table) = (&spec.metadata, &spec.table.value);
            return Err(NodeError::failed(format!(
                "column `{column}` of table `{table}` has the type {column_type}; metadata needs jsonb"
            )));
        }
        let vector = spec.vector.expose();
        let vector = match columns.get(vector) {
            Some(column) => Some(Vector::of(spec, vector, column)?),
            None => None,
        };
        let (words, language) = (spec.words.expose(), literal(spec.language.expose()));
        let words = match columns.get(words) {
            Some(column) if column.kind == "tsvector" => quoted(words),
            _ => format!("to_tsvector({language}::regconfig, {})", quoted(text)),
        };
        Ok(Self {
            name,
            id: quoted(id),
            id_type,
            text: quoted(text),
            metadata,
            vector,
            words,
            language,
            digest: columns
                .get(DIGEST)
                .is_some_and(|column| column.kind == "bigint"),
        })
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            dimensions: self.vector.as_ref().map(|vector| vector.dimensions),
            words: Ok(()),
        }
    }
}

impl Vector {
    fn of(spec: &PgvectorIndex, name: &str, column: &Column) -> Result<Self, NodeError> {
        let bare = column.kind.rsplit('.').next().unwrap_or_default();
        if !matches!(bare, "vector" | "halfvec") {
            let (table, kind) = (&spec.table.value, &column.kind);
            return Err(NodeError::failed(format!(
                "column `{name}` of table `{table}` has the type {kind}; a search needs vector or halfvec"
            )));
        }
        Ok(Self {
            column: quoted(name),
            column_type: column.kind.clone(),
            // Below zero where the type was written without a size.
            dimensions: usize::try_from(column.modifier).unwrap_or_default(),
        })
    }
}

const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, NULL), atttypmod \
     FROM pg_attribute \
     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";

/// The size of the vectors of a column that does not say it, by one of them.
async fn sample(table: &str, vector: &Vector, pool: &Pool) -> Result<usize, NodeError> {
    let column = &vector.column;
    let one =
        format!("SELECT vector_dims({column}) FROM {table} WHERE {column} IS NOT NULL LIMIT 1");
    let rows = pool.query(&one, &[]).await?;
    let size = rows.first().map(|row| row.get::<_, i32>(0));
    let size = size.and_then(|size| usize::try_from(size).ok());
    size.ok_or_else(|| {
        NodeError::failed(format!(
            "column {column} of table {table} does not say the size of its vectors, and holds none"
        ))
    })
}

/// A name for SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name with or without that of its schema before it, for SQL.
pub(super) fn quoted_path(name: &str) -> String {
    let parts: Vec<_> = name.split('.').map(quoted).collect();
    parts.join(".")
}

/// A text as a literal of SQL. For what the file says and no statement can take as a value.
pub(super) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}
