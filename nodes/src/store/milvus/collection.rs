//! What a collection has, as far as searching it and filling it needs to know; and what one is made of.

use super::{
    Facts,
    proto::{self, CollectionSchema, FieldSchema, FunctionSchema, KeyValuePair, data_type},
};
use crate::NodeError;
use schema::MilvusIndex;

/// The field of the digest in collections that are made here.
pub(super) const DIGEST: &str = "digest";
/// The sparse field of the words in collections that are made here.
const WORDS: &str = "words";
/// Longest id and text, in bytes; the latter is the most that Milvus takes.
const LONGEST: (usize, usize) = (512, 65_535);

/// A collection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Collection {
    pub(super) id: String,
    /// Whether ids are texts; else they are whole numbers.
    pub(super) textual: bool,
    pub(super) text: String,
    pub(super) metadata: Option<String>,
    pub(super) vector: String,
    pub(super) dimensions: usize,
    /// The sparse field that BM25 fills.
    pub(super) words: Option<String>,
    /// Other scalar fields.
    pub(super) others: Vec<String>,
    pub(super) digest: bool,
}

impl Collection {
    /// Reads the server's description.
    ///
    /// # Errors
    /// The collection lacks what a search needs.
    pub(super) fn read(spec: &MilvusIndex, schema: &CollectionSchema) -> Result<Self, NodeError> {
        let collection = &spec.collection.value;
        let lacks = |what: String| {
            let names: Vec<_> = schema.fields.iter().map(|field| &*field.name).collect();
            let names = names.join(", ");
            NodeError::failed(format!("collection `{collection}` {what}; it has {names}"))
        };
        let typed = |name: &str, kind: i32| {
            let found = schema.fields.iter().find(|field| field.name == name);
            found.filter(|field| field.data_type == kind)
        };
        let id = schema.fields.iter().find(|field| field.is_primary_key);
        let id = id.ok_or_else(|| lacks("has no primary key".to_owned()))?;
        let (text, vector) = (spec.text.expose(), spec.vector.expose());
        typed(text, data_type::VARCHAR)
            .ok_or_else(|| lacks(format!("has no text field `{text}`")))?;
        let dense = typed(vector, data_type::FLOAT_VECTOR)
            .ok_or_else(|| lacks(format!("has no field `{vector}` of float vectors")))?;
        let metadata = typed(spec.metadata.expose(), data_type::JSON);
        let metadata = metadata.map(|field| field.name.clone());
        let bm25 = schema.functions.iter().find(|function| {
            function.kind == proto::BM25
                && function.input_field_names.iter().any(|name| name == text)
        });
        let is_digest =
            |field: &&FieldSchema| field.name == DIGEST && field.data_type == data_type::INT64;
        let others = schema.fields.iter().filter(|field| {
            let scalar = matches!(
                field.data_type,
                data_type::BOOL
                    ..=data_type::INT64 | data_type::FLOAT | data_type::DOUBLE | data_type::VARCHAR
            );
            scalar && !field.is_primary_key && field.name != text && !is_digest(field)
        });
        Ok(Self {
            id: id.name.clone(),
            textual: id.data_type == data_type::VARCHAR,
            text: text.to_owned(),
            metadata,
            vector: vector.to_owned(),
            dimensions: size(dense)
                .ok_or_else(|| lacks(format!("does not say the size of `{vector}`")))?,
            words: bm25.and_then(|function| function.output_field_names.first().cloned()),
            others: others.map(|field| field.name.clone()).collect(),
            digest: schema.fields.iter().any(|field| is_digest(&field)),
        })
    }

    /// What it can do, on a server of this version.
    pub(super) fn facts(&self, version: &str) -> Facts {
        let why = match has_bm25(version) {
            true => "its collection has no BM25 function over the text".to_owned(),
            false => format!("Milvus {version} has no BM25, which is there from 2.5 on"),
        };
        Facts {
            dimensions: Some(self.dimensions),
            words: self.words.as_ref().map(|_| ()).ok_or(why),
        }
    }

    /// The fields of a document beside its id.
    pub(super) fn output(&self) -> Vec<String> {
        let names = [&self.text].into_iter().chain(&self.metadata);
        names.chain(&self.others).cloned().collect()
    }
}

