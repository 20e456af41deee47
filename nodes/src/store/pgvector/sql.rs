//! Statements over a table. What a request brings is a value of a statement and never its text.

use super::{
    Entry, Wanted,
    table::{DIGEST, Metadata, Table, Vector, literal, quoted},
};
use crate::{
    Filter, NodeError,
    filter::{Condition, Test},
    index::fusion::{K, depth},
};
use schema::PgvectorIndex;
use std::ops::Bound;
use tokio_postgres::types::{ToSql, Type};

/// Of a query, this many different words count, to bound the work.
const MOST_WORDS: usize = 64;
/// A list of more values than this is compared by a form that no index serves, to bound the statement.
const MANY: usize = 16;
/// Largest vectors that an HNSW index of pgvector takes.
const MOST_INDEXED: usize = 2000;

/// A statement and its values.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub(super) text: String,
    values: Vec<Value>,
}

/// A value of a statement.
#[derive(Debug, PartialEq)]
enum Value {
    Text(String),
    Count(i64),
    Vector(Vec<f32>),
    Texts(Vec<String>),
    Vectors(Vec<Option<String>>),
    Numbers(Vec<i64>),
}

impl Statement {
    /// Its values with their types.
    pub(super) fn values(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let values = self.values.iter().map(|value| match value {
            Value::Text(value) => (value as &(dyn ToSql + Sync), Type::TEXT),
            Value::Count(value) => (value as _, Type::INT8),
            Value::Vector(value) => (value as _, Type::FLOAT4_ARRAY),
            Value::Texts(value) => (value as _, Type::TEXT_ARRAY),
            Value::Vectors(value) => (value as _, Type::TEXT_ARRAY),
            Value::Numbers(value) => (value as _, Type::INT8_ARRAY),
        });
        values.collect()
    }

    /// Takes a value and gives its name in the statement.
    fn take(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }
}

/// The search for `wanted`.
///
/// # Errors
/// The table has no metadata for a filter, or no vectors.
pub(super) fn search(table: &Table, wanted: &Wanted) -> Result<Statement, NodeError> {
    let mut statement = Statement::default();
    let only = match &wanted.filter {
        Some(filter) => conditions(table, filter, &mut statement)?,
        None => String::new(),
    };
    let top_k = statement.take(Value::Count(wanted.top_k as i64));
    let Table { name, id, text, .. } = table;
    let found = match (&wanted.vector, &wanted.text) {
        (Some(vector), None) => near(table, vector, &only, &top_k, &mut statement)?,
        (None, Some(words)) => matching(table, words, &only, &top_k, &mut statement),
        (Some(vector), Some(words)) => {
            let depth = statement.take(Value::Count(depth(wanted.top_k) as i64));
            let near = near(table, vector, &only, &depth, &mut statement)?;
            let matching = matching(table, words, &only, &depth, &mut statement);
            let place = "row_number() OVER (ORDER BY score DESC, id::text COLLATE \"C\") AS place";
            format!(
                "SELECT id, coalesce(1::float8 / ({K} + near.place), 0) + coalesce(1::float8 / ({K} + said.place), 0) AS score \
                 FROM (SELECT id, {place} FROM ({near}) AS n) AS near \
                 FULL JOIN (SELECT id, {place} FROM ({matching}) AS m) AS said USING (id) \
                 ORDER BY score DESC, id::text COLLATE \"C\" LIMIT {top_k}"
            )
        }
        (None, None) => {
            return Err(NodeError::invalid(
                "the search has neither a vector nor a text",
            ));
        }
    };
    let metadata = match &table.metadata {
        Some(metadata) => format!("t.{}::text", metadata.column),
        None => "NULL::text".to_owned(),
    };
    statement.text = format!(
        "SELECT t.{id}::text, t.{text}::text, {metadata}, found.score::float8 \
         FROM ({found}) AS found JOIN {name} AS t ON t.{id} = found.id \
         ORDER BY found.score DESC, t.{id}::text COLLATE \"C\""
    );
    Ok(statement)
}

