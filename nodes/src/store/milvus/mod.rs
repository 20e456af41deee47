//! A collection of Milvus over its gRPC interface: neighbours, and where the server makes sparse vectors of
//! texts (Milvus 2.5 and later, milvus-lite), words by BM25 and both joined by the server.
//!
//! The collection may be one that people have already: the primary key is the id, and the names of the
//! other fields are options. Milvus embeds nothing here.

mod collection;
mod expression;
mod proto;
mod rows;
mod rpc;

use super::{Entry, Facts, Plan, Store, Wanted, needs_vectors};
use crate::{
    Document, NodeError,
    index::fusion::{K, depth},
};
use collection::{Collection, DIGEST, pair};
use expression::quoted;
use futures::future::BoxFuture;
use prost::Message as _;
use proto::{
    BOOL_EXPR, BOUNDED, BoolResponse, CreateCollectionRequest, CreateIndexRequest, DeleteRequest,
    DescribeCollectionResponse, DescribeIndexRequest, DescribeIndexResponse, GetLoadStateRequest,
    GetLoadStateResponse, GetVersionRequest, GetVersionResponse, HybridSearchRequest, LOADED,
    LoadCollectionRequest, MutationResult, OfCollection, PlaceholderGroup, PlaceholderValue,
    QueryRequest, QueryResults, STRONG, SearchRequest, SearchResults, Status, UpsertRequest,
    data_type,
};
use rpc::Rpc;
use schema::MilvusIndex;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// How often it is asked whether a collection is loaded.
const LOADING: Duration = Duration::from_millis(50);
/// Candidates that an HNSW index looks at, at least.
const LEAST_CANDIDATES: usize = 64;

/// A collection that is loaded.
pub struct Milvus {
    rpc: Rpc,
    /// The name of the collection.
    name: String,
    collection: Collection,
    facts: Facts,
    index: VectorIndex,
}

/// What the index over the vectors is.
#[derive(Debug, Clone, PartialEq)]
struct VectorIndex {
    kind: String,
    metric: String,
}

impl Milvus {
    /// Connects, looks at the collection and has it loaded; none if there is no such collection.
    ///
    /// # Errors
    /// The server is out of reach, or the collection lacks what a search needs.
    pub async fn open(spec: &MilvusIndex) -> Result<Option<Self>, NodeError> {
        let rpc = Rpc::connect(&spec.url.value, spec.token.as_ref()).await?;
        let name = spec.collection.expose().to_owned();
        let there: BoolResponse = rpc.call("HasCollection", of(&rpc, &name)).await?;
        if !there.value {
            return Ok(None);
        }
        let described: DescribeCollectionResponse =
            rpc.call("DescribeCollection", of(&rpc, &name)).await?;
        let collection = Collection::read(spec, &described.schema.unwrap_or_default())?;
        let facts = collection.facts(&version(&rpc).await?);
        let index = vector_index(&rpc, &name, &collection.vector).await?;
        load(&rpc, &name).await?;
        Ok(Some(Self {
            rpc,
            name,
            collection,
            facts,
            index,
        }))
    }

    /// Makes the collection with its indexes, and has it loaded.
    ///
    /// # Errors
    /// The server is out of reach, or refuses.
    pub async fn create(spec: &MilvusIndex, plan: Plan) -> Result<(), NodeError> {
        let dimensions = needs_vectors(plan)?;
        let rpc = Rpc::connect(&spec.url.value, spec.token.as_ref()).await?;
        let version = version(&rpc).await?;
        let name = spec.collection.expose().to_owned();
        let create = CreateCollectionRequest {
            db_name: rpc.database.clone(),
            collection_name: name.clone(),
            schema: collection::schema(spec, dimensions, &version).encode_to_vec(),
            shards_num: 1,
            consistency_level: BOUNDED,
        };
        let _: Status = rpc.call("CreateCollection", create).await?;
        for (field, params) in collection::indexes(spec, collection::has_bm25(&version)) {
            let create = CreateIndexRequest {
                db_name: rpc.database.clone(),
                collection_name: name.clone(),
                index_name: field.clone(),
                field_name: field,
                extra_params: params,
            };
            let _: Status = rpc.call("CreateIndex", create).await?;
        }
        load(&rpc, &name).await
    }

    /// A search of one field for one value; `kind` is its type.
    fn search_of(
        &self,
        field: &str,
        (kind, value): (i32, Vec<u8>),
        (metric, params): (&str, String),
        limit: usize,
        expression: &str,
    ) -> SearchRequest {
        let group = PlaceholderGroup {
            placeholders: vec![PlaceholderValue {
                tag: "$0".to_owned(),
                kind,
                values: vec![value],
            }],
        };
        SearchRequest {
            db_name: self.rpc.database.clone(),
            collection_name: self.name.clone(),
            dsl: expression.to_owned(),
            placeholder_group: group.encode_to_vec(),
            dsl_type: BOOL_EXPR,
            output_fields: self.collection.output(),
            search_params: vec![
                pair("anns_field", field),
                pair("topk", limit.to_string()),
                pair("params", params),
                pair("metric_type", metric),
                pair("round_decimal", "-1"),
            ],
            nq: 1,
            use_default_consistency: true,
        }
    }

