//! What searches find, and that they see every commit.

use crate::{Random, ids, map, new_index, record};
use nodes::{
    Map, NodeError, Value,
    index::{Filter, Index, IndexError, Manifest, Query, Record},
    store::{Build, Built, Embedded, Store},
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tempfile::TempDir;

fn by_text(index: &Index, text: &str, top_k: usize) -> Vec<nodes::Document> {
    let query = Query {
        text: Some(text),
        top_k,
        ..Query::default()
    };
    index.search(&query).unwrap()
}

fn by_vector(index: &Index, vector: &[f32], top_k: usize) -> Vec<nodes::Document> {
    let query = Query {
        vector: Some(vector),
        top_k,
        ..Query::default()
    };
    index.search(&query).unwrap()
}

#[test]
fn vectors_words_and_both() {
    let (_folder, index) = new_index(3);
    let mut writer = index.writer().unwrap();
    writer
        .upsert(&record("near", "a red apple", &[2.0, 0.0, 0.0]))
        .unwrap();
    writer
        .upsert(&record("far", "apples and more apples", &[0.0, 1.0, 0.0]))
        .unwrap();
    writer
        .upsert(&record("back", "a green pear", &[-3.0, 0.0, 0.0]))
        .unwrap();
    assert_eq!(
        by_text(&index, "apple", 9).len(),
        0,
        "nothing is committed yet"
    );
    writer.commit().unwrap();

    let near = by_vector(&index, &[1.0, 0.0, 0.0], 9);
    assert_eq!(ids(&near), ["near", "far", "back"]);
    let scores: Vec<f64> = near.iter().map(|document| document.score).collect();
    assert_eq!(scores, [1.0, 0.0, -1.0]);

    assert_eq!(ids(&by_text(&index, "APPLES, please!", 9)), ["far", "near"]);
    assert!(by_text(&index, "nothing of it", 9).is_empty());
    assert!(by_text(&index, "…", 9).is_empty());

    let both = Query {
        vector: Some(&[1.0, 0.0, 0.0]),
        text: Some("apples"),
        top_k: 9,
        filter: None,
    };
    let both = index.search(&both).unwrap();
    // Each is first on one side and second on the other.
    assert_eq!(ids(&both), ["far", "near", "back"]);
    assert_eq!(both[0].score, 1.0 / 61.0 + 1.0 / 62.0);
    assert_eq!(both[2].score, 1.0 / 63.0);
}

#[test]
fn query_text_is_never_syntax() {
    let (_folder, index) = new_index(1);
    let mut writer = index.writer().unwrap();
    writer.upsert(&record("a", "plain words", &[1.0])).unwrap();
    writer.commit().unwrap();
    for text in [
        "text:plain",
        "+plain -words",
        "\"plain",
        "(plain",
        "plain^99999",
        "plain~2",
        "id:a OR plain",
        "plain\0\\",
    ] {
        assert_eq!(ids(&by_text(&index, text, 1)), ["a"], "{text}");
    }
    for text in ["*", "id:a", "[a TO z]", ""] {
        assert!(by_text(&index, text, 1).is_empty(), "{text}");
    }
    let flood = "plain ".repeat(100_000);
    assert_eq!(ids(&by_text(&index, &flood, 1)), ["a"]);
}

#[test]
fn ties_are_in_the_order_of_ids() {
    let (_folder, index) = new_index(2);
    let mut writer = index.writer().unwrap();
    let mut random = Random(5);
    let mut names: Vec<String> = (0..300).map(|name| format!("{name:03}")).collect();
    for (count, _) in (0..300).enumerate() {
        let name = names.swap_remove(random.below(names.len() as u64) as usize);
        writer
            .upsert(&record(&name, "the same words", &[1.0, 1.0]))
            .unwrap();
        if count % 60 == 0 {
            writer.commit().unwrap();
        }
    }
    writer.commit().unwrap();
    let expected = ["000", "001", "002"];
    assert_eq!(ids(&by_vector(&index, &[1.0, 0.5], 3)), expected);
    assert_eq!(ids(&by_text(&index, "same words", 3)), expected);
}

#[test]
fn changes_are_seen_while_serving() {
    let (folder, index) = new_index(2);
    let elsewhere = Index::open(folder.path()).unwrap();
    let mut writer = index.writer().unwrap();
    writer.upsert(&record("a", "first", &[1.0, 0.0])).unwrap();
    writer.upsert(&record("b", "first", &[0.0, 1.0])).unwrap();
    writer.commit().unwrap();
    assert_eq!(by_text(&index, "first", 9).len(), 2);

    writer.upsert(&record("a", "second", &[-1.0, 0.0])).unwrap();
    writer.delete("b");
    writer.delete("never there");
    writer.commit().unwrap();
    assert!(by_text(&index, "first", 9).is_empty());
    let found = by_vector(&index, &[1.0, 0.0], 9);
    assert_eq!(ids(&found), ["a"]);
    assert_eq!(&*found[0].text, "second");
    assert_eq!(index.facts().unwrap().documents, 1);

    assert!(elsewhere.is_stale());
    assert!(by_text(&elsewhere, "second", 9).is_empty());
    elsewhere.refresh().unwrap();
    assert!(!elsewhere.is_stale());
    assert_eq!(ids(&by_text(&elsewhere, "second", 9)), ["a"]);
}

#[test]
fn documents_come_back_as_they_were() {
    let (folder, index) = new_index(2);
    let metadata = map(&[
        ("year", Value::Integer(i64::MAX)),
        ("weight", Value::Number(0.1)),
        ("public", Value::Boolean(true)),
        ("tags", Value::list([Value::text("a"), Value::Integer(1)])),
        ("deep", Value::Map(map(&[("x", Value::None)]).into())),
    ]);
    let document = Record {
        metadata: metadata.clone(),
        ..record("id with ünïcode", "text\nof two lines", &[1.0, 1.0])
    };
    let mut writer = index.writer().unwrap();
    writer.upsert(&document).unwrap();
    writer.finish().unwrap();
    drop(index);
    let index = Index::open(folder.path()).unwrap();
    let found = by_vector(&index, &[1.0, 1.0], 1);
    assert_eq!(
        (&*found[0].id, &*found[0].text),
        (&*document.id, &*document.text)
    );
    assert_eq!(format!("{:?}", found[0].metadata), format!("{metadata:?}"));
    assert!(index.contains(&document.id, document.digest()).unwrap());
    assert!(!index.contains(&document.id, document.digest() ^ 1).unwrap());
    assert!(!index.contains("other", document.digest()).unwrap());
}

#[test]
fn mistakes_are_named() {
    let (folder, index) = new_index(2);
    let search = |vector: Option<&[f32]>, top_k| {
        let query = Query {
            vector,
            top_k,
            ..Query::default()
        };
        index.search(&query).unwrap_err().to_string()
    };
    assert_eq!(search(None, 1), "a search needs a vector, a text, or both");
    assert_eq!(
        search(Some(&[1.0]), 1),
        "the vector has 1 numbers; the index has vectors of 2"
    );
    assert_eq!(
        search(Some(&[0.0, 0.0]), 1),
        "the vector is zero, and has no direction to compare"
    );
    assert_eq!(
        search(Some(&[f32::NAN, 0.0]), 1),
        "the vector holds a number that is not finite"
    );
    assert_eq!(
        search(Some(&[1.0, 0.0]), 0),
        "top-k is 0; it can be 1 to 1000"
    );
    assert_eq!(
        search(Some(&[1.0, 0.0]), 1001),
        "top-k is 1001; it can be 1 to 1000"
    );

    let mut writer = index.writer().unwrap();
    let mut upsert = |record: Record| writer.upsert(&record).unwrap_err().to_string();
    assert_eq!(upsert(record("", "", &[1.0, 0.0])), "a document has no id");
    assert_eq!(
        upsert(record("a", "", &[1.0])),
        "document \"a\": the vector has 1 numbers; the index has vectors of 2"
    );
    assert_eq!(
        upsert(record(&"x".repeat(600), "", &[1.0, 0.0])),
        format!(
            "document {:?}: its id has 600 bytes; at most 512 are allowed",
            "x".repeat(80)
        )
    );
    let nan = Record {
        metadata: map(&[("x", Value::Number(f64::NAN))]),
        ..record("a", "", &[1.0, 0.0])
    };
    assert_eq!(
        upsert(nan),
        "document \"a\": its metadata holds a number, which cannot be stored"
    );

    let second = index.writer().map(|_| ()).unwrap_err();
    assert!(matches!(second, IndexError::Locked { .. }));
    assert_eq!(
        second.to_string(),
        format!(
            "index {} is being written by another writer; there can be one at a time",
            folder.path().display()
        )
    );
    drop(writer);
    index.writer().unwrap();

    let again = Index::create(folder.path(), &Manifest::new(Some(2), None)).map(|_| ());
    assert!(matches!(again, Err(IndexError::Occupied { .. })));
    let elsewhere = TempDir::new().unwrap();
    assert!(matches!(
        Index::open(elsewhere.path()).map(|_| ()),
        Err(IndexError::Absent { .. })
    ));
    std::fs::write(elsewhere.path().join("precious.txt"), "").unwrap();
    let occupied = Index::create(elsewhere.path(), &Manifest::new(None, None)).map(|_| ());
    assert!(matches!(occupied, Err(IndexError::Occupied { .. })));
}

#[test]
fn words_alone_need_no_vectors() {
    let folder = TempDir::new().unwrap();
    let index = Index::create(folder.path(), &Manifest::new(None, None)).unwrap();
    let bare = |id: &str, text: &str| Record {
        vector: None,
        ..record(id, text, &[])
    };
    let mut writer = index.writer().unwrap();
    writer.upsert(&bare("a", "one")).unwrap();
    assert!(writer.upsert(&record("b", "two", &[1.0])).is_err());
    writer.finish().unwrap();
    let index = Index::open(folder.path()).unwrap();
    assert_eq!(ids(&by_text(&index, "one", 9)), ["a"]);
    let vector = Query {
        vector: Some(&[1.0]),
        top_k: 1,
        ..Query::default()
    };
    assert_eq!(
        index.search(&vector).unwrap_err().to_string(),
        "the index holds no vectors"
    );
}

#[test]
fn deleted_vectors_are_cleared_away() {
    let (folder, index) = new_index(8);
    let mut random = Random(3);
    let mut writer = index.writer().unwrap();
    let mut vectors = BTreeMap::new();
    let mut compacted = 0;
    for round in 0..20 {
        for _ in 0..200 {
            let id = format!("{}", random.below(300));
            let vector = random.vector(8);
            writer
                .upsert(&record(&id, &format!("round {round}"), &vector))
                .unwrap();
            vectors.insert(id, vector);
        }
        compacted += usize::from(writer.commit().unwrap().compacted);
    }
    assert!(compacted >= 2, "{compacted}");
    drop(writer);
    let log = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap());
    let logs: Vec<_> = log
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "log"))
        .collect();
    assert_eq!(logs.len(), 1);
    assert!(logs[0].metadata().unwrap().len() < 1500 * (8 * 4 + 12));
    for index in [index, Index::open(folder.path()).unwrap()] {
        for (id, vector) in &vectors {
            let found = by_vector(&index, vector, 1);
            assert_eq!(ids(&found), [id]);
            assert!(found[0].score > 0.999_999);
        }
    }
}

