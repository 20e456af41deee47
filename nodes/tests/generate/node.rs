//! The node: streams, stops, limits, deadlines, and items that come and go.

use super::*;
use nodes::{FinishReason, TextStream};
use std::time::Duration;
use tokio::time::{Instant, timeout};

fn input<const N: usize>(arguments: [(&str, Value); N]) -> Input {
    Input {
        arguments: Arguments::from_iter(arguments),
        context: Context::default(),
    }
}

async fn run(node: &Generate, input: Input) -> Result<TextStream, NodeError> {
    match node.run(vec![input]).await.pop().unwrap()? {
        Value::Stream(stream) => Ok(stream),
        other => panic!("{other:?}"),
    }
}

async fn text<const N: usize>(
    node: &Generate,
    arguments: [(&str, Value); N],
) -> Result<(String, Finish), NodeError> {
    run(node, input(arguments)).await?.collect().await
}

fn two_threads() -> GenerateOptions {
    GenerateOptions {
        threads: 2,
        ..GenerateOptions::default()
    }
}

/// The first seven tokens after it have margins of at least 0.4.
const OPPOSITE: &str = "The opposite of hot is";

#[tokio::test]
async fn a_prompt_is_continued_up_to_max_tokens_or_a_stop() {
    let node = start(gemma(), &two_threads());
    let prompt = ("prompt", Value::text(OPPOSITE));
    let (whole, finish) = text(&node, [prompt.clone(), ("max-tokens", Value::Integer(7))])
        .await
        .unwrap();
    assert_eq!(whole, " cold.\n\nThe opposite of cold");
    let expected = Finish {
        reason: FinishReason::Length,
        prompt_tokens: 6,
        cached_tokens: 0,
        completion_tokens: 7,
        guessed_tokens: finish.guessed_tokens,
    };
    assert_eq!(finish, expected);
    let stopped = [
        prompt,
        ("max-tokens", Value::Integer(7)),
        ("stop", Value::text("nowhere")),
        ("stop", Value::text("posite of c")),
    ];
    let (cut, finish) = text(&node, stopped).await.unwrap();
    assert_eq!(cut, " cold.\n\nThe op");
    assert_eq!(finish.reason, FinishReason::Stop);
}

#[tokio::test]
async fn an_adapter_answers_as_it_was_trained() {
    let node = start(gemma(), &two_threads());
    let case = &read::<Cases>("adapters.json").generate[0];
    let arguments = [
        ("prompt", Value::text(&*case.prompt)),
        ("adapter", Value::text("qa")),
        ("max-tokens", Value::Integer(24)),
    ];
    let (answer, finish) = text(&node, arguments).await.unwrap();
    assert_eq!(answer, " pdfmill: a tool to split PDF files.");
    assert_eq!(finish.reason, FinishReason::Stop);
}

