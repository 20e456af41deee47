//! Every store finds the same documents: one table of searches, over the embedded index and over real
//! servers that the test starts.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use nodes::{
    Document, Filter, Value,
    index::{Index, Manifest, Record, json_lines},
    store::{self, Build, Built, Embedded, Plan, Store, Wanted},
};
use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc};
use tests::stores::{backend, milvus, milvus_lite, postgres};

/// Documents: their vectors turn by some degrees from one to the next.
const DOCUMENTS: &str = r#"
{"id": "kettle", "text": "A kettle with a thick base boils water quickly.", "vector": [1, 0, 0], "metadata": {"kind": "kitchen", "year": 2019, "price": 30, "open": true, "tags": ["steel", "hot"], "quote": "it's \"5\" o'clock\\"}}
{"id": "knife", "text": "The knife was sharpened on a wet stone.", "vector": [0.98, 0.2, 0], "metadata": {"kind": "kitchen", "year": 2020, "price": 12.5, "open": false, "tags": ["steel"], "quote": "a\nb"}}
{"id": "owl", "text": "An owl flies without any sound at night.", "vector": [0.9, 0.4, 0.1], "metadata": {"kind": "animal", "year": 2020, "price": 30.0, "open": true, "tags": [], "quote": "' OR 1=1 --"}}
{"id": "otter", "text": "Otters hold hands while sleeping in water.", "vector": [0.7, 0.7, 0.2], "metadata": {"kind": "animal", "year": 2021, "tags": ["wet", "hot"], "a b.c": "dotted"}}
{"id": "bicycle", "text": "The belt drive of this bicycle is silent.", "vector": [0.4, 0.9, 0.3], "metadata": {"kind": "vehicle", "year": 2022, "price": 900, "quote": "日本語 é"}}
{"id": "tram", "text": "Trams ring a bell before they leave.", "vector": [0.1, 1, 0.4], "metadata": {"kind": "vehicle", "year": 2022.5, "price": -3, "open": false}}
{"id": "it's \"odd\"\\", "text": "An id with quotes, found by nothing else.", "vector": [-0.5, 0.5, 1], "metadata": {}}
"#;

fn records() -> Vec<Record> {
    json_lines(DOCUMENTS.as_bytes())
        .map(Result::unwrap)
        .collect()
}

/// Makes the collection of a server, as `engine index` does.
async fn made(declared: &str) -> Arc<dyn Store> {
    let backend = backend(declared);
    assert!(store::open(&backend).await.unwrap().is_none(), "{declared}");
    let plan = Plan {
        dimensions: Some(3),
    };
    store::create(&backend, plan).await.unwrap();
    store::open(&backend).await.unwrap().unwrap()
}

async fn fill(store: &Arc<dyn Store>, records: Vec<Record>, prune: bool) -> Built {
    let build = Build {
        batch: 3,
        prune,
        ..Build::default()
    };
    let total = records.len();
    let records = records.into_iter().map(Ok);
    let embed = |_: &[&str]| unreachable!("each document brings its vector");
    build
        .run(store, records, total, embed, |_, _| {})
        .await
        .unwrap()
}

fn wanted(vector: Option<[f32; 3]>, text: Option<&str>, filter: &str, top_k: usize) -> Wanted {
    let filter = match Value::from_json(filter.as_bytes()).unwrap() {
        Value::Map(map) => Filter::from_map(&map).unwrap(),
        other => panic!("{other:?} is a map"),
    };
    Wanted {
        vector: vector.map(|vector| vector.into()),
        text: text.map(Into::into),
        top_k,
        filter: Some(filter),
    }
}