/// Each commit replaces all documents, so a search that sees two commits mixed is caught.
#[test]
fn searches_see_one_commit_whole_while_others_are_made() {
    const DOCUMENTS: usize = 150;
    let (folder, index) = new_index(8);
    let mut writer = index.writer().unwrap();
    let mut random = Random(9);
    let mut commit = |round: i64| {
        for id in 0..DOCUMENTS {
            let bare = record(&id.to_string(), "word", &random.vector(8));
            let metadata = map(&[("round", Value::Integer(round))]);
            writer.upsert(&Record { metadata, ..bare }).unwrap();
        }
        writer.commit().unwrap().compacted
    };
    commit(0);
    let done = AtomicBool::new(false);
    let look = |index: &Index| {
        let query = Query {
            vector: Some(&[1.0; 8]),
            text: Some("word"),
            top_k: DOCUMENTS,
            filter: None,
        };
        let found = index.search(&query).unwrap();
        let round = |document: &nodes::Document| document.metadata["round"].as_integer().unwrap();
        let rounds: BTreeSet<i64> = found.iter().map(round).collect();
        assert_eq!((found.len(), rounds.len()), (DOCUMENTS, 1), "{rounds:?}");
        rounds.first().copied().unwrap()
    };
    std::thread::scope(|threads| {
        let same = threads.spawn(|| {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                seen.insert(look(&index));
            }
            seen.len()
        });
        let other = threads.spawn(|| {
            let index = Index::open(folder.path()).unwrap();
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                index.refresh().unwrap();
                seen.insert(look(&index));
            }
            seen.len()
        });
        let compacted = (1..=25).filter(|round| commit(*round)).count();
        done.store(true, Ordering::Relaxed);
        assert!(compacted >= 3, "{compacted}");
        assert!(same.join().unwrap() > 3);
        assert!(other.join().unwrap() > 3);
    });
    assert_eq!(look(&index), 25);
}

