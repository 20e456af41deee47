//! An item's result does not depend on what else is in its batch.

use super::{Shelf, golden, input, load, minilm, reranker, vector};
use nodes::{Embed, Input, Model, NodeError, Rerank, Value, model::Encoder};
use proptest::{collection::vec, option, prelude::*, sample::select, test_runner::Config};
use std::sync::{Arc, LazyLock};

/// How far a number may move because products of another number of rows add up in another order.
const TOLERANCE: f32 = 2e-4;

const WORDS: [&str; 6] = ["a batch", "is formed", "when", "nobody waits", "Ärger", "?"];

fn text() -> impl Strategy<Value = String> {
    vec(select(&WORDS[..]), 0..12).prop_map(|words| words.join(" "))
}

/// A small model and its adapters, loaded once for all cases.
static TINY_BERT: LazyLock<(Encoder, Arc<Shelf>)> = LazyLock::new(|| {
    let encoder = load(&golden("tiny-bert"));
    let shelf = ["patterns", "regex"]
        .iter()
        .fold(Shelf::default(), |shelf, name| {
            shelf.with(&encoder, name, &golden("adapters").join(name))
        });
    (encoder, Arc::new(shelf))
});

fn adapter(name: Option<&str>) -> Value {
    name.map_or(Value::None, Value::text)
}

/// Runs a batch, and each of its items alone.
fn both(model: &mut impl Model, batch: &[Input]) -> [Vec<Result<Value, NodeError>>; 2] {
    let alone = batch
        .iter()
        .flat_map(|item| model.forward(vec![item.clone()]))
        .collect();
    [model.forward(batch.to_vec()), alone]
}

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= TOLERANCE
}

proptest! {
    #![proptest_config(Config { cases: 48, ..Config::default() })]

    #[test]
    fn embeddings_of_a_batch_are_those_of_each_text(
        items in vec((vec(text(), 0..5), option::of(select(&["patterns", "regex"][..]))), 1..12)
    ) {
        let (encoder, shelf) = TINY_BERT.clone();
        let mut model = Embed::new(encoder, shelf);
        let item = |(texts, name): &(Vec<String>, Option<&str>)| {
            let texts = Value::list(texts.iter().map(|text| Value::text(&**text)));
            input([("text", texts), ("adapter", adapter(*name))])
        };
        let batch: Vec<_> = items.iter().map(item).collect();
        let [together, alone] = both(&mut model, &batch);
        for (i, (a, b)) in together.into_iter().zip(alone).enumerate() {
            let (a, b) = (a.unwrap(), b.unwrap());
            let (a, b) = (a.as_list().unwrap(), b.as_list().unwrap());
            prop_assert_eq!(a.len(), items[i].0.len());
            for (a, b) in a.iter().zip(b.iter()) {
                prop_assert!(vector(a).iter().zip(vector(b)).all(|(a, b)| close(*a, *b)));
            }
        }
    }

    #[test]
    fn scores_of_a_batch_are_those_of_each_pair(
        items in vec((text(), text(), any::<bool>()), 1..16)
    ) {
        let (encoder, shelf) = TINY_BERT.clone();
        let mut model = Rerank::new(encoder, shelf);
        let item = |(query, passage, adapted): &(String, String, bool)| {
            input([
                ("query", Value::text(&**query)),
                ("documents", Value::list([Value::text(&**passage)])),
                ("adapter", adapter(adapted.then_some("patterns"))),
            ])
        };
        let batch: Vec<_> = items.iter().map(item).collect();
        let [together, alone] = both(&mut model, &batch);
        for (a, b) in together.into_iter().zip(alone) {
            let score = |value: Value| match &value.as_list().unwrap()[0] {
                Value::Document(document) => document.score as f32,
                _ => panic!("a document is wanted"),
            };
            prop_assert!(close(score(a.unwrap()), score(b.unwrap())));
        }
    }
}

#[test]
fn a_large_batch_of_mixed_lengths_is_split_and_put_together_again() {
    let mut model = Embed::new(minilm(), Arc::new(Shelf::default()));
    let text = |n: usize| Value::text("the queue is full and says so ".repeat(1 + n * 7 % 40));
    let batch: Vec<_> = (0..24).map(|n| input([("text", text(n))])).collect();
    let [together, alone] = both(&mut model, &batch);
    for (a, b) in together.into_iter().zip(alone) {
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(
            vector(&a)
                .iter()
                .zip(vector(&b))
                .all(|(a, b)| close(*a, *b))
        );
    }
}

#[test]
fn the_reranker_and_the_bare_model_share_a_batch() {
    let encoder = minilm();
    let shelf = Arc::new(Shelf::default().with(&encoder, "reranker", &reranker()));
    let mut embed = Embed::new(encoder, shelf);
    let item = |name| {
        input([
            ("text", Value::text("split a pdf")),
            ("adapter", adapter(name)),
        ])
    };
    let batch = [
        item(None),
        item(Some("reranker")),
        item(None),
        item(Some("reranker")),
    ];
    let [together, alone] = both(&mut embed, &batch);
    let together: Vec<_> = together.into_iter().map(Result::unwrap).collect();
    for (a, b) in together.iter().zip(alone) {
        assert!(
            vector(a)
                .iter()
                .zip(vector(&b.unwrap()))
                .all(|(a, b)| close(*a, *b))
        );
    }
    let [bare, adapted, ..] = &*together else {
        panic!("four vectors are wanted");
    };
    assert!(super::distance(vector(bare), vector(adapted)) > 0.01);
}