/// The nearest neighbours: their ids and cosines.
fn near(
    table: &Table,
    vector: &[f32],
    only: &str,
    limit: &str,
    statement: &mut Statement,
) -> Result<String, NodeError> {
    let Some(Vector {
        column,
        column_type,
        ..
    }) = &table.vector
    else {
        return Err(NodeError::invalid("the index holds no vectors"));
    };
    let Table { name, id, .. } = table;
    let wanted = statement.take(Value::Vector(vector.to_vec()));
    let distance = format!("{column} <=> {wanted}::real[]::{column_type}");
    Ok(format!(
        "SELECT {id} AS id, 1 - ({distance}) AS score FROM {name} \
         WHERE {column} IS NOT NULL{only} ORDER BY {distance} LIMIT {limit}"
    ))
}

/// Documents with any of the words of a text: their ids and ranks.
fn matching(
    table: &Table,
    text: &str,
    only: &str,
    limit: &str,
    statement: &mut Statement,
) -> String {
    let Table {
        name,
        id,
        words,
        language,
        ..
    } = table;
    let text = statement.take(Value::Text(text.to_owned()));
    // The words as PostgreSQL finds them in texts, quoted, any of which will do.
    let asked = format!(
        "(SELECT string_agg('''' || replace(replace(lexeme, E'\\\\', E'\\\\\\\\'), '''', '''''') || '''', ' | ')::tsquery \
         FROM (SELECT lexeme FROM unnest(to_tsvector({language}::regconfig, {text})) LIMIT {MOST_WORDS}) AS w)"
    );
    format!(
        "SELECT {id} AS id, ts_rank({words}, {asked}, 1) AS score FROM {name} \
         WHERE {words} @@ {asked}{only} ORDER BY score DESC, {id}::text COLLATE \"C\" LIMIT {limit}"
    )
}

/// The conditions of a filter, each with ` AND ` before it.
fn conditions(
    table: &Table,
    filter: &Filter,
    statement: &mut Statement,
) -> Result<String, NodeError> {
    if filter.is_empty() {
        return Ok(String::new());
    }
    let Some(metadata) = &table.metadata else {
        let reason = "the table has no column of metadata to filter by";
        return Err(NodeError::invalid(reason));
    };
    let metadata = match metadata.column_type.as_str() {
        "jsonb" => metadata.column.clone(),
        _ => format!("{}::jsonb", metadata.column),
    };
    let conditions = filter.conditions().iter();
    let conditions = conditions.map(|condition| {
        let condition = one(&metadata, condition, statement);
        format!(" AND {condition}")
    });
    Ok(conditions.collect())
}

fn one(metadata: &str, condition: &Condition, statement: &mut Statement) -> String {
    let field = &*condition.field;
    match &condition.test {
        Test::AnyOf(values) if values.len() > MANY => {
            let field = statement.take(Value::Text(field.to_owned()));
            let values = values.iter().map(|value| value.to_json().to_string());
            let values = statement.take(Value::Texts(values.collect()));
            format!("({metadata} -> {field}) @> ANY ({values}::jsonb[])")
        }
        Test::AnyOf(values) => {
            // What an index over jsonb serves: the value itself, or an element of a list.
            let forms = values.iter().flat_map(|value| {
                let value = value.to_json();
                let list = serde_json::Value::Array(vec![value.clone()]);
                [value, list].map(|value| serde_json::json!({ field: value }).to_string())
            });
            let forms = forms.map(|form| {
                let form = statement.take(Value::Text(form));
                format!("{metadata} @> {form}::jsonb")
            });
            let forms: Vec<_> = forms.collect();
            match forms.is_empty() {
                true => "FALSE".to_owned(),
                false => format!("({})", forms.join(" OR ")),
            }
        }
        Test::Within(low, high) => {
            let mut bounds = serde_json::Map::new();
            let mut tests = Vec::new();
            for (name, bound, closed, open) in [("low", low, ">=", ">"), ("high", high, "<=", "<")]
            {
                let (value, operator) = match bound {
                    Bound::Included(value) => (value, closed),
                    Bound::Excluded(value) => (value, open),
                    Bound::Unbounded => continue,
                };
                bounds.insert(name.to_owned(), value.to_json());
                tests.push(format!("@ {operator} ${name}"));
            }
            let tests = tests.join(" && ");
            let field = statement.take(Value::Text(field.to_owned()));
            let bounds = serde_json::Value::Object(bounds).to_string();
            let bounds = statement.take(Value::Text(bounds));
            format!("jsonb_path_exists({metadata} -> {field}, '$[*] ? ({tests})', {bounds}::jsonb)")
        }
    }
}