fn store(index: &Index) -> Arc<dyn Store> {
    Arc::new(Embedded::new(index.clone(), NonZeroUsize::MIN))
}

#[tokio::test]
async fn an_interrupted_build_goes_on_where_it_was() {
    let (folder, index) = new_index(2);
    let records = |changed: usize| {
        (0..100).map(move |number| {
            let text = format!("text {} of {number}", usize::from(number == changed));
            Ok(Record {
                vector: None,
                ..record(&number.to_string(), &text, &[])
            })
        })
    };
    let build = Build {
        batch: 8,
        commit_every: 20,
        prune: true,
    };
    let mut embedded = 0;
    let failing = |texts: &[&str]| {
        embedded += texts.len();
        match embedded > 50 {
            true => Err(NodeError::failed("out of power")),
            false => Ok(vec![vec![1.0, 0.5]; texts.len()]),
        }
    };
    let interrupted = store(&index);
    let failed = build.run(&interrupted, records(100), 100, failing, |_, _| {});
    assert_eq!(failed.await.unwrap_err().to_string(), "out of power");
    drop(interrupted);

    // Six batches of eight were put in, and committed with the third and the sixth.
    let index = Index::open(index.path()).unwrap();
    let store = store(&index);
    let mut steps = Vec::new();
    let embed = |texts: &[&str]| Ok(vec![vec![1.0, 0.5]; texts.len()]);
    let tell = |done, total| steps.push((done, total));
    let built = build.run(&store, records(100), 100, embed, tell);
    let expected = Built {
        written: 52,
        unchanged: 48,
        deleted: 0,
        documents: 100,
    };
    assert_eq!(built.await.unwrap(), expected);
    assert_eq!(steps.last(), Some(&(100, 100)));
    assert!(steps.is_sorted());

    // One text differs, and the last ten records are gone.
    let fewer = records(7).take(90);
    let built = build.run(&store, fewer, 90, embed, |_, _| {});
    let expected = Built {
        written: 1,
        unchanged: 89,
        deleted: 10,
        documents: 90,
    };
    assert_eq!(built.await.unwrap(), expected);
    let none = |_: &[&str]| Ok(Vec::new());
    let short = build.run(&store, records(8), 100, none, |_, _| {});
    let short = short.await.unwrap_err().to_string();
    assert!(short.contains("gave 0 vectors"), "{short}");
    drop(folder);
}

