//! The `search` node.

use crate::{map, new_index, record};
use nodes::{Arguments, Input, Node, Search, Value, index::Index, store::Embedded};
use std::{num::NonZeroUsize, sync::Arc};

fn item(arguments: &[(&str, Value)]) -> Input {
    Input {
        arguments: Arguments::from_iter(arguments.iter().cloned()),
        context: Default::default(),
    }
}

async fn ask(node: &Search, arguments: &[(&str, Value)]) -> Result<Vec<String>, String> {
    let mut answers = node.run(vec![item(arguments)]).await;
    assert_eq!(answers.len(), 1);
    let answer = answers.remove(0).map_err(|error| error.to_string())?;
    let documents = answer.as_list().unwrap().iter();
    let ids = documents.map(|document| match document {
        Value::Document(document) => document.id.to_string(),
        other => panic!("{other:?}"),
    });
    Ok(ids.collect())
}

fn filled() -> (tempfile::TempDir, Index) {
    let (folder, index) = new_index(2);
    let mut writer = index.writer().unwrap();
    for (number, id) in ["a", "b", "c"].iter().enumerate() {
        let mut record = record(id, &format!("word{number} shared"), &[1.0, number as f32]);
        record.metadata = map(&[("number", Value::Integer(number as i64))]);
        writer.upsert(&record).unwrap();
    }
    writer.finish().unwrap();
    (folder, index)
}

fn search(index: Index) -> Search {
    Search::new(Arc::new(Embedded::new(index, NonZeroUsize::MIN)))
}

#[tokio::test]
async fn items_are_answered_one_by_one() {
    let (_folder, index) = filled();
    let node = search(index);
    let vector = || Value::Vector([1.0, 0.0].into());
    let list = Value::list([Value::Integer(1), Value::Number(2.0)]);
    let from_one = Value::Map(map(&[("gte", Value::Integer(1))]).into());
    let filter = Value::Map(map(&[("number", from_one)]).into());
    let found = |ids: &[&str]| Ok(ids.iter().map(ToString::to_string).collect());
    let failed = |reason: &str| Err(reason.to_owned());
    let cases = [
        (vec![("vector", vector())], found(&["a", "b", "c"])),
        (
            vec![("vector", vector()), ("top-k", Value::Integer(1))],
            found(&["a"]),
        ),
        (vec![("vector", list)], found(&["c", "b", "a"])),
        (vec![("text", Value::text("word1"))], found(&["b"])),
        (
            vec![("text", Value::text("shared")), ("filter", filter)],
            found(&["b", "c"]),
        ),
        (
            vec![
                ("text", Value::text("word2")),
                ("vector", vector()),
                ("top-k", Value::Number(2.0)),
            ],
            found(&["c", "a"]),
        ),
        (
            vec![("vector", Value::None), ("text", Value::None)],
            failed("the search has neither a vector nor a text"),
        ),
        (
            vec![("text", Value::Integer(1))],
            failed("the search's text must be a text, not integer"),
        ),
        (
            vec![("vector", Value::text("x"))],
            failed("the search's vector must be a vector, not text"),
        ),
        (
            vec![("vector", Value::list([Value::None]))],
            failed("the vector holds more than numbers"),
        ),
        (
            vec![("vector", vector()), ("top-k", Value::Integer(1001))],
            failed("top-k is 1001; it can be 1 to 1000"),
        ),
        (
            vec![("vector", vector()), ("top-k", Value::Integer(-1))],
            failed("top-k is -1; it can be 1 to 1000"),
        ),
        (
            vec![("vector", Value::Vector([1.0].into()))],
            failed("the vector has 1 numbers; the index has vectors of 2"),
        ),
        (
            vec![("vector", vector()), ("filter", Value::text("x"))],
            failed("the search's filter must be a map, not text"),
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(ask(&node, &arguments).await, expected, "{arguments:?}");
    }
}

#[tokio::test]
async fn commits_of_others_are_seen() {
    let (folder, index) = filled();
    let node = search(index);
    let elsewhere = Index::open(folder.path()).unwrap();
    let mut writer = elsewhere.writer().unwrap();
    writer.upsert(&record("d", "another", &[0.0, 1.0])).unwrap();
    writer.commit().unwrap();
    // The search that notices the commit still sees the old state; a later one sees the new.
    let another = [("text", Value::text("another"))];
    while ask(&node, &another).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&node, &another).await.unwrap(), ["d"]);
}