/// Puts a batch in, in place of what has the same ids.
///
/// # Errors
/// The table cannot hold a document.
pub(super) fn upsert(table: &Table, batch: &[Entry]) -> Result<Statement, NodeError> {
    let facts = table.facts();
    let mut statement = Statement::default();
    let records = || batch.iter().map(|entry| &entry.record);
    let texts = |values: Vec<String>| Value::Texts(values);
    let id_type = &table.id_type;
    let ids = texts(records().map(|record| record.id.to_string()).collect());
    let words = texts(records().map(|record| record.text.to_string()).collect());
    // Column, how its value is read, and the values.
    let mut columns = vec![
        (table.id.clone(), format!("::{id_type}"), "text[]", ids),
        (table.text.clone(), String::new(), "text[]", words),
    ];
    let metadata = batch.iter().map(|entry| entry.metadata(&facts));
    let metadata: Vec<_> = metadata.collect::<Result<_, _>>()?;
    match &table.metadata {
        Some(Metadata {
            column,
            column_type,
        }) => columns.push((
            column.clone(),
            format!("::{column_type}"),
            "text[]",
            texts(metadata),
        )),
        None => {
            if let Some(record) = records().find(|record| !record.metadata.is_empty()) {
                let reason = format!(
                    "document {:?} has metadata, and the table no column for it",
                    record.id
                );
                return Err(NodeError::invalid(reason));
            }
        }
    }
    if let Some(Vector {
        column,
        column_type,
        ..
    }) = &table.vector
    {
        let vectors = records().map(|record| record.vector.as_deref().map(written));
        let vectors = Value::Vectors(vectors.collect());
        columns.push((
            column.clone(),
            format!("::{column_type}"),
            "text[]",
            vectors,
        ));
    }
    if table.digest {
        // The bits count, not the sign.
        let digests = batch.iter().map(|entry| entry.digest.cast_signed());
        columns.push((
            quoted(DIGEST),
            String::new(),
            "bigint[]",
            Value::Numbers(digests.collect()),
        ));
    }
    let (mut names, mut values, mut arrays, mut aliases, mut updates) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, (column, cast, array, given)) in columns.into_iter().enumerate() {
        values.push(format!("v{place}{cast}"));
        aliases.push(format!("v{place}"));
        arrays.push(format!("{}::{array}", statement.take(given)));
        if place > 0 {
            updates.push(format!("{column} = EXCLUDED.{column}"));
        }
        names.push(column);
    }
    statement.text = format!(
        "INSERT INTO {} ({}) SELECT {} FROM unnest({}) AS given({}) ON CONFLICT ({}) DO UPDATE SET {}",
        table.name,
        names.join(", "),
        values.join(", "),
        arrays.join(", "),
        aliases.join(", "),
        table.id,
        updates.join(", "),
    );
    Ok(statement)
}

/// Which ids are there, and their digests.
pub(super) fn known(table: &Table, ids: Vec<String>) -> Statement {
    let mut statement = Statement::default();
    let Table {
        name, id, id_type, ..
    } = table;
    let ids = statement.take(Value::Texts(ids));
    let digest = quoted(DIGEST);
    statement.text =
        format!("SELECT {id}::text, {digest} FROM {name} WHERE {id} = ANY ({ids}::{id_type}[])");
    statement
}

/// Takes documents out.
pub(super) fn delete(table: &Table, ids: Vec<String>) -> Statement {
    let mut statement = Statement::default();
    let Table {
        name, id, id_type, ..
    } = table;
    let ids = statement.take(Value::Texts(ids));
    statement.text = format!("DELETE FROM {name} WHERE {id} = ANY ({ids}::{id_type}[])");
    statement
}

