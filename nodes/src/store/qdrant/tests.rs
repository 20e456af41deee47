//! What is asked of Qdrant, to the letter, and what is made of its answers. The exchanges follow its REST
//! documentation and were compared with no server: none can be run here.

use super::*;
use crate::{Filter, index::Record};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use schema::{Spanned, Text};
use std::collections::VecDeque;

/// A request that is expected, and the answer to it.
struct Exchange {
    asked: (&'static str, &'static str, Json),
    status: u16,
    answer: Json,
}

fn expect(method: &'static str, path: &'static str, body: Json, result: Json) -> Exchange {
    Exchange {
        asked: (method, path, body),
        status: 200,
        answer: json!({ "result": result, "status": "ok", "time": 0.001 }),
    }
}

#[derive(Clone)]
struct Script(Arc<Mutex<VecDeque<Exchange>>>);

impl Script {
    fn is_done(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

/// A server that knows these exchanges, in their order, and its address.
async fn server(exchanges: impl IntoIterator<Item = Exchange>) -> (QdrantIndex, Script) {
    let script = Script(Arc::new(Mutex::new(exchanges.into_iter().collect())));
    let router = Router::new().fallback(answer).with_state(script.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (spec(&url), script)
}

async fn answer(
    State(script): State<Script>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(next) = script.0.lock().unwrap().pop_front() else {
        return (
            StatusCode::NOT_FOUND,
            format!("nothing expects {method} {uri}"),
        )
            .into_response();
    };
    let body = match body.is_empty() {
        true => Json::Null,
        false => serde_json::from_slice(&body).unwrap(),
    };
    let path = uri.path_and_query().unwrap().as_str();
    let asked = (method.as_str(), path, body);
    let key = headers.get("api-key").and_then(|key| key.to_str().ok());
    if asked != next.asked || key != Some("secret") {
        let (expected, given) = (format!("{:?}", next.asked), format!("{asked:?} {key:?}"));
        let wrong = format!("expected {expected}, got {given}");
        return (StatusCode::IM_A_TEAPOT, wrong).into_response();
    }
    let status = StatusCode::from_u16(next.status).unwrap();
    (status, axum::Json(next.answer)).into_response()
}

fn spec(url: &str) -> QdrantIndex {
    let spanned = |text: &str| Spanned::new(Text::plain(text), schema::Span::default());
    QdrantIndex {
        url: spanned(url),
        collection: spanned("my notes"),
        api_key: Some(Text::secret("secret")),
        id: Text::plain("id"),
        text: Text::plain("text"),
        metadata: Text::plain("metadata"),
        vector: Text::plain("vector"),
        words: Text::plain("words"),
    }
}

const PATH: &str = "/collections/my%20notes";

/// The exchanges of opening a collection that was made here.
fn opening() -> [Exchange; 2] {
    let params = json!({
        "vectors": { "vector": { "size": 3, "distance": "Cosine" } },
        "sparse_vectors": { "words": { "modifier": "idf" } },
        "shard_number": 1,
    });
    let described = json!({
        "status": "green",
        "points_count": 2,
        "config": { "params": params, "hnsw_config": { "m": 16 } },
        "payload_schema": {},
    });
    [
        expect(
            "GET",
            "/collections/my%20notes/exists",
            Json::Null,
            json!({ "exists": true }),
        ),
        expect("GET", PATH, Json::Null, described),
    ]
}

async fn opened(rest: Vec<Exchange>) -> (Qdrant, Script) {
    let (spec, script) = server(opening().into_iter().chain(rest)).await;
    (Qdrant::open(&spec).await.unwrap().unwrap(), script)
}

fn found(id: &str, score: f64) -> Json {
    let payload = json!({
        "id": id,
        "text": format!("text of {id}"),
        "metadata": { "year": 2020, "tags": ["a"] },
        "digest": -5,
    });
    json!({ "id": point_id(id), "version": 3, "score": score, "payload": payload })
}

fn wanted(vector: Option<[f32; 3]>, text: Option<&str>, filter: Option<Filter>) -> Wanted {
    Wanted {
        vector: vector.map(|vector| vector.into()),
        text: text.map(Into::into),
        top_k: 2,
        filter,
    }
}

#[tokio::test]
async fn a_collection_is_made_if_there_is_none() {
    let (spec, script) = server([
        expect(
            "GET",
            "/collections/my%20notes/exists",
            Json::Null,
            json!({ "exists": false }),
        ),
        expect(
            "PUT",
            PATH,
            json!({
                "vectors": { "vector": { "size": 3, "distance": "Cosine" } },
                "sparse_vectors": { "words": { "modifier": "idf" } },
            }),
            json!(true),
        ),
    ])
    .await;
    assert!(Qdrant::open(&spec).await.unwrap().is_none());
    let plan = Plan {
        dimensions: Some(3),
    };
    Qdrant::create(&spec, plan).await.unwrap();
    assert!(script.is_done());
    let none = Qdrant::create(&spec, Plan::default()).await.unwrap_err();
    assert!(none.to_string().contains("`dimensions`"), "{none}");
}

#[tokio::test]
async fn neighbours_are_asked_for_with_a_filter() {
    let body = json!({
        "query": [1.0, 0.0, 0.5],
        "using": "vector",
        "limit": 2,
        "with_payload": true,
        "filter": { "must": [{ "key": "metadata.year", "range": { "gte": 2019 } }] },
    });
    let points = json!({ "points": [found("b", 0.5), found("a", 0.5)] });
    let asked = expect("POST", "/collections/my%20notes/points/query", body, points);
    let (store, script) = opened(vec![asked]).await;
    assert_eq!(store.facts().dimensions, Some(3));
    let filter = crate::Value::from_json(br#"{"year": {"gte": 2019}}"#).unwrap();
    let crate::Value::Map(filter) = filter else {
        panic!("a map")
    };
    let filter = Filter::from_map(&filter).unwrap();
    let found = store
        .search(wanted(Some([1.0, 0.0, 0.5]), None, Some(filter)))
        .await
        .unwrap();
    assert!(script.is_done());
    // Equal scores in the order of ids.
    let ids: Vec<_> = found.iter().map(|document| &*document.id).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(&*found[0].text, "text of a");
    assert_eq!(found[0].score, 0.5);
    assert_eq!(found[0].metadata.len(), 2);
}

#[tokio::test]
async fn words_and_neighbours_go_in_one_request_and_are_joined_here() {
    let words = Sparse::of_query("kettles").unwrap();
    let body = json!({ "searches": [
        { "query": [1.0, 0.0, 0.0], "using": "vector", "limit": 100, "with_payload": true },
        {
            "query": { "indices": words.indices, "values": [1.0] },
            "using": "words",
            "limit": 100,
            "with_payload": true,
        },
    ] });
    let sides = json!([
        { "points": [found("a", 0.9), found("b", 0.8)] },
        { "points": [found("b", 3.0), found("c", 1.0)] },
    ]);
    let path = "/collections/my%20notes/points/query/batch";
    let (store, script) = opened(vec![expect("POST", path, body, sides)]).await;
    let both = wanted(Some([1.0, 0.0, 0.0]), Some("kettles"), None);
    let found = store.search(both).await.unwrap();
    assert!(script.is_done());
    let scores: Vec<_> = found.iter().map(|one| (&*one.id, one.score)).collect();
    assert_eq!(scores, [("b", 1.0 / 62.0 + 1.0 / 61.0), ("a", 1.0 / 61.0)]);
}

#[tokio::test]
async fn documents_are_put_in_told_apart_and_taken_out() {
    let record = Record {
        id: "a".into(),
        text: "one kettle".into(),
        metadata: [
            ("year".into(), crate::Value::Integer(2020)),
            ("kind".into(), crate::Value::text("x")),
        ]
        .into_iter()
        .collect(),
        vector: Some(vec![1.0, 0.0, 0.0]),
    };
    let digest = record.digest();
    let words = Sparse::of_document("one kettle");
    let point = json!({
        "id": point_id("a"),
        "vector": {
            "vector": [1.0, 0.0, 0.0],
            "words": { "indices": words.indices, "values": words.values },
        },
        "payload": {
            "id": "a",
            "text": "one kettle",
            "metadata": { "year": 2020, "kind": "x" },
            "digest": digest.cast_signed(),
        },
    });
    let done = json!({ "operation_id": 1, "status": "completed" });
    let index = |field: &str, kind: &str| {
        let body = json!({ "field_name": field, "field_schema": kind });
        let path = "/collections/my%20notes/index?wait=true";
        expect("PUT", path, body, done.clone())
    };
    let asked = json!({
        "ids": [point_id("a"), point_id("b")],
        "with_payload": ["digest"],
        "with_vector": false,
    });
    let held = json!([{ "id": point_id("a"), "payload": { "digest": digest.cast_signed() } }]);
    let put = || {
        let path = "/collections/my%20notes/points?wait=true";
        expect("PUT", path, json!({ "points": [point] }), done.clone())
    };
    let page = |offset: Option<&str>| {
        let mut body = json!({ "limit": 1000, "with_payload": ["id"], "with_vector": false });
        if let Some(offset) = offset {
            body["offset"] = offset.into();
        }
        body
    };
    let scroll = "/collections/my%20notes/points/scroll";
    let pages = [
        json!({ "points": [{ "id": point_id("a"), "payload": { "id": "a" } }], "next_page_offset": "p2" }),
        json!({ "points": [{ "id": 7, "payload": {} }], "next_page_offset": null }),
    ];
    let (store, script) = opened(vec![
        expect("POST", "/collections/my%20notes/points", asked, held),
        index("metadata.kind", "keyword"),
        index("metadata.year", "float"),
        put(),
        // The fields have their indexes now.
        put(),
        expect("POST", scroll, page(None), pages[0].clone()),
        expect("POST", scroll, page(Some("p2")), pages[1].clone()),
        expect(
            "POST",
            "/collections/my%20notes/points/delete?wait=true",
            json!({ "points": [point_id("a"), point_id("7"), 7] }),
            done.clone(),
        ),
        expect(
            "POST",
            "/collections/my%20notes/points/count",
            json!({ "exact": true }),
            json!({ "count": 2 }),
        ),
    ])
    .await;
    let asked = vec![("a".into(), digest), ("b".into(), digest)];
    assert_eq!(store.known(asked).await.unwrap(), [true, false]);
    let entry = Entry { record, digest };
    store.upsert(vec![entry.clone()]).await.unwrap();
    store.upsert(vec![entry]).await.unwrap();
    let ids = store.ids().await.unwrap();
    assert_eq!(ids, ["a", "7"]);
    store.delete(ids).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 2);
    assert!(script.is_done());
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let describe = |vectors: Json| {
        let params = json!({ "vectors": vectors });
        let described = json!({ "config": { "params": params } });
        [
            expect(
                "GET",
                "/collections/my%20notes/exists",
                Json::Null,
                json!({ "exists": true }),
            ),
            expect("GET", PATH, Json::Null, described),
        ]
    };
    let other = json!({ "image": { "size": 512, "distance": "Dot" } });
    let (spec, _) = server(describe(other)).await;
    let error = Qdrant::open(&spec).await.err().unwrap().to_string();
    assert!(
        error.contains("no vector `vector`; it has image"),
        "{error}"
    );

    // A collection of somebody else, with one vector that has no name: neighbours only.
    let one = json!({ "size": 3, "distance": "Euclid" });
    let query = json!({ "query": [1.0, 0.0, 0.0], "limit": 2, "with_payload": true });
    let points = json!({ "points": [found("far", 2.0), found("near", 0.5)] });
    let asked = expect(
        "POST",
        "/collections/my%20notes/points/query",
        query,
        points,
    );
    let (spec, script) = server(describe(one).into_iter().chain([asked])).await;
    let store = Qdrant::open(&spec).await.unwrap().unwrap();
    let words = store.facts().check(&wanted(None, Some("x"), None));
    assert!(
        words
            .unwrap_err()
            .to_string()
            .contains("no sparse vector `words`")
    );
    let found = store
        .search(wanted(Some([1.0, 0.0, 0.0]), None, None))
        .await;
    let found = found.unwrap();
    assert_eq!((&*found[0].id, found[0].score), ("near", -0.5));
    assert!(script.is_done());
}

#[tokio::test]
async fn its_errors_are_those_of_any_service() {
    let failing = |status: u16| Exchange {
        status,
        answer: json!({ "status": { "error": "Wrong input: no" }, "time": 0.0 }),
        ..expect(
            "POST",
            "/collections/my%20notes/points/count",
            json!({ "exact": true }),
            Json::Null,
        )
    };
    for (status, invalid, unavailable) in
        [(400, true, false), (503, false, true), (500, false, false)]
    {
        let (store, _) = opened(vec![failing(status)]).await;
        let error = store.count().await.unwrap_err();
        assert_eq!(
            matches!(error, NodeError::Invalid { .. }),
            invalid,
            "{error}"
        );
        assert_eq!(
            matches!(error, NodeError::Unavailable { .. }),
            unavailable,
            "{error}"
        );
        assert!(error.to_string().contains("Wrong input: no"), "{error}");
    }
}

#[test]
fn points_have_ids_that_follow_from_those_of_documents() {
    assert_eq!(point_id("kettle"), point_id("kettle"));
    assert_ne!(point_id("kettle"), point_id("Kettle"));
    let id = point_id("kettle");
    let parts: Vec<_> = id.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    assert_eq!(id.as_bytes()[14], b'8', "{id}");
    assert_eq!(points_of("kettle").len(), 1);
    assert_eq!(points_of("17")[1], 17);
    assert_eq!(points_of(&id)[1], id);
}
