//! Tables of PostgreSQL that people have already: other names, other types, and what they lack; and a search
//! whose caller leaves.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use nodes::{
    Filter, NodeError, Value,
    index::json_lines,
    store::{self, Build, Built, Store, Wanted},
};
use std::{sync::Arc, time::Duration};
use tests::stores::{backend, postgres};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn open(declared: &str) -> Result<Arc<dyn Store>, NodeError> {
    Ok(store::open(&backend(declared)).await?.unwrap())
}

async fn fill(store: &Arc<dyn Store>, lines: &str) -> Result<Built, NodeError> {
    let records: Vec<_> = json_lines(lines.as_bytes()).collect();
    let total = records.len();
    let embed = |_: &[&str]| unreachable!("each document brings its vector");
    let build = Build::default();
    build.run(store, records, total, embed, |_, _| {}).await
}

fn wanted(text: Option<&str>, filter: &str) -> Wanted {
    let Value::Map(map) = Value::from_json(filter.as_bytes()).unwrap() else {
        panic!("{filter} is a map")
    };
    Wanted {
        vector: Some([1.0, 0.0, 0.0].into()),
        text: text.map(Into::into),
        top_k: 5,
        filter: Some(Filter::from_map(&map).unwrap()),
    }
}

async fn found(store: &Arc<dyn Store>, wanted: Wanted) -> Vec<String> {
    let found = store.search(wanted).await.unwrap();
    found
        .iter()
        .map(|document| document.id.to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_names_and_types_of_its_own_is_searched_and_filled() {
    let server = postgres();
    let client = connect(&server.url).await;
    let made = client.batch_execute(
        r#"
        CREATE EXTENSION vector;
        CREATE SCHEMA app;
        CREATE TABLE app."the articles" (
            number bigint PRIMARY KEY, body varchar, attributes json, dense halfvec(3)
        );
        INSERT INTO app."the articles" VALUES
            (7, 'An old owl.', '{"kind": "animal"}', '[1, 0, 0]'),
            (8, NULL, NULL, NULL);
        "#,
    );
    made.await.unwrap();
    let names = r#"id="number" text="body" metadata="attributes" vector="dense""#;
    let declared = format!(
        "pgvector \"{}\" table=\"app.the articles\" {names}",
        server.url
    );
    let store = open(&declared).await.unwrap();
    assert_eq!(store.facts().dimensions, Some(3));
    let more = r#"
        {"id": "9", "text": "A new owl.", "vector": [0.5, 0.5, 0], "metadata": {"kind": "animal"}}
        {"id": 10, "text": "A tram.", "vector": [0, 0, 1], "metadata": {"kind": "vehicle"}}
    "#;
    for _ in 0..2 {
        // Without a column of digests nobody can tell that they are there.
        let built = fill(&store, more).await.unwrap();
        assert_eq!((built.written, built.unchanged, built.documents), (2, 0, 4));
    }
    assert_eq!(found(&store, wanted(None, "{}")).await, ["7", "9", "10"]);
    // There is no column of words: they are found in the texts.
    assert_eq!(
        found(&store, wanted(Some("owls"), "{}")).await,
        ["7", "9", "10"]
    );
    let vehicles = wanted(Some("owls"), r#"{"kind": "vehicle"}"#);
    assert_eq!(found(&store, vehicles).await, ["10"]);
    store.delete(vec!["7".into()]).await.unwrap();
    assert_eq!(found(&store, wanted(None, "{}")).await, ["9", "10"]);
    let error = store.delete(vec!["seven".into()]).await.unwrap_err();
    assert!(matches!(error, NodeError::Invalid { .. }), "{error:?}");

    let refused = [
        (
            names.replace("body", "title"),
            "has no column `title` for `text`; it has attributes, body, dense, number",
        ),
        (
            names.replace("dense", "body"),
            "has the type character varying; a search needs vector or halfvec",
        ),
        (
            names.replace("attributes", "number"),
            "has the type bigint; metadata needs jsonb",
        ),
    ];
    for (names, reason) in refused {
        let declared = format!(
            "pgvector \"{}\" table=\"app.the articles\" {names}",
            server.url
        );
        let error = open(&declared).await.err().unwrap().to_string();
        assert!(error.contains(reason), "{error}");
    }
    // Nothing that a document has is left out without a word.
    let bare = names.replace("attributes", "nothing");
    let declared = format!(
        "pgvector \"{}\" table=\"app.the articles\" {bare}",
        server.url
    );
    let bare = open(&declared).await.unwrap();
    let error = fill(&bare, more).await.unwrap_err().to_string();
    assert!(
        error.contains("has metadata, and the table no column for it"),
        "{error}"
    );
    let error = bare
        .search(wanted(None, r#"{"kind": "animal"}"#))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no column of metadata to filter by"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_whose_caller_leaves_is_cancelled() {
    let server = postgres();
    let declared = format!("pgvector \"{}\" table=\"docs\" connections=1", server.url);
    let plan = store::Plan {
        dimensions: Some(3),
    };
    store::create(&backend(&declared), plan).await.unwrap();
    let store = open(&declared).await.unwrap();
    let mut client = connect(&server.url).await;
    // Somebody has the table for himself.
    let held = client.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let search = store.search(wanted(None, "{}"));
    assert!(timeout(Duration::from_millis(500), search).await.is_err());
    let running = "SELECT count(*) FROM pg_stat_activity \
        WHERE application_name = 'engine' AND state = 'active'";
    let end = Instant::now() + Duration::from_secs(30);
    // Within the transaction the answer would be the first one for ever.
    let watching = connect(&server.url).await;
    let active = async || {
        let row = watching.query_one(running, &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    while active().await > 0 {
        assert!(Instant::now() < end, "the server still waits for the table");
        sleep(Duration::from_millis(20)).await;
    }
    held.rollback().await.unwrap();
    // Its place among the connections is free again.
    assert!(found(&store, wanted(None, "{}")).await.is_empty());
}
