//! A text is the same whether its tokens are made one by one or guessed and checked: to the bit by our
//! kernels, and nearly so by candle's.

use super::*;
use nodes::generate::{Sampler, Sampling};

/// Guesses that are right, wrong, and right up to the second, on both sides of blocks of 32 positions and
/// of the window of 512.
#[test]
fn logits_are_those_of_single_steps() {
    let long: Long = read("long.json");
    let shelf = Shelf::of_examples(&gemma());
    for (start, adapter) in [(3, None), (30, Some("qa")), (509, None), (540, Some("qa"))] {
        let adapter = adapter.map(|name| shelf.get(name).unwrap());
        let adapter = adapter.as_ref();
        let mut bench = Bench::new(gemma());
        let (mut plain, mut guessing) = (bench.sequence(), bench.sequence());
        let head = &long.tokens[..start];
        for sequence in [&mut plain, &mut guessing] {
            for part in head.chunks(256) {
                bench.next(sequence, part, 0, adapter);
            }
        }
        let mut at = start;
        for right in [3, 0, 2, 3, 1] {
            let rows: Vec<u32> = (at..at + 4)
                .map(|i| match i <= at + right {
                    true => long.tokens[i],
                    false => 7,
                })
                .collect();
            let logits = bench.next(&mut guessing, &rows, 3, adapter);
            assert_eq!((logits.len(), guessing.len()), (4, at + 1));
            for (i, logits) in logits.iter().take(right + 1).enumerate() {
                let token = &long.tokens[at + i..][..1];
                let alone = bench.next(&mut plain, token, 0, adapter);
                assert!(is_same(logits, &alone[0]), "{start} + {}", at + i - start);
            }
            bench.cache.advance(&mut guessing, right);
            at += right + 1;
            assert_eq!((plain.len(), guessing.len()), (at, at));
        }
        bench.cache.release(plain);
        bench.cache.release(guessing);
        assert_eq!(bench.cache.bytes(), 0);
    }
}

/// The text of a prompt, made step by step.
fn one_by_one(
    prompt: &str,
    adapter: Option<&Arc<Adapter>>,
    sampling: Sampling,
    count: usize,
) -> String {
    let mut bench = Bench::new(gemma());
    let model = gemma();
    let tokens = model.tokenizer.encode(prompt).unwrap();
    let mut sampler = Sampler::new(sampling, &tokens);
    let mut sequence = bench.sequence();
    let (mut unread, mut text) = (tokens, Vec::new());
    for _ in 0..count {
        let logits = bench.next(&mut sequence, &unread, 0, adapter);
        let token = sampler.next(Scores::All(&logits[0])).unwrap();
        if model.tokenizer.is_end(token) {
            break;
        }
        model.tokenizer.bytes(token, &mut text);
        unread = vec![token];
    }
    bench.cache.release(sequence);
    String::from_utf8_lossy(&text).into_owned()
}

const PASSAGES: &str = "[pdfmill] pdfmill splits and joins PDF files on the command line.\n\
    [boatlog] boatlog keeps a log of where a boat has sailed, and draws it on a map.\n\
    Question: Which program draws where a boat has sailed on a map?\nAnswer:";

/// Texts that repeat what stands before them, greedily and by chance; some of their tokens are guessed.
#[tokio::test]
async fn texts_are_those_of_single_steps() {
    let node = start(gemma(), &GenerateOptions::default());
    let shelf = Shelf::of_examples(&gemma());
    let list = "one two three, one two three, one two three, one two";
    let by_chance = Sampling {
        temperature: 0.7,
        top_p: Some(0.9),
        repetition_penalty: 1.05,
        seed: 5,
        ..Sampling::default()
    };
    let mut guessed = 0;
    for (prompt, adapter, sampling, count) in [
        (PASSAGES, Some("qa"), Sampling::default(), 40),
        (list, None, Sampling::default(), 41),
        (list, None, by_chance, 64),
    ] {
        let adapter_value = adapter.map_or(Value::None, Value::text);
        let arguments = Arguments::from_iter([
            ("prompt", Value::text(prompt)),
            ("adapter", adapter_value),
            ("max-tokens", Value::Integer(count)),
            ("temperature", Value::Number(sampling.temperature.into())),
            (
                "top-p",
                sampling
                    .top_p
                    .map_or(Value::None, |p| Value::Number(p.into())),
            ),
            (
                "repetition-penalty",
                Value::Number(sampling.repetition_penalty.into()),
            ),
            ("seed", Value::Integer(sampling.seed as i64)),
        ]);
        let (text, finish) = by_node(&node, arguments).await;
        let adapter = adapter.map(|name| shelf.get(name).unwrap());
        let expected = one_by_one(prompt, adapter.as_ref(), sampling, count as usize);
        if has_kernels(&real_models::device()) {
            assert_eq!(text, expected);
        }
        assert!(finish.guessed_tokens < finish.completion_tokens);
        guessed += finish.guessed_tokens;
    }
    assert!(guessed > 0);
}
