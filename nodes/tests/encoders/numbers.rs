//! The same numbers as Python.

use super::{Shelf, distance, golden, input, load, minilm, read, real_models, reranker, vector};
use nodes::{
    Embed, Model, Rerank, Value,
    model::{Encoder, EncoderOptions, Sequence},
    ops::WeightType,
};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};

/// Distance by cosine that the digits of the recorded vectors leave.
const VECTOR_TOLERANCE: f64 = 1e-5;
const SCORE_TOLERANCE: f64 = 1e-3;
/// What bytes in place of floats may cost: 0.0018 where all 255 values of a byte are used, 0.0038 with AVX2.
const INT8_TOLERANCE: f64 = 5e-3;

#[derive(Deserialize)]
struct Embedding {
    text: String,
    tokens: Vec<u32>,
    vector: Vec<f32>,
}

#[derive(Deserialize)]
struct Scored {
    query: String,
    passage: String,
    #[serde(default)]
    tokens: Vec<u32>,
    #[serde(default)]
    types: Vec<u32>,
    score: f64,
}

#[derive(Deserialize)]
struct Recorded {
    #[serde(default)]
    embed: Vec<Embedding>,
    #[serde(default)]
    rerank: Vec<Scored>,
    model: Option<String>,
}

#[derive(Deserialize)]
struct Tiny {
    max_tokens: usize,
    models: BTreeMap<String, Recorded>,
    adapters: BTreeMap<String, Recorded>,
}

fn check_embeddings(encoder: &Encoder, shelf: Shelf, adapter: Option<&str>, wanted: &[Embedding]) {
    assert!(!wanted.is_empty());
    for want in wanted {
        let tokens = encoder.tokenize().text(&want.text).unwrap();
        assert_eq!(tokens.ids, want.tokens, "{:?}", want.text);
    }
    let adapter = adapter.map_or(Value::None, Value::text);
    let texts = Value::list(wanted.iter().map(|want| Value::text(&*want.text)));
    let item = input([("text", texts), ("adapter", adapter)]);
    let mut embed = Embed::new(encoder.clone(), Arc::new(shelf));
    let answers = embed.forward(vec![item]).remove(0).unwrap();
    for (have, want) in answers.as_list().unwrap().iter().zip(wanted) {
        let distance = distance(vector(have), &want.vector);
        assert!(distance < VECTOR_TOLERANCE, "{:?}: {distance}", want.text);
    }
}

fn check_scores(encoder: &Encoder, shelf: Shelf, adapter: Option<&str>, wanted: &[Scored]) {
    assert!(!wanted.is_empty());
    for want in wanted.iter().filter(|want| !want.tokens.is_empty()) {
        let first = encoder.tokenize().first(&want.query).unwrap();
        let tokens = encoder.tokenize().pair(&first, &want.passage).unwrap();
        assert_eq!(
            tokens.ids, want.tokens,
            "{:?} {:?}",
            want.query, want.passage
        );
        assert_eq!(
            tokens.types, want.types,
            "{:?} {:?}",
            want.query, want.passage
        );
    }
    let item = |want: &Scored| {
        input([
            ("query", Value::text(&*want.query)),
            ("documents", Value::list([Value::text(&*want.passage)])),
            ("adapter", adapter.map_or(Value::None, Value::text)),
        ])
    };
    let mut rerank = Rerank::new(encoder.clone(), Arc::new(shelf));
    let answers = rerank.forward(wanted.iter().map(item).collect());
    for (answer, want) in answers.into_iter().zip(wanted) {
        let answer = answer.unwrap();
        let [Value::Document(document)] = &**answer.as_list().unwrap() else {
            panic!("one document is wanted");
        };
        let difference = (document.score - want.score).abs();
        assert!(
            difference < SCORE_TOLERANCE,
            "{} for {}",
            document.score,
            want.score
        );
    }
}

#[test]
fn minilm_embeds_as_transformers_does() {
    let recorded: Recorded = read("minilm.json");
    check_embeddings(&minilm(), Shelf::default(), None, &recorded.embed);
}

#[test]
fn int8_weights_keep_the_direction_of_vectors() {
    let options = EncoderOptions {
        weights: WeightType::Int8,
        ..EncoderOptions::default()
    };
    let encoder = Encoder::load(&real_models::minilm(), &options).unwrap();
    let recorded: Recorded = read("minilm.json");
    let sequence = |want: &Embedding| Sequence {
        tokens: encoder.tokenize().text(&want.text).unwrap(),
        adapter: None,
    };
    let texts: Vec<_> = recorded.embed.iter().map(sequence).collect();
    let vectors = encoder.embed(&texts).unwrap();
    for (have, want) in vectors.iter().zip(&recorded.embed) {
        let distance = distance(have, &want.vector);
        assert!(distance < INT8_TOLERANCE, "{:?}: {distance}", want.text);
    }
}

#[test]
fn the_reranker_scores_as_peft_does() {
    let (encoder, recorded) = (minilm(), read::<Recorded>("reranker.json"));
    let shelf = Shelf::default().with(&encoder, "reranker", &reranker());
    check_scores(&encoder, shelf, Some("reranker"), &recorded.rerank);
}

#[test]
fn small_encoders_and_classifiers_agree_with_transformers() {
    let tiny: Tiny = read("tiny.json");
    assert_eq!(tiny.models.len(), 2);
    for (name, recorded) in &tiny.models {
        let encoder = load(&golden(name));
        assert_eq!(encoder.tokenize().max_tokens(), tiny.max_tokens);
        check_embeddings(&encoder, Shelf::default(), None, &recorded.embed);
        check_scores(&encoder, Shelf::default(), None, &recorded.rerank);
    }
}

#[test]
fn adapters_of_every_form_agree_with_peft() {
    let tiny: Tiny = read("tiny.json");
    assert_eq!(tiny.adapters.len(), 3);
    for (name, recorded) in &tiny.adapters {
        let encoder = load(&golden(recorded.model.as_ref().unwrap()));
        let shelf = || Shelf::default().with(&encoder, name, &golden("adapters").join(name));
        if !recorded.embed.is_empty() {
            check_embeddings(&encoder, shelf(), Some(name), &recorded.embed);
        }
        if !recorded.rerank.is_empty() {
            check_scores(&encoder, shelf(), Some(name), &recorded.rerank);
        }
    }
}

#[test]
fn a_text_is_cut_where_the_model_ends() {
    let encoder = minilm();
    let text = "word ".repeat(1000);
    let tokens = encoder.tokenize().text(&text).unwrap();
    assert_eq!(tokens.ids.len(), 256);
    assert_eq!((tokens.ids[0], tokens.ids[255]), (101, 102));
    let adapter = None;
    assert_eq!(
        encoder.embed(&[Sequence { tokens, adapter }]).unwrap()[0].len(),
        384
    );
}