#[tokio::test]
async fn items_that_cannot_be_are_refused_before_they_stream() {
    let options = GenerateOptions {
        max_context: Some(20),
        ..GenerateOptions::default()
    };
    let node = start(gemma(), &options);
    let prompt = |text: &str| ("prompt", Value::text(text));
    let cases = [
        (
            input([prompt("x"), ("adapter", Value::text("nobody"))]),
            "adapter \"nobody\" does not exist",
        ),
        (
            input([prompt(&"word ".repeat(40))]),
            "the prompt has 42 tokens, and there is room for 19",
        ),
        (
            input([prompt("x"), ("temperature", Value::Integer(-1))]),
            "temperature must be a number 0 or more",
        ),
        (
            input([("user", Value::text("hello"))]),
            "the model has no chat template: give it a prompt and not messages",
        ),
        (input([]), "neither a prompt nor messages are given"),
    ];
    for (input, expected) in cases {
        let error = run(&node, input).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    // Near the limit there are fewer tokens.
    let near = [
        prompt(&"word ".repeat(10)),
        ("max-tokens", Value::Integer(1000)),
    ];
    let (_, finish) = text(&node, near).await.unwrap();
    assert!(
        finish.prompt_tokens + finish.completion_tokens <= 20,
        "{finish:?}"
    );
}

#[tokio::test]
async fn a_seed_repeats_a_sampled_text() {
    let node = start(tiny("qwen3"), &GenerateOptions::default());
    let sampled = |seed| {
        let arguments = [
            ("prompt", Value::text("The boats")),
            ("max-tokens", Value::Integer(24)),
            ("temperature", Value::Number(1.5)),
            ("top-k", Value::Integer(50)),
            ("top-p", Value::Number(0.95)),
            ("repetition-penalty", Value::Number(1.1)),
            ("seed", Value::Integer(seed)),
        ];
        text(&node, arguments)
    };
    let first = sampled(1).await.unwrap();
    assert_eq!(first, sampled(1).await.unwrap());
    assert_ne!(first.0, sampled(2).await.unwrap().0);
}

/// Items that come while others are under way get what they would get alone, whatever the order in
/// which they come and go; waiting for room included.
#[tokio::test]
async fn items_come_and_go_and_get_their_own() {
    let model = tiny("llama3");
    let options = GenerateOptions {
        max_sequences: 3,
        prompt_rows: 8,
        prompt_rows_beside: 3,
        ..GenerateOptions::default()
    };
    let node = Arc::new(start(Arc::clone(&model), &options));
    let item = |index: usize| {
        let prompt = "boats in the rain ".repeat(1 + index % 4) + &index.to_string();
        input([
            ("prompt", Value::text(prompt)),
            ("max-tokens", Value::Integer(5 + 3 * (index as i64 % 5))),
        ])
    };
    let mut alone = Vec::new();
    for index in 0..12 {
        alone.push(
            run(&node, item(index))
                .await
                .unwrap()
                .collect()
                .await
                .unwrap(),
        );
    }
    let together = (0..12).map(|index| {
        let (node, item) = (Arc::clone(&node), item(index));
        tokio::spawn(async move { run(&node, item).await.unwrap().collect().await.unwrap() })
    });
    let together = futures::future::join_all(together.collect::<Vec<_>>()).await;
    for (alone, together) in alone.into_iter().zip(together) {
        assert_eq!(alone, together.unwrap());
    }
}

#[tokio::test]
async fn a_text_that_nobody_reads_makes_room() {
    let options = GenerateOptions {
        max_sequences: 1,
        ..two_threads()
    };
    let node = start(gemma(), &options);
    let endless = || {
        input([
            ("prompt", Value::text(OPPOSITE)),
            ("max-tokens", Value::Integer(20_000)),
        ])
    };
    let mut first = run(&node, endless()).await.unwrap();
    first.next().await.unwrap().unwrap();
    // Not admitted while the first is under way.
    let second = timeout(Duration::from_millis(300), run(&node, endless())).await;
    assert!(second.is_err());
    drop(first);
    let third = timeout(Duration::from_secs(20), run(&node, endless())).await;
    let mut third = third.unwrap().unwrap();
    third.next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_deadline_ends_a_text_and_a_wait() {
    let options = GenerateOptions {
        max_sequences: 1,
        ..two_threads()
    };
    let node = start(gemma(), &options);
    let until = |time| {
        let mut input = input([
            ("prompt", Value::text(OPPOSITE)),
            ("max-tokens", Value::Integer(20_000)),
        ]);
        input.context.deadline = Some(Instant::now() + time);
        input
    };
    let first = run(&node, until(Duration::from_secs(3))).await.unwrap();
    let second = run(&node, until(Duration::from_millis(200)))
        .await
        .unwrap_err();
    assert!(matches!(second, NodeError::Timeout { .. }), "{second}");
    let mut reader = first.clone();
    assert!(reader.next().await.unwrap().is_ok());
    let error = first.collect().await.unwrap_err();
    assert!(matches!(error, NodeError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn dropping_the_node_ends_it_after_the_texts_under_way() {
    let node = start(tiny("qwen2"), &GenerateOptions::default());
    let arguments = [
        ("prompt", Value::text("boats")),
        ("max-tokens", Value::Integer(200)),
    ];
    let stream = run(&node, input(arguments)).await.unwrap();
    drop(node);
    let (_, finish) = stream.collect().await.unwrap();
    assert!(finish.completion_tokens > 0);
}