    fn near(&self, vector: &[f32], limit: usize, expression: &str) -> SearchRequest {
        let bytes = vector.iter().flat_map(|number| number.to_le_bytes());
        let params = match self.index.kind.as_str() {
            "HNSW" => format!("{{\"ef\": {}}}", limit.max(LEAST_CANDIDATES)),
            // What the server thinks best.
            _ => "{}".to_owned(),
        };
        let value = (data_type::FLOAT_VECTOR, bytes.collect());
        let how = (self.index.metric.as_str(), params);
        self.search_of(&self.collection.vector, value, how, limit, expression)
    }

    fn matching(&self, text: &str, limit: usize, expression: &str) -> Option<SearchRequest> {
        // Milvus refuses to look for a text without words.
        let field = self.collection.words.as_ref()?;
        text.contains(char::is_alphanumeric).then(|| {
            let value = (data_type::VARCHAR, text.as_bytes().to_vec());
            let how = ("BM25", "{}".to_owned());
            self.search_of(field, value, how, limit, expression)
        })
    }

    async fn look_up(&self, wanted: &Wanted) -> Result<Vec<Document>, NodeError> {
        let mut found = self.find_any(wanted).await?;
        // Equal scores come in the order of ids, as everywhere.
        found.sort_by(|one, other| {
            let scores = other.score.total_cmp(&one.score);
            scores.then_with(|| one.id.cmp(&other.id))
        });
        Ok(found)
    }

    async fn find_any(&self, wanted: &Wanted) -> Result<Vec<Document>, NodeError> {
        let expression = match &wanted.filter {
            Some(filter) => {
                let metadata = self.collection.metadata.as_deref();
                expression::expression(filter, &self.collection.others, metadata)?
            }
            None => String::new(),
        };
        let top_k = wanted.top_k;
        match (&wanted.vector, &wanted.text) {
            (None, None) => Err(NodeError::invalid(
                "the search has neither a vector nor a text",
            )),
            (Some(vector), None) => {
                let search = self.near(vector, top_k, &expression);
                let mut found = self.answer("Search", search).await?;
                if self.index.metric == "L2" {
                    found.iter_mut().for_each(|document| document.score *= -1.0);
                }
                Ok(found)
            }
            (None, Some(text)) => {
                let Some(search) = self.matching(text, top_k, &expression) else {
                    return Ok(Vec::new());
                };
                let mut found = self.answer("Search", search).await?;
                // milvus-lite gives them as distances, below zero.
                found
                    .iter_mut()
                    .for_each(|document| document.score = document.score.abs());
                Ok(found)
            }
            (Some(vector), Some(text)) => {
                let depth = depth(top_k);
                let near = self.near(vector, depth, &expression);
                let matching = self.matching(text, depth, &expression);
                let searches: Vec<_> = [Some(near), matching].into_iter().flatten().collect();
                self.answer("HybridSearch", self.joined(searches, top_k))
                    .await
            }
        }
    }

    /// Several searches whose rankings the server joins by reciprocal rank fusion.
    fn joined(&self, requests: Vec<SearchRequest>, limit: usize) -> HybridSearchRequest {
        HybridSearchRequest {
            db_name: self.rpc.database.clone(),
            collection_name: self.name.clone(),
            requests,
            rank_params: vec![
                pair("strategy", "rrf"),
                pair("params", format!("{{\"k\": {K}}}")),
                pair("limit", limit.to_string()),
                pair("round_decimal", "-1"),
            ],
            output_fields: self.collection.output(),
            use_default_consistency: true,
        }
    }

    async fn answer<Q: prost::Message + 'static>(
        &self,
        method: &'static str,
        question: Q,
    ) -> Result<Vec<Document>, NodeError> {
        let answer: SearchResults = self.rpc.call(method, question).await?;
        rows::documents(&self.collection, answer.results.unwrap_or_default())
    }

    async fn query(&self, expr: String, output: &[&str]) -> Result<QueryResults, NodeError> {
        let query = QueryRequest {
            db_name: self.rpc.database.clone(),
            collection_name: self.name.clone(),
            expr,
            output_fields: output.iter().map(|name| (*name).to_owned()).collect(),
            consistency_level: STRONG,
        };
        self.rpc.call("Query", query).await
    }

    /// The expression for documents with these ids.
    fn among<'i>(&self, ids: impl Iterator<Item = &'i str>) -> Result<String, NodeError> {
        let ids = ids.map(|id| match self.collection.textual {
            true => Ok(quoted(id)),
            false => rows::number(id).map(|number| number.to_string()),
        });
        let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
        Ok(format!("{} in [{}]", self.collection.id, ids.join(", ")))
    }
}

