//! `infer` over gRPC on a server that is written here after the protocol's text, for what real servers do
//! not do when they are told to: it reads and gives typed contents and does not describe itself, as
//! TorchServe, and answers with the status that its first element asks for.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use axum::{Router, body::Body, extract::Request, response::Response};
use prost::Message;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tests::{Engine, write_graph};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tonic::{Code, Status, server::Grpc};
use tonic_prost::ProstCodec;
use tower::service_fn;

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    contents: Option<Contents>,
}

#[derive(Clone, PartialEq, Message)]
struct Contents {
    #[prost(float, repeated, tag = "6")]
    fp32: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct Described {
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<Tensor>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Tensor>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Answered {
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
}

/// What the server has seen.
#[derive(Default)]
struct Seen {
    /// The header `grpc-timeout` of the last call of the model.
    timeout: Option<String>,
    /// Calls that never end, and those of them that were given up.
    begun: usize,
    left: usize,
}

type Shared = Arc<Mutex<Seen>>;

/// Notes that a call was given up.
struct Left(Shared);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.lock().unwrap().left += 1;
    }
}

fn tensor(name: &str) -> Tensor {
    Tensor {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![-1, 2],
        contents: None,
    }
}

/// Twice the input; or the status whose number is the first element, and nothing ever for -1.
async fn infer(
    seen: Shared,
    asked: tonic::Request<Asked>,
) -> Result<tonic::Response<Answered>, Status> {
    let header = asked.metadata().get("grpc-timeout");
    let header = header.map(|header| header.to_str().unwrap().to_owned());
    seen.lock().unwrap().timeout = header;
    let Asked {
        mut inputs, raw, ..
    } = asked.into_inner();
    if !raw.is_empty() {
        return Err(Status::internal("raw elements are not read"));
    }
    let mut output = inputs.remove(0);
    let numbers = &mut output.contents.as_mut().unwrap().fp32;
    match numbers[0] as i32 {
        -1 => {
            seen.lock().unwrap().begun += 1;
            let _left = Left(Arc::clone(&seen));
            std::future::pending::<()>().await;
        }
        code @ 1..=16 => return Err(Status::new(Code::from_i32(code), "as asked")),
        _ => {}
    }
    numbers.iter_mut().for_each(|number| *number *= 2.0);
    output.name = "Y".to_owned();
    Ok(tonic::Response::new(Answered {
        outputs: vec![output],
    }))
}

async fn answer(seen: Shared, request: Request) -> Result<Response, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
    let answer = match method.as_str() {
        "ModelMetadata" => {
            let describe = service_fn(async |_: tonic::Request<()>| {
                Ok::<_, Status>(tonic::Response::new(Described {
                    inputs: vec![tensor("X")],
                    outputs: vec![tensor("Y")],
                }))
            });
            Grpc::new(ProstCodec::default())
                .unary(describe, request)
                .await
        }
        "ModelInfer" => {
            let infer = service_fn(move |asked| infer(Arc::clone(&seen), asked));
            Grpc::new(ProstCodec::default()).unary(infer, request).await
        }
        other => Status::unimplemented(other).into_http(),
    };
    Ok(answer.map(Body::new))
}

/// An engine on the server, with what that has seen.
async fn engine(timeout: &str) -> (Engine, Shared, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Shared::default();
    let given = Arc::clone(&seen);
    let app = Router::new().fallback_service(service_fn(move |request| {
        answer(Arc::clone(&given), request)
    }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let (folder, path) = write_graph(&format!(
        r#"
        graph double route="/double" {{
            input {{ x type=list of=number }}
            infer y {{
                url "grpc://{address}"
                model "double"
                input "X" "{{{{ input.x }}}}"
                timeout "{timeout}"
            }}
            output {{ y "{{{{ y }}}}" }}
        }}"#
    ));
    (Engine::start(&path), seen, folder)
}

async fn ask(engine: &Engine, first: i32) -> (u16, Value) {
    let answer = engine.post("/double", json!({ "x": [first, 0.5] })).await;
    (answer.status, answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_typed_contents_gets_them_and_its_statuses_are_classes() {
    let (engine, seen, _folder) = engine("50s").await;
    assert_eq!(ask(&engine, 20).await, (200, json!({ "y": [40.0, 1.0] })));
    // The time that is left, at most eight digits and a unit, as gRPC has it.
    let header = seen.lock().unwrap().timeout.clone().unwrap();
    let (digits, unit) = header.split_at(header.len() - 1);
    let seconds = digits.parse::<f64>().unwrap()
        * match unit {
            "n" => 1e-9,
            "u" => 1e-6,
            "m" => 1e-3,
            "S" => 1.0,
            other => panic!("{other}"),
        };
    assert!(seconds > 0.0 && seconds <= 50.0, "{header}");
    for (code, status, words) in [
        (
            Code::InvalidArgument,
            400,
            "answered INVALID_ARGUMENT: as asked",
        ),
        (Code::NotFound, 404, "model \\\"double\\\" does not exist"),
        (Code::ResourceExhausted, 503, ""),
        (Code::Unavailable, 503, "answered UNAVAILABLE: as asked"),
        (Code::Aborted, 503, "answered ABORTED: as asked"),
        (Code::DeadlineExceeded, 504, ""),
        (Code::Internal, 500, ""),
        (Code::Unimplemented, 500, ""),
        (Code::PermissionDenied, 500, ""),
    ] {
        let (got, problem) = ask(&engine, code as i32).await;
        let problem = problem.to_string();
        assert_eq!(got, status, "{code:?}: {problem}");
        assert!(problem.contains(words), "{code:?}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_learns_that_nobody_waits_any_more() {
    let (engine, seen, _folder) = engine("1s").await;
    let (status, problem) = ask(&engine, -1).await;
    assert_eq!(status, 504, "{problem}");
    assert!(
        is_left(&seen).await,
        "the call is given up when its time is over"
    );
    assert_eq!(ask(&engine, 20).await.0, 200, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_call() {
    let (engine, seen, _folder) = engine("50s").await;
    let begun = async {
        while seen.lock().unwrap().begun == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = engine.post("/double", json!({ "x": [-1, 0] })) => panic!("{answer:?}"),
        () = begun => {}
    }
    assert!(is_left(&seen).await);
}

/// Waits until a call was given up.
async fn is_left(seen: &Shared) -> bool {
    let left = async {
        while seen.lock().unwrap().left == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), left).await.is_ok()
}