/// What a filter means, written down plainly.
fn satisfies(metadata: &Map, filter: &Map) -> bool {
    filter.iter().all(|(name, wanted)| {
        let held: Vec<Value> = match metadata.get(name) {
            Some(Value::List(values)) => values.to_vec(),
            Some(value) => vec![value.clone()],
            None => Vec::new(),
        };
        held.iter().any(|held| match wanted {
            Value::List(values) => values
                .iter()
                .any(|value| compare(held, value) == Some(std::cmp::Ordering::Equal)),
            Value::Map(range) => range.iter().all(|(operator, bound)| {
                compare(held, bound).is_some_and(|order| match &**operator {
                    "gte" => order.is_ge(),
                    "gt" => order.is_gt(),
                    "lte" => order.is_le(),
                    _ => order.is_lt(),
                })
            }),
            value => compare(held, value) == Some(std::cmp::Ordering::Equal),
        })
    })
}

fn compare(one: &Value, other: &Value) -> Option<std::cmp::Ordering> {
    match (one, other) {
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        (Value::Boolean(one), Value::Boolean(other)) => Some(one.cmp(other)),
        // The numbers of this test are small, and exact as floats.
        (one, other) => one.as_number()?.partial_cmp(&other.as_number()?),
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        (-3i64..4).prop_map(Value::Integer),
        (-6i32..7).prop_map(|half| Value::Number(f64::from(half) / 2.0)),
        "[ab]{0,2}".prop_map(Value::text),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    (-6i32..7).prop_map(|half| Value::Number(f64::from(half) / 2.0))
}

fn metadata() -> impl Strategy<Value = Map> {
    let list = prop::collection::vec(scalar(), 0..4).prop_map(Value::list);
    let value = prop_oneof![3 => scalar(), 1 => list];
    prop::collection::vec(("[xy]", value), 0..3).prop_map(|fields| {
        fields
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect()
    })
}

fn filter() -> impl Strategy<Value = Map> {
    let bounds = |value: BoxedStrategy<Value>| {
        (
            prop::option::of((any::<bool>(), value.clone())),
            prop::option::of((any::<bool>(), value)),
        )
            .prop_filter("a bound", |(low, high)| low.is_some() || high.is_some())
            .prop_map(|(low, high)| {
                let low = low.map(|(open, value)| (if open { "gt" } else { "gte" }, value));
                let high = high.map(|(open, value)| (if open { "lt" } else { "lte" }, value));
                let bounds: Vec<_> = low.into_iter().chain(high).collect();
                Value::Map(map(&bounds).into())
            })
    };
    let condition = prop_oneof![
        scalar(),
        prop::collection::vec(scalar(), 0..3).prop_map(Value::list),
        bounds(number().boxed()),
        bounds("[ab]{0,2}".prop_map(Value::text).boxed()),
    ];
    prop::collection::vec(("[xyz]", condition), 0..3).prop_map(|fields| {
        fields
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn filters_equal_looking_at_everything(
        documents in prop::collection::vec(metadata(), 1..40),
        filters in prop::collection::vec(filter(), 1..60),
    ) {
        let (_folder, index) = new_index(2);
        let mut random = Random(1);
        let mut writer = index.writer().unwrap();
        for (number, metadata) in documents.iter().enumerate() {
            let bare = record(&format!("{number:02}"), "word", &random.vector(2));
            writer.upsert(&Record { metadata: metadata.clone(), ..bare }).unwrap();
            if number == 20 {
                writer.commit().unwrap();
            }
        }
        writer.delete("00");
        writer.commit().unwrap();
        for filter in &filters {
            let expected: Vec<String> = documents
                .iter()
                .enumerate()
                .filter(|(number, metadata)| *number > 0 && satisfies(metadata, filter))
                .map(|(number, _)| format!("{number:02}"))
                .collect();
            let parsed = Filter::from_map(filter).unwrap();
            for (vector, text) in [(Some(&[1.0, 0.0][..]), None), (None, Some("word")), (Some(&[1.0, 0.0][..]), Some("word"))] {
                let found = index.search(&Query { vector, text, top_k: 100, filter: Some(&parsed) }).unwrap();
                let mut found = ids(&found);
                found.sort_unstable();
                prop_assert_eq!(&found, &expected, "{:?} {:?}", filter, text);
            }
        }
    }
}