/// Makes a table with its indexes.
pub(super) fn create(spec: &PgvectorIndex, name: &str, dimensions: Option<usize>) -> String {
    let [id, text, metadata, vector, words] = [
        &spec.id,
        &spec.text,
        &spec.metadata,
        &spec.vector,
        &spec.words,
    ]
    .map(|name| quoted(name.expose()));
    let language = literal(spec.language.expose());
    let digest = quoted(DIGEST);
    let column = dimensions.map_or(String::new(), |size| format!("{vector} vector({size}), "));
    let near = match dimensions {
        Some(size) if size <= MOST_INDEXED => {
            format!("CREATE INDEX ON {name} USING hnsw ({vector} vector_cosine_ops); ")
        }
        _ => String::new(),
    };
    format!(
        "BEGIN; \
         CREATE EXTENSION IF NOT EXISTS vector; \
         CREATE TABLE {name} ({id} text PRIMARY KEY, {text} text NOT NULL, \
         {metadata} jsonb NOT NULL DEFAULT '{{}}', {column}{digest} bigint, \
         {words} tsvector GENERATED ALWAYS AS (to_tsvector({language}::regconfig, {text})) STORED); \
         {near}\
         CREATE INDEX ON {name} USING gin ({words}); \
         CREATE INDEX ON {name} USING gin ({metadata} jsonb_path_ops); \
         COMMIT"
    )
}

/// A vector as pgvector reads it.
fn written(vector: &[f32]) -> String {
    let numbers: Vec<_> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn table() -> Table {
        Table {
            name: "\"docs\"".into(),
            id: "\"id\"".into(),
            id_type: "text".into(),
            text: "\"text\"".into(),
            metadata: Some(Metadata {
                column: "\"metadata\"".into(),
                column_type: "jsonb".into(),
            }),
            vector: Some(Vector {
                column: "\"embedding\"".into(),
                column_type: "vector".into(),
                dimensions: 2,
            }),
            words: "\"words\"".into(),
            language: "E'english'".into(),
            digest: true,
        }
    }

    fn filter(json: &str) -> Filter {
        match crate::Value::from_json(json.as_bytes()).unwrap() {
            crate::Value::Map(map) => Filter::from_map(&map).unwrap(),
            other => panic!("{other:?} is a map"),
        }
    }

    #[test]
    fn what_a_request_brings_is_a_value_and_never_text() {
        let evil = "evil'; DROP TABLE docs; --";
        let filters = [
            format!(r#"{{"{evil}": "{evil}"}}"#),
            format!(r#"{{"{evil}": {{"gte": "{evil}"}}}}"#),
            format!(
                r#"{{"{evil}": [{}]}}"#,
                vec![format!("\"{evil}\""); 40].join(",")
            ),
        ];
        for json in filters {
            let wanted = Wanted {
                vector: Some(Arc::from([1.0, 0.0])),
                text: Some(evil.into()),
                top_k: 3,
                filter: Some(filter(&json)),
            };
            let statement = search(&table(), &wanted).unwrap();
            assert!(!statement.text.contains("evil"), "{}", statement.text);
            let highest = format!("${}", statement.values.len());
            assert!(statement.text.contains(&highest), "{}", statement.text);
        }
    }

    #[test]
    fn a_value_is_looked_for_in_the_forms_that_an_index_serves() {
        let mut statement = Statement::default();
        let conditions = conditions(&table(), &filter(r#"{"year": 2020}"#), &mut statement);
        assert_eq!(
            conditions.unwrap(),
            " AND (\"metadata\" @> $1::jsonb OR \"metadata\" @> $2::jsonb)"
        );
        let text = |text: &str| Value::Text(text.to_owned());
        let forms = [text(r#"{"year":2020}"#), text(r#"{"year":[2020]}"#)];
        assert_eq!(statement.values, forms);
    }

    #[test]
    fn names_of_the_file_are_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's\\"), "E'it''s\\\\'");
    }
}