/// Whether a server of this version, as it says it itself, makes sparse vectors of texts.
pub(super) fn has_bm25(version: &str) -> bool {
    if is_lite(version) {
        return true;
    }
    let mut parts = version.trim_start_matches('v').split(['.', '-']);
    let mut part = || parts.next()?.parse::<u32>().ok();
    let (major, minor) = (part(), part());
    (major, minor) >= (Some(2), Some(5))
}

/// Whether a version is that of milvus-lite, which counts by itself.
fn is_lite(version: &str) -> bool {
    version.starts_with("milvus_lite")
}

/// The schema of a new collection on a server of this version.
pub(super) fn schema(spec: &MilvusIndex, dimensions: usize, version: &str) -> CollectionSchema {
    let bm25 = has_bm25(version);
    let (text, vector) = (spec.text.expose(), spec.vector.expose());
    let length = |most: usize| pair("max_length", most.to_string());
    let mut of_text = vec![length(LONGEST.1)];
    if bm25 {
        of_text.push(pair("enable_analyzer", "true"));
        of_text.push(pair("analyzer_params", analyzer(version)));
    }
    let mut fields = vec![
        FieldSchema {
            is_primary_key: true,
            ..field("id", data_type::VARCHAR, vec![length(LONGEST.0)])
        },
        field(text, data_type::VARCHAR, of_text),
        field(spec.metadata.expose(), data_type::JSON, Vec::new()),
        field(DIGEST, data_type::INT64, Vec::new()),
        field(
            vector,
            data_type::FLOAT_VECTOR,
            vec![pair("dim", dimensions.to_string())],
        ),
    ];
    let mut functions = Vec::new();
    if bm25 {
        fields.push(FieldSchema {
            is_function_output: true,
            ..field(WORDS, data_type::SPARSE_VECTOR, Vec::new())
        });
        functions.push(FunctionSchema {
            name: "bm25".to_owned(),
            kind: proto::BM25,
            input_field_names: vec![text.to_owned()],
            output_field_names: vec![WORDS.to_owned()],
        });
    }
    CollectionSchema {
        name: spec.collection.expose().to_owned(),
        fields,
        functions,
    }
}

/// How texts are cut into words: to English stems, where the server has them.
fn analyzer(version: &str) -> &'static str {
    match is_lite(version) {
        true => r#"{"tokenizer": "standard"}"#,
        false => r#"{"type": "english"}"#,
    }
}

/// The indexes of a new collection: the field, and what Milvus is told of it.
pub(super) fn indexes(spec: &MilvusIndex, bm25: bool) -> Vec<(String, Vec<KeyValuePair>)> {
    let dense = vec![
        pair("index_type", "HNSW"),
        pair("metric_type", "COSINE"),
        pair("params", r#"{"M": 16, "efConstruction": 200}"#),
    ];
    let sparse = vec![
        pair("index_type", "SPARSE_INVERTED_INDEX"),
        pair("metric_type", "BM25"),
        pair("params", "{}"),
    ];
    let mut indexes = vec![(spec.vector.expose().to_owned(), dense)];
    if bm25 {
        indexes.push((WORDS.to_owned(), sparse));
    }
    indexes
}

pub(super) fn pair(key: &str, value: impl Into<String>) -> KeyValuePair {
    KeyValuePair {
        key: key.to_owned(),
        value: value.into(),
    }
}

fn field(name: &str, kind: i32, type_params: Vec<KeyValuePair>) -> FieldSchema {
    FieldSchema {
        name: name.to_owned(),
        data_type: kind,
        type_params,
        ..FieldSchema::default()
    }
}

fn size(field: &FieldSchema) -> Option<usize> {
    let dim = field.type_params.iter().find(|pair| pair.key == "dim")?;
    dim.value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_say_whether_there_is_bm25() {
        for (version, expected) in [
            ("v2.3.5-lite", false),
            ("v2.4.23", false),
            ("2.5.0", true),
            ("v2.6.1-rc", true),
            ("v3.0.0", true),
            ("milvus_lite-3.2.2", true),
            ("", false),
        ] {
            assert_eq!(has_bm25(version), expected, "{version}");
        }
    }
}