/// Filters, and the documents that satisfy them.
const FILTERS: [(&str, &[&str]); 22] = [
    (r#"{"kind": "kitchen"}"#, &["kettle", "knife"]),
    (
        r#"{"kind": ["animal", "vehicle"]}"#,
        &["owl", "otter", "bicycle", "tram"],
    ),
    (r#"{"kind": []}"#, &[]),
    (r#"{"kind": "Kitchen"}"#, &[]),
    (r#"{"missing": 1}"#, &[]),
    (r#"{"year": 2020}"#, &["knife", "owl"]),
    (r#"{"year": 2020.0}"#, &["knife", "owl"]),
    (r#"{"year": "2020"}"#, &[]),
    (r#"{"price": 30}"#, &["kettle", "owl"]),
    (r#"{"price": [12.5, -3]}"#, &["knife", "tram"]),
    (r#"{"year": {"gte": 2021}}"#, &["otter", "bicycle", "tram"]),
    (
        r#"{"year": {"gt": 2020, "lt": 2022.5}}"#,
        &["otter", "bicycle"],
    ),
    (r#"{"price": {"lte": 12.5}}"#, &["knife", "tram"]),
    (r#"{"kind": {"gte": "b", "lt": "l"}}"#, &["kettle", "knife"]),
    (r#"{"open": true}"#, &["kettle", "owl"]),
    (r#"{"open": {"lte": false}}"#, &["knife", "tram"]),
    (r#"{"tags": "hot"}"#, &["kettle", "otter"]),
    (
        r#"{"tags": ["wet", "steel"], "year": {"lt": 2020}}"#,
        &["kettle"],
    ),
    (r#"{"quote": "it's \"5\" o'clock\\"}"#, &["kettle"]),
    (r#"{"quote": ["a\nb", "' OR 1=1 --"]}"#, &["knife", "owl"]),
    (r#"{"quote": "日本語 é"}"#, &["bicycle"]),
    (r#"{"a b.c": "dotted"}"#, &["otter"]),
];

fn ids(found: &[Document]) -> Vec<&str> {
    found.iter().map(|document| &*document.id).collect()
}

async fn search(name: &str, store: &Arc<dyn Store>, wanted: Wanted) -> Vec<Document> {
    let found = store.search(wanted.clone()).await;
    found.unwrap_or_else(|error| panic!("{name}: {wanted:?}: {error}"))
}

/// Runs the whole table over a store that is empty, and holds it against the embedded index.
async fn conforms(name: &str, store: Arc<dyn Store>, reference: &Arc<dyn Store>) {
    let built = fill(&store, records(), false).await;
    let all = records().len();
    let expected = Built {
        written: all,
        documents: all as u64,
        ..Built::default()
    };
    assert_eq!(built, expected, "{name}");

    // Neighbours: the same documents in the same order, with the same cosines.
    for (vector, top_k) in [
        ([1.0, 0.1, 0.0], 3),
        ([0.0, 2.0, 0.5], 10),
        ([-1.0, 0.0, 0.3], 2),
    ] {
        let search_it = |store| search(name, store, wanted(Some(vector), None, "{}", top_k));
        let (found, known) = (search_it(&store).await, search_it(reference).await);
        assert_eq!(ids(&found), ids(&known), "{name} {vector:?}");
        for (one, other) in found.iter().zip(&known) {
            let difference = (one.score - other.score).abs();
            assert!(difference < 1e-4, "{name} {vector:?}: {one:?} {other:?}");
            assert_eq!(one.text, other.text, "{name}");
            let metadata = |document: &Document| {
                Value::Map(Arc::clone(&document.metadata))
                    .to_json()
                    .unwrap()
            };
            let read = |document| -> serde_json::Value {
                serde_json::from_slice(&metadata(document)).unwrap()
            };
            let (one, other) = (read(one), read(other));
            assert!(same(&one, &other), "{name}: {one} {other}");
        }
    }

    // Filters: exactly the documents that satisfy them.
    let many: Vec<_> = (1980..2021).map(|year| year.to_string()).collect();
    let many = format!("{{\"year\": [{}]}}", many.join(","));
    let filters = FILTERS.iter().copied();
    let long: (&str, &[&str]) = (&many, &["kettle", "knife", "owl"]);
    for (filter, expected) in filters.chain([long]) {
        let wanted = wanted(Some([1.0, 0.5, 0.0]), None, filter, 10);
        for (name, store) in [(name, &store), ("reference", reference)] {
            let found = search(name, store, wanted.clone()).await;
            let found: BTreeSet<_> = ids(&found).into_iter().collect();
            let expected: BTreeSet<_> = expected.iter().copied().collect();
            assert_eq!(found, expected, "{name} {filter}");
        }
    }

    words(name, &store, reference).await;
    changes(name, &store).await;
}

/// Whether two JSON values are the same, whole numbers and floats of one size alike.
fn same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => one.as_f64() == other.as_f64(),
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            let is_there = |(name, value): (&String, &Json)| {
                other.get(name).is_some_and(|other| same(value, other))
            };
            one.len() == other.len() && one.iter().all(is_there)
        }
        (one, other) => one == other,
    }
}

/// Words, and words with neighbours.
async fn words(name: &str, store: &Arc<dyn Store>, reference: &Arc<dyn Store>) {
    let animals = r#"{"kind": "animal"}"#;
    if let Err(reason) = &store.facts().words {
        assert!(reason.contains("no BM25"), "{name}: {reason}");
        let refused = store.facts().check(&wanted(None, Some("owl"), "{}", 5));
        assert!(
            refused.unwrap_err().to_string().contains("no BM25"),
            "{name}"
        );
        return;
    }
    for (text, filter, expected) in [
        ("Kettle quickly", "{}", &["kettle"][..]),
        ("water", "{}", &["kettle", "otter"]),
        (
            "silent owl, sharpened knife!",
            "{}",
            &["owl", "knife", "bicycle"],
        ),
        ("water", animals, &["otter"]),
        ("zeppelin", "{}", &[]),
        ("… ?!", "{}", &[]),
        ("owl' & | ! ( \" \\ :*", "{}", &["owl"]),
    ] {
        for (name, store) in [(name, store), ("reference", reference)] {
            let found = search(name, store, wanted(None, Some(text), filter, 10)).await;
            assert!(
                found.iter().all(|document| document.score > 0.0),
                "{name} {found:?}"
            );
            assert!(
                found.is_sorted_by(|a, b| a.score >= b.score),
                "{name} {found:?}"
            );
            let found: BTreeSet<_> = ids(&found).into_iter().collect();
            let expected: BTreeSet<_> = expected.iter().copied().collect();
            assert_eq!(found, expected, "{name} {text}");
        }
    }
    if name != "milvus-lite" {
        let stems = wanted(None, Some("kettles boiling"), "{}", 5);
        assert_eq!(ids(&search(name, store, stems).await), ["kettle"], "{name}");
    }
    // First on both sides: the most that there is.
    let both = wanted(Some([1.0, 0.0, 0.0]), Some("kettle"), "{}", 3);
    let (found, known) = (
        search(name, store, both.clone()).await,
        search(name, reference, both).await,
    );
    assert_eq!(ids(&found), ids(&known), "{name}");
    for (one, other) in found.iter().zip(&known) {
        assert!(
            (one.score - other.score).abs() < 1e-6,
            "{name} {one:?} {other:?}"
        );
    }
    assert!(
        (found[0].score - 2.0 / 61.0).abs() < 1e-6,
        "{name} {found:?}"
    );
    let both = wanted(Some([1.0, 0.0, 0.0]), Some("hands"), animals, 3);
    let found = search(name, store, both).await;
    assert_eq!(ids(&found), ["otter", "owl"], "{name}");
    // A text without words leaves the neighbours.
    let both = wanted(Some([1.0, 0.0, 0.0]), Some("?"), "{}", 2);
    assert_eq!(
        ids(&search(name, store, both).await),
        ["kettle", "knife"],
        "{name}"
    );
}

/// What is unchanged is passed over, what changed is replaced, and what is gone goes.
async fn changes(name: &str, store: &Arc<dyn Store>) {
    let mut changed = records();
    changed[0].text = "A jug of water.".into();
    changed[0].vector = Some(vec![0.0, 0.0, 1.0]);
    changed.pop();
    let built = fill(store, changed, true).await;
    let expected = Built {
        written: 1,
        unchanged: 5,
        deleted: 1,
        documents: 6,
    };
    assert_eq!(built, expected, "{name}");
    let near = |store| search(name, store, wanted(Some([0.0, 0.0, 1.0]), None, "{}", 1));
    let found = near(store).await;
    assert_eq!(ids(&found), ["kettle"], "{name}");
    assert_eq!(&*found[0].text, "A jug of water.", "{name}");
    store
        .delete(vec!["kettle".into(), "nobody".into()])
        .await
        .unwrap();
    store.finish().await.unwrap();
    assert_eq!(store.count().await.unwrap(), 5, "{name}");
    assert_ne!(ids(&near(store).await), ["kettle"], "{name}");
    let mut ids = store.ids().await.unwrap();
    ids.sort();
    assert_eq!(ids, ["bicycle", "knife", "otter", "owl", "tram"], "{name}");
}

struct Reference {
    store: Arc<dyn Store>,
    _folder: tempfile::TempDir,
}

async fn embedded() -> Reference {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::create(folder.path(), &Manifest::new(Some(3), None)).unwrap();
    Reference {
        store: Arc::new(Embedded::new(index, NonZeroUsize::MIN)),
        _folder: folder,
    }
}

async fn reference() -> Reference {
    let reference = embedded().await;
    fill(&reference.store, records(), false).await;
    reference
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_index_conforms() {
    let reference = reference().await;
    conforms("embedded", embedded().await.store, &reference.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn milvus_conforms() {
    let reference = reference().await;
    let server = milvus();
    let store = made(&format!("milvus \"{}\" collection=\"docs\"", server.url)).await;
    conforms("milvus", store, &reference.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn milvus_lite_conforms() {
    let reference = reference().await;
    let server = milvus_lite();
    let store = made(&format!("milvus \"{}\" collection=\"docs\"", server.url)).await;
    conforms("milvus-lite", store, &reference.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgvector_conforms() {
    let reference = reference().await;
    let server = postgres();
    let store = made(&format!("pgvector \"{}\" table=\"docs\"", server.url)).await;
    conforms("pgvector", store, &reference.store).await;
}
