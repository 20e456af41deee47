//! `infer` on real servers: Triton, which has binary tensors, and MLServer, which has not; over REST and
//! over gRPC. Whatever way tensors travel, the answers are the same.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use futures::future::join_all;
use serde_json::{Value, json};
use std::fmt::Write as _;
use tests::{Engine, inference::Inference, run_command, write_graph};

/// Graphs `NAME` and `NAME-batched` over a model.
fn graphs(file: &mut String, name: &str, url: &str, model: &str, input: &str) {
    for (suffix, batch) in [
        ("", ""),
        ("-batched", "batch max-size=8 max-wait=\"500ms\""),
    ] {
        write!(
            file,
            r#"
            graph {name}{suffix} route="/{name}{suffix}" {{
                input {{ x {input} }}
                infer y {{
                    url "{url}"
                    model "{model}"
                    input "X" "{{{{ input.x }}}}"
                    timeout "60s"
                    {batch}
                }}
                output {{ y "{{{{ y }}}}" }}
            }}"#
        )
        .unwrap();
    }
}

/// The graphs that [`check`] asks, over both ways to a server.
fn checked(server: &Inference) -> String {
    let mut file = String::new();
    for (name, url) in [("rest", &server.rest), ("grpc", &server.grpc)] {
        let named = |input: &str| format!("{name}-{input}");
        graphs(&mut file, &named("numbers"), url, "double", NUMBERS);
        graphs(&mut file, &named("texts"), url, "shout", TEXT);
    }
    file
}

const NUMBERS: &str = "type=list of=number";
const TEXT: &str = "type=string";

async fn ask(engine: &Engine, name: &str, x: Value) -> (u16, Value) {
    let answer = engine.post(&format!("/{name}"), json!({ "x": x })).await;
    (answer.status, answer.json())
}

/// What every way to a server must give.
async fn check(engine: &Engine, name: &str) {
    let numbers = format!("{name}-numbers");
    let (status, answer) = ask(engine, &numbers, json!([1, 2.5, -3])).await;
    assert_eq!(
        (status, &answer),
        (200, &json!({ "y": [2.0, 5.0, -6.0] })),
        "{name}"
    );
    let (status, answer) = ask(engine, &numbers, json!([1, 2])).await;
    assert_eq!(status, 400, "{name}: {answer}");
    let (status, answer) = ask(engine, &format!("{name}-texts"), json!("größe")).await;
    assert_eq!(
        (status, &answer),
        (200, &json!({ "y": "GRÖSSE" })),
        "{name}"
    );
    // Eight in one request, one of which the model refuses: the others have their own answers.
    let batched = format!("{name}-numbers-batched");
    let asked = (0..8).map(|n| {
        let wrong = if n == 5 { -1 } else { n };
        ask(engine, &batched, json!([n, wrong, 0.5]))
    });
    for (n, (status, answer)) in join_all(asked).await.into_iter().enumerate() {
        match n {
            5 => assert!(
                answer.to_string().contains("the model refuses it"),
                "{name}: {answer}"
            ),
            n => {
                assert_eq!(status, 200, "{name} {n}: {answer}");
                assert_eq!(
                    answer,
                    json!({ "y": [2.0 * n as f64, 2.0 * n as f64, 1.0] })
                );
            }
        }
    }
    let batched = format!("{name}-texts-batched");
    let asked = ["a", "bad", "c"].map(|text| ask(engine, &batched, json!(text)));
    let answers = join_all(asked).await;
    assert_eq!(answers[0].1, json!({ "y": "A" }), "{name}");
    assert!(answers[1].0 >= 400, "{name}: {answers:?}");
    assert_eq!(answers[2].1, json!({ "y": "C" }), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn triton_answers_over_binary_rest_and_grpc() {
    let server = tokio::task::spawn_blocking(Inference::triton)
        .await
        .unwrap();
    let mut file = checked(&server);
    for (name, url) in [("rest", &server.rest), ("grpc", &server.grpc)] {
        // Elements that JSON does not carry.
        graphs(&mut file, &format!("{name}-halves"), url, "half", NUMBERS);
    }
    let (_folder, path) = write_graph(&file);
    let engine = Engine::start(&path);
    for name in ["rest", "grpc"] {
        check(&engine, name).await;
        for halves in [format!("{name}-halves"), format!("{name}-halves-batched")] {
            let (status, answer) = ask(&engine, &halves, json!([0.1, 2, 60000])).await;
            // 0.1 is 0.0999755859375 in FP16, and 120000 is beyond it.
            assert_eq!(status, 200, "{halves}: {answer}");
            assert_eq!(
                answer["y"][0].as_f64().map(|n| n as f32),
                Some(0.199_951_17),
                "{answer}"
            );
            assert_eq!(answer["y"][1], json!(4.0));
            assert_eq!(answer["y"][2], Value::Null, "infinite");
        }
    }
    for url in [&server.rest, &server.grpc] {
        let mut file = String::new();
        graphs(&mut file, "lost", url, "missing", NUMBERS);
        let (_folder, path) = write_graph(&file);
        let said = refused(path.to_str().unwrap().to_owned()).await;
        assert!(said.contains("missing"), "{said}");
        assert!(
            said.contains("does not exist") || said.contains("answered"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mlserver_answers_over_json_and_grpc() {
    let server = tokio::task::spawn_blocking(Inference::mlserver)
        .await
        .unwrap();
    let (_folder, path) = write_graph(&checked(&server));
    let engine = Engine::start(&path);
    for name in ["rest", "grpc"] {
        check(&engine, name).await;
    }
}

/// What the engine says of a file that it does not run.
async fn refused(path: String) -> String {
    let run = move || {
        let own = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        run_command(&[&["run", path.as_str()], &own[..]].concat())
    };
    let ended = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(!ended.status.success());
    String::from_utf8_lossy(&ended.stderr).replace('\n', " ")
}