impl Store for Milvus {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn find(&self, wanted: Wanted) -> BoxFuture<'_, Result<Vec<Document>, NodeError>> {
        Box::pin(async move { self.look_up(&wanted).await })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, NodeError>> {
        Box::pin(async move {
            let answer = self.query(String::new(), &["count(*)"]).await?;
            let count = rows::numbers_of(&answer.fields_data, "count(*)").first();
            Ok(count.copied().unwrap_or_default().unsigned_abs())
        })
    }

    fn known(
        &self,
        documents: Vec<(Arc<str>, u64)>,
    ) -> BoxFuture<'_, Result<Vec<bool>, NodeError>> {
        Box::pin(async move {
            if !self.collection.digest {
                return Ok(vec![false; documents.len()]);
            }
            let expr = self.among(documents.iter().map(|(id, _)| &**id))?;
            let id = self.collection.id.as_str();
            let answer = self.query(expr, &[id, DIGEST]).await?;
            let ids = rows::ids_of(&answer.fields_data, id).into_iter();
            let digests = rows::numbers_of(&answer.fields_data, DIGEST);
            let held: HashMap<_, _> = ids.zip(digests.iter().copied()).collect();
            let is_same =
                |(id, digest): &(Arc<str>, u64)| held.get(&**id) == Some(&digest.cast_signed());
            Ok(documents.iter().map(is_same).collect())
        })
    }

    fn upsert(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(async move {
            let upsert = UpsertRequest {
                db_name: self.rpc.database.clone(),
                collection_name: self.name.clone(),
                fields_data: rows::columns(&self.collection, &self.facts, &batch)?,
                num_rows: u32::try_from(batch.len()).unwrap_or(u32::MAX),
            };
            let _: MutationResult = self.rpc.call("Upsert", upsert).await?;
            Ok(())
        })
    }

    fn delete(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), NodeError>> {
        Box::pin(async move {
            let delete = DeleteRequest {
                db_name: self.rpc.database.clone(),
                collection_name: self.name.clone(),
                expr: self.among(ids.iter().map(String::as_str))?,
            };
            let _: MutationResult = self.rpc.call("Delete", delete).await?;
            Ok(())
        })
    }

    fn ids(&self) -> BoxFuture<'_, Result<Vec<String>, NodeError>> {
        Box::pin(async move {
            let id = self.collection.id.as_str();
            let any = match self.collection.textual {
                true => format!("{id} != \"\""),
                false => format!("{id} > {}", -i64::MAX),
            };
            let answer = self.query(any, &[id]).await?;
            Ok(rows::ids_of(&answer.fields_data, id))
        })
    }
}

fn of(rpc: &Rpc, name: &str) -> OfCollection {
    OfCollection {
        db_name: rpc.database.clone(),
        collection_name: name.to_owned(),
    }
}

async fn version(rpc: &Rpc) -> Result<String, NodeError> {
    let answer: GetVersionResponse = rpc.call("GetVersion", GetVersionRequest {}).await?;
    Ok(answer.version)
}

async fn vector_index(rpc: &Rpc, name: &str, field: &str) -> Result<VectorIndex, NodeError> {
    let describe = DescribeIndexRequest {
        db_name: rpc.database.clone(),
        collection_name: name.to_owned(),
        field_name: field.to_owned(),
    };
    let answer: DescribeIndexResponse = rpc.call("DescribeIndex", describe).await?;
    let mut indexes = answer.index_descriptions.into_iter();
    let index = indexes.find(|index| index.field_name == field);
    let params = index.map(|index| index.params).unwrap_or_default();
    let param = |key: &str| {
        let found = params.iter().find(|pair| pair.key == key);
        found
            .map(|pair| pair.value.to_uppercase())
            .unwrap_or_default()
    };
    Ok(VectorIndex {
        kind: param("index_type"),
        metric: param("metric_type"),
    })
}

/// Has the collection loaded and waits until it is.
async fn load(rpc: &Rpc, name: &str) -> Result<(), NodeError> {
    let mut asked = false;
    loop {
        let state = GetLoadStateRequest {
            db_name: rpc.database.clone(),
            collection_name: name.to_owned(),
        };
        let state: GetLoadStateResponse = rpc.call("GetLoadState", state).await?;
        if state.state == LOADED {
            return Ok(());
        }
        if !asked {
            let load = LoadCollectionRequest {
                db_name: rpc.database.clone(),
                collection_name: name.to_owned(),
                replica_number: 1,
            };
            let _: Status = rpc.call("LoadCollection", load).await?;
            asked = true;
        }
        tokio::time::sleep(LOADING).await;
    }
}
