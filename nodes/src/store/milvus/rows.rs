//! Documents as the columns that Milvus takes and gives.

use super::{
    collection::{Collection, DIGEST},
    proto::{
        Field, FieldData, Floats, IdField, Json, Longs, ScalarField, Scalars, SearchResultData,
        Strings, VectorField, data_type,
    },
};
use crate::{
    Document, Map, NodeError, Value,
    index::json,
    store::{Entry, Facts},
};
use std::sync::Arc;

/// The columns of a batch.
///
/// # Errors
/// The collection cannot hold a document.
pub(super) fn columns(
    collection: &Collection,
    facts: &Facts,
    batch: &[Entry],
) -> Result<Vec<FieldData>, NodeError> {
    if let Some(other) = collection.others.first() {
        let reason = format!("the collection has a field {other:?} that documents do not have");
        return Err(NodeError::invalid(reason));
    }
    let records = || batch.iter().map(|entry| &entry.record);
    let ids = match collection.textual {
        true => Scalars::Strings(Strings {
            data: records().map(|record| record.id.to_string()).collect(),
        }),
        false => {
            let numbers = records().map(|record| number(&record.id));
            Scalars::Longs(Longs {
                data: numbers.collect::<Result<_, _>>()?,
            })
        }
    };
    let kind = match collection.textual {
        true => data_type::VARCHAR,
        false => data_type::INT64,
    };
    let texts = records().map(|record| record.text.to_string()).collect();
    let mut columns = vec![
        scalar(&collection.id, kind, ids),
        scalar(
            &collection.text,
            data_type::VARCHAR,
            Scalars::Strings(Strings { data: texts }),
        ),
    ];
    let metadata = batch.iter().map(|entry| entry.metadata(facts));
    let metadata: Vec<_> = metadata.collect::<Result<_, _>>()?;
    match &collection.metadata {
        Some(name) => {
            let data = metadata.into_iter().map(String::into_bytes).collect();
            columns.push(scalar(name, data_type::JSON, Scalars::Json(Json { data })));
        }
        None => {
            if let Some(record) = records().find(|record| !record.metadata.is_empty()) {
                let id = &record.id;
                let reason =
                    format!("document {id:?} has metadata, and the collection no field for it");
                return Err(NodeError::invalid(reason));
            }
        }
    }
    if collection.digest {
        // The bits count, not the sign.
        let data = batch
            .iter()
            .map(|entry| entry.digest.cast_signed())
            .collect();
        columns.push(scalar(
            DIGEST,
            data_type::INT64,
            Scalars::Longs(Longs { data }),
        ));
    }
    let mut vectors = Vec::with_capacity(batch.len() * collection.dimensions);
    for entry in batch {
        vectors.extend_from_slice(entry.vector()?);
    }
    columns.push(FieldData {
        kind: data_type::FLOAT_VECTOR,
        field_name: collection.vector.clone(),
        field: Some(Field::Vectors(VectorField {
            dim: collection.dimensions as i64,
            float_vector: Some(Floats { data: vectors }),
        })),
    });
    Ok(columns)
}

/// An id of a collection whose ids are whole numbers.
pub(super) fn number(id: &str) -> Result<i64, NodeError> {
    let number = id.parse();
    number.map_err(|_| NodeError::invalid(format!("the ids here are whole numbers, not {id:?}")))
}

/// The documents of an answer with their scores as the server gives them.
///
/// # Errors
/// Its columns do not fit together.
pub(super) fn documents(
    collection: &Collection,
    answer: SearchResultData,
) -> Result<Vec<Document>, NodeError> {
    let senseless = || NodeError::failed("Milvus answered with columns that do not fit together");
    let ids: Vec<Arc<str>> = match answer.ids.and_then(|ids| ids.ids) {
        Some(IdField::Texts(texts)) => texts.data.into_iter().map(Into::into).collect(),
        Some(IdField::Numbers(numbers)) => {
            let numbers = numbers.data.iter();
            numbers.map(|number| number.to_string().into()).collect()
        }
        None => Vec::new(),
    };
    if ids.len() != answer.scores.len() {
        return Err(senseless());
    }
    let column = |name: &str| {
        let found = answer
            .fields_data
            .iter()
            .find(|data| data.field_name == name);
        found.and_then(scalars)
    };
    let texts = column(&collection.text);
    let metadata = collection.metadata.as_deref().and_then(column);
    let others = collection.others.iter();
    let others: Vec<_> = others.map(|name| (name, column(name))).collect();
    let rows = ids.into_iter().zip(&answer.scores).enumerate();
    let documents = rows.map(|(row, (id, score))| {
        let text = match texts.and_then(|texts| value(texts, row)) {
            Some(Value::Text(text)) => text,
            _ => return Err(senseless()),
        };
        let mut fields = match metadata {
            Some(Scalars::Json(json)) => read_json(json, row).unwrap_or_default(),
            _ => Map::new(),
        };
        for (name, values) in &others {
            if let Some(value) = values.and_then(|values| value(values, row)) {
                fields.insert(name.as_str().into(), value);
            }
        }
        Ok(Document {
            id,
            text,
            score: f64::from(*score),
            metadata: Arc::new(fields),
        })
    });
    documents.collect()
}

/// A column of texts, and one of whole numbers, of an answer to a query.
pub(super) fn ids_of(columns: &[FieldData], name: &str) -> Vec<String> {
    let column = columns.iter().find(|data| data.field_name == name);
    match column.and_then(scalars) {
        Some(Scalars::Strings(texts)) => texts.data.clone(),
        Some(Scalars::Longs(numbers)) => numbers.data.iter().map(i64::to_string).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn numbers_of<'a>(columns: &'a [FieldData], name: &str) -> &'a [i64] {
    let column = columns.iter().find(|data| data.field_name == name);
    match column.and_then(scalars) {
        Some(Scalars::Longs(numbers)) => &numbers.data,
        _ => &[],
    }
}

fn scalar(name: &str, kind: i32, data: Scalars) -> FieldData {
    FieldData {
        kind,
        field_name: name.to_owned(),
        field: Some(Field::Scalars(ScalarField { data: Some(data) })),
    }
}

fn scalars(data: &FieldData) -> Option<&Scalars> {
    match data.field.as_ref()? {
        Field::Scalars(scalars) => scalars.data.as_ref(),
        Field::Vectors(_) => None,
    }
}

fn value(values: &Scalars, row: usize) -> Option<Value> {
    match values {
        Scalars::Bools(values) => values.data.get(row).map(|value| Value::Boolean(*value)),
        Scalars::Ints(values) => {
            let value = values.data.get(row);
            value.map(|value| Value::Integer(i64::from(*value)))
        }
        Scalars::Longs(values) => values.data.get(row).map(|value| Value::Integer(*value)),
        Scalars::Floats(values) => {
            let value = values.data.get(row);
            value.map(|value| Value::Number(f64::from(*value)))
        }
        Scalars::Doubles(values) => values.data.get(row).map(|value| Value::Number(*value)),
        Scalars::Strings(values) => values
            .data
            .get(row)
            .map(|value| Value::text(value.as_str())),
        Scalars::Json(values) => read_json(values, row).map(|map| Value::Map(Arc::new(map))),
    }
}

fn read_json(values: &Json, row: usize) -> Option<Map> {
    let text = std::str::from_utf8(values.data.get(row)?).ok()?;
    json::read_map(text)
}
