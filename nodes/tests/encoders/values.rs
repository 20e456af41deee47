//! What the nodes take and give.

use super::{Shelf, golden, input, load};
use nodes::{Document, Embed, Input, Map, Model, Node, NodeError, OnThread, Rerank, Value};
use std::sync::Arc;

fn shelf() -> Arc<Shelf> {
    Arc::new(Shelf::default())
}

fn rerank(item: Input) -> Result<Value, NodeError> {
    Rerank::new(load(&golden("tiny-bert")), shelf())
        .forward(vec![item])
        .remove(0)
}

fn documents(value: &Value) -> Vec<&Document> {
    let document = |value: &'_ Value| match value {
        Value::Document(_) => {}
        other => panic!("{} is no document", other.type_name()),
    };
    let list = value.as_list().unwrap();
    list.iter().for_each(document);
    list.iter()
        .filter_map(|value| match value {
            Value::Document(document) => Some(document),
            _ => None,
        })
        .collect()
}

fn query() -> (&'static str, Value) {
    ("query", Value::text("what is a batch"))
}

#[test]
fn documents_come_best_first_and_as_many_as_wanted() {
    let given = |id: &str, text: &str| {
        Value::Document(Document {
            id: id.into(),
            text: text.into(),
            score: 7.0,
            metadata: Arc::new(Map::from_iter([("of".into(), Value::text(id))])),
        })
    };
    let texts = [
        ("a", "Rain is expected"),
        ("b", "when a replica is free"),
        ("c", "short"),
    ];
    let list = Value::list(texts.iter().map(|(id, text)| given(id, text)));
    let all = rerank(input([query(), ("documents", list.clone())])).unwrap();
    let all = documents(&all);
    assert_eq!(all.len(), 3);
    assert!(all.windows(2).all(|pair| pair[0].score >= pair[1].score));
    assert!(
        all.iter()
            .all(|d| d.metadata["of"].as_text().unwrap() == &d.id && d.score != 7.0)
    );
    let kept = rerank(input([
        query(),
        ("documents", list),
        ("keep", Value::Integer(2)),
    ]))
    .unwrap();
    let ids = |list: &[&Document]| list.iter().map(|d| Arc::clone(&d.id)).collect::<Vec<_>>();
    assert_eq!(ids(&documents(&kept)), ids(&all[..2]));
}

#[test]
fn documents_with_equal_scores_stay_in_their_order() {
    let list = Value::list(["same", "same", "same"].map(Value::text));
    let given = rerank(input([query(), ("documents", list)])).unwrap();
    let ids: Vec<_> = documents(&given).iter().map(|d| d.id.to_string()).collect();
    assert_eq!(ids, ["0", "1", "2"]);
}

#[test]
fn documents_may_come_as_json() {
    let map = Map::from_iter([
        ("id".into(), Value::Integer(5)),
        ("text".into(), Value::text("x")),
    ]);
    let list = Value::list([Value::Map(Arc::new(map))]);
    let given = rerank(input([query(), ("documents", list)])).unwrap();
    assert_eq!(&*documents(&given)[0].id, "5");
}

#[test]
fn no_documents_are_no_documents() {
    let given = rerank(input([query(), ("documents", Value::list([]))])).unwrap();
    assert!(documents(&given).is_empty());
}

#[test]
fn an_item_at_fault_is_told_and_the_others_are_answered() {
    let mut embed = Embed::new(load(&golden("tiny-bert")), shelf());
    let text = || ("text", Value::text("a batch"));
    let answers = embed.forward(vec![
        input([text()]),
        input([("text", Value::Integer(3))]),
        input([(
            "text",
            Value::list([Value::text("a"), Value::Boolean(true)]),
        )]),
        input([text(), ("adapter", Value::text("legal"))]),
        input([text(), ("adapter", Value::Integer(1))]),
        input([text()]),
    ]);
    let errors: Vec<_> = answers
        .iter()
        .map(|a| a.as_ref().err().map(ToString::to_string))
        .collect();
    let errors: Vec<_> = errors.iter().map(Option::as_deref).collect();
    assert_eq!(
        errors,
        [
            None,
            Some("a text or a list of texts is needed, this is integer"),
            Some("a text is needed, this is boolean"),
            Some("adapter \"legal\" does not exist"),
            Some("an adapter's name is needed, this is integer"),
            None,
        ]
    );
    assert!(matches!(answers[3], Err(NodeError::NotFound { .. })));
}

#[test]
fn bad_arguments_of_rerank_are_told() {
    let list = || ("documents", Value::list([Value::text("a")]));
    let error = |item| rerank(item).unwrap_err().to_string();
    assert_eq!(error(input([list()])), "a query is needed, this is none");
    assert_eq!(
        error(input([query()])),
        "a list of documents is needed, this is none"
    );
    assert_eq!(
        error(input([query(), list(), ("keep", Value::Integer(-1))])),
        "-1 documents cannot be kept"
    );
    let odd = Value::list([Value::Map(Arc::default())]);
    assert_eq!(
        error(input([query(), ("documents", odd)])),
        "the document at 0 has no \"text\""
    );
}

#[test]
fn a_model_without_a_classifier_scores_nothing() {
    let encoder = super::minilm();
    let item = input([query(), ("documents", Value::list([Value::text("a")]))]);
    let answer = Rerank::new(encoder, shelf()).forward(vec![item]).remove(0);
    let error = answer.unwrap_err();
    assert!(matches!(error, NodeError::Invalid { .. }));
    assert_eq!(
        error.to_string(),
        "the model has no classifier; an adapter must bring one"
    );
}

#[test]
fn the_cost_of_an_item_is_about_its_tokens() {
    let encoder = super::minilm();
    let embed = Embed::new(encoder.clone(), shelf());
    let cost = embed.cost();
    let of = |text: &str| cost(&input([("text", Value::text(text))]));
    assert!((8..16).contains(&of("A batch is formed when a replica is free.")));
    assert_eq!(of(&"long ".repeat(10_000)), 256);
    let pairs = Rerank::new(encoder, shelf()).cost();
    let list = Value::list(["short", "short"].map(Value::text));
    assert!((6..24).contains(&pairs(&input([query(), ("documents", list)]))));
}

#[tokio::test]
async fn nodes_run_on_threads_of_their_own_and_share_weights() {
    let encoder = load(&golden("tiny-bert"));
    let replica = || OnThread::spawn("embed", 2, Embed::new(encoder.clone(), shelf())).unwrap();
    let (first, second) = (replica(), replica());
    let batch = || vec![input([("text", Value::text("a batch is formed"))])];
    let (a, b) = tokio::join!(first.run(batch()), second.run(batch()));
    let (a, b) = (a[0].as_ref().unwrap(), b[0].as_ref().unwrap());
    assert_eq!(super::vector(a), super::vector(b));
    assert_eq!(super::vector(a).len(), encoder.dimensions());
    assert!(first.cost(&batch()[0]) > 2);
}
