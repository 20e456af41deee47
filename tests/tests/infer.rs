//! `infer` on a server of the Open Inference Protocol that is written here after the protocol's text:
//! it describes one model, whose output is twice its input.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};
use tests::{Engine, run_command, write_graph};
use tokio::net::TcpListener;

async fn describe() -> Json<Value> {
    let tensor = |name: &str| json!({ "name": name, "datatype": "FP32", "shape": [-1, 3] });
    Json(json!({
        "name": "double",
        "versions": ["1"],
        "platform": "tests",
        "inputs": [tensor("X")],
        "outputs": [tensor("Y")],
    }))
}

async fn infer(Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    let input = &body["inputs"][0];
    if body["outputs"] != json!([{ "name": "Y" }]) || input["name"] != "X" {
        let error = json!({ "error": "unexpected tensors" });
        return (StatusCode::BAD_REQUEST, Json(error));
    }
    let data = input["data"].as_array().unwrap().iter();
    let data: Vec<_> = data.map(|number| number.as_f64().unwrap() * 2.0).collect();
    let output = json!({ "name": "Y", "datatype": "FP32", "shape": input["shape"], "data": data });
    (
        StatusCode::OK,
        Json(json!({ "model_name": "double", "outputs": [output] })),
    )
}

/// The server's address.
async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new()
        .route("/v2/models/double", get(describe))
        .route("/v2/models/double/infer", post(infer));
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

fn file(url: &str, model: &str, input: &str, output: &str) -> String {
    format!(
        r#"
        graph double route="/double" {{
            input {{ numbers type=list of=number }}
            infer doubled {{
                url "{url}"
                model "{model}"
                input "{input}" "{{{{ input.numbers }}}}"
                output "{output}"
                timeout "30s"
            }}
            output {{ numbers "{{{{ doubled }}}}" }}
        }}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_called_with_tensors() {
    let (_folder, path) = write_graph(&file(&server().await, "double", "X", "Y"));
    let engine = Engine::start(&path);
    let ask = async |numbers: Value| engine.post("/double", json!({ "numbers": numbers })).await;
    let answer = ask(json!([1, 2.5, 3])).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json(), json!({ "numbers": [2.0, 5.0, 6.0] }));
    let wrong = ask(json!([1, 2])).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);
    assert!(
        wrong
            .text
            .contains("must have the shape [-1, 3], it has [1, 2]")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_does_not_have_is_found_at_the_start() {
    let url = server().await;
    let cases = [
        ("double", "Z", "Y", r#"has no input "Z"; it has X"#),
        ("double", "X", "Z", r#"has no output "Z"; it has Y"#),
        ("triple", "X", "Y", "answered 404"),
    ];
    for (model, input, output, reason) in cases {
        let (_folder, path) = write_graph(&file(&url, model, input, output));
        let path = path.to_str().unwrap().to_owned();
        let run = move || {
            run_command(&[
                "run",
                &path,
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ])
        };
        let ended = tokio::task::spawn_blocking(run).await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).replace('\n', " ");
        assert!(!ended.status.success(), "{said}");
        assert!(said.contains(reason), "{reason}: {said}");
    }
}
