//! HTTP nodes on real servers: one that behaves, and one that does whatever a socket can do.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Redirect},
    routing::any,
};
use nodes::{Context, Http, Input, Node, NodeError, Running, Value};
use schema::{Source, SourceId, Work};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

/// The node that a file declares; values of its ports are given by the tests.
fn node(options: &str) -> Http {
    let text = format!(
        r#"graph g {{ input {{ x type=string }}
            http h {{ {options} }}
            output {{ y "{{{{ h }}}}" }} }}"#
    );
    let source = Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text,
    };
    let (document, problems) = schema::parse(&source, &|_| Some("s3cret".to_owned()));
    assert!(problems.is_empty(), "{problems:?}");
    match &document.graphs[0].nodes[0].work {
        Work::Http(work) => Http::new(work).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn input(arguments: &[(&str, Value)]) -> Input {
    let arguments = arguments.iter();
    Input {
        arguments: arguments
            .map(|(name, value)| (*name, value.clone()))
            .collect(),
        context: Context::default(),
    }
}

async fn ask(node: &Http, arguments: &[(&str, Value)]) -> Result<Value, NodeError> {
    node.run(vec![input(arguments)]).await.remove(0)
}

async fn say(node: &Http, arguments: &[(&str, Value)]) -> String {
    match ask(node, arguments).await {
        Ok(value) => String::from_utf8(value.to_json().unwrap()).unwrap(),
        Err(error) => class(&error),
    }
}

fn class(error: &NodeError) -> String {
    let name = match error {
        NodeError::Invalid { .. } => "invalid",
        NodeError::Unavailable { .. } => "unavailable",
        NodeError::Timeout { .. } => "timeout",
        NodeError::Failed { .. } => "failed",
        _ => "other",
    };
    format!("{name}: {error}")
}

/// A server that tells what it was asked, and answers with a status that its path names.
async fn server() -> SocketAddr {
    async fn echo(request: Request) -> impl IntoResponse {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
        axum::Json(serde_json::json!({
            "method": head.method.as_str(),
            "uri": head.uri.to_string(),
            "type": header("content-type"),
            "key": header("x-key"),
            "city": header("x-city"),
            "encodings": header("accept-encoding"),
            "body": String::from_utf8_lossy(&body),
        }))
    }
    async fn status(request: Request) -> impl IntoResponse {
        let status = request.uri().path().rsplit('/').next().unwrap();
        let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
        (status, [("retry-after", "7")], "sorry")
    }
    let router = Router::new()
        .route("/echo", any(echo))
        .route("/status/{status}", any(status))
        .route("/text", any(|| async { "plain" }))
        .route("/empty", any(|| async { StatusCode::NO_CONTENT }))
        .route(
            "/away",
            any(|| async { Redirect::temporary("http://127.0.0.1:1/") }),
        )
        .route("/deep", any(|| async { json(&"[".repeat(100_000)) }))
        .route("/wrong", any(|| async { json("{nothing}") }))
        .route("/twice", any(|| async { json(r#"{"a": 1, "a": 2}"#) }))
        .route("/binary", any(|| async { [0xff_u8, 0xfe].to_vec() }))
        .route("/large", any(|| async { "x".repeat((16 << 20) + 1) }))
        .route(
            "/gzip",
            any(|| async { ([("content-encoding", "gzip")], vec![0x1f_u8, 0x8b]) }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn json(text: &str) -> impl IntoResponse + use<> {
    ([("content-type", "application/json")], text.to_owned())
}

fn url(address: SocketAddr, path: &str) -> (&'static str, Value) {
    ("url", Value::text(format!("http://{address}{path}")))
}

#[tokio::test]
async fn a_request_is_what_the_file_says() {
    let address = server().await;
    let node = node(&format!(
        r#"url "http://{address}/{{{{ input.x }}}}"
            header "X-Key" (env)"KEY"
            header "x-city" "{{{{ input.x }}}}"
            query "q" "{{{{ input.x }}}}"
            query "url" "fixed"
            body "{{{{ input.x }}}}""#
    ));
    assert_eq!(node.running(), Running::ManyItems);
    let arguments = [
        url(address, "/echo"),
        ("header x-city", Value::text("Ulm")),
        (
            "query q",
            Value::list([Value::text("a b&c"), Value::Integer(2)]),
        ),
        ("query url", Value::text("fixed")),
        ("body", Value::from_json(br#"{"n": [1]}"#).unwrap()),
    ];
    let answer = ask(&node, &arguments).await.unwrap().to_json().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let expected = serde_json::json!({
        "method": "POST",
        "uri": "/echo?q=a+b%26c&q=2&url=fixed",
        "type": "application/json",
        "key": "s3cret",
        "city": "Ulm",
        "encodings": "identity",
        "body": "{\"n\":[1]}",
    });
    assert_eq!(answer, expected);
    // Without a body, and with a header that is none.
    let said = say(&node, &[url(address, "/echo")]).await;
    assert!(said.contains(r#""method":"GET""#), "{said}");
    assert!(said.contains(r#""city":null"#), "{said}");
    let text = [url(address, "/echo"), ("body", Value::text("hello"))];
    let said = say(&node, &text).await;
    assert!(
        said.contains(r#""type":"text/plain; charset=utf-8""#),
        "{said}"
    );
    let hostile = [
        url(address, "/echo"),
        ("header x-city", Value::text("a\r\nb: c")),
    ];
    let said = say(&node, &hostile).await;
    assert_eq!(said, "invalid: `header x-city` is no value of a header");
}

#[tokio::test]
async fn what_comes_back_is_a_value_or_an_error() {
    let address = server().await;
    let node = node(&format!(r#"url "http://{address}/""#));
    for (path, says) in [
        ("/text", r#""plain""#),
        ("/empty", "null"),
        (
            "/status/400",
            "invalid: the service answered 400 Bad Request, retry after 7: sorry",
        ),
        (
            "/status/404",
            "invalid: the service answered 404 Not Found, retry after 7: sorry",
        ),
        (
            "/status/401",
            "failed: the service answered 401 Unauthorized",
        ),
        (
            "/status/500",
            "failed: the service answered 500 Internal Server Error",
        ),
        (
            "/status/429",
            "unavailable: the service answered 429 Too Many Requests",
        ),
        (
            "/status/503",
            "unavailable: the service answered 503 Service Unavailable",
        ),
        (
            "/away",
            "failed: the service answered 307 Temporary Redirect",
        ),
        ("/deep", "failed: the service answered with bad JSON"),
        ("/wrong", "failed: the service answered with bad JSON"),
        ("/twice", "failed: the service answered with bad JSON"),
        ("/binary", "failed: the service answered with no text"),
        (
            "/large",
            "failed: the service answered with more than 16 MiB",
        ),
        ("/gzip", "failed: the service compressed its answer"),
    ] {
        let said = say(&node, &[url(address, path)]).await;
        assert!(said.starts_with(says), "{path}: {said}");
    }
    match ask(&node, &[url(address, "/status/503")]).await {
        Err(NodeError::Unavailable { retry_after, .. }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn accept_and_result_make_something_else_of_it() {
    let address = server().await;
    let told = async |options: &str, path: &str| {
        let node = node(&format!("url \"http://{address}/\"; {options}"));
        say(&node, &[url(address, path)]).await
    };
    assert_eq!(told("accept 200 404", "/status/404").await, r#""sorry""#);
    assert!(told("accept 201", "/text").await.starts_with("failed"));
    let status = r#"accept 200 404; result "{{ status }}""#;
    assert_eq!(told(status, "/status/404").await, "404");
    let part = r#"result "{{ [body.method, headers.content_type] }}""#;
    assert_eq!(told(part, "/echo").await, r#"["GET","application/json"]"#);
    let text = r#"result "{{ body.method }} of {{ body.uri }}""#;
    assert_eq!(told(text, "/echo").await, r#""GET of /echo""#);
    assert_eq!(told(r#"result "done""#, "/echo").await, r#""done""#);
    let said = told(r#"result "{{ body.nothing }}""#, "/echo").await;
    assert!(
        said.starts_with("failed: `result` cannot be evaluated"),
        "{said}"
    );
}

#[tokio::test]
async fn a_request_goes_nowhere_else() {
    let address = server().await;
    let fixed = node(&format!(r#"url "http://{address}/{{{{ input.x }}}}""#));
    let others = [
        "http://127.0.0.1:1/".to_owned(),
        format!("http://{address}.evil.test/"),
        format!("http://{address}@evil.test/"),
        format!("https://{address}/"),
        "file:///etc/passwd".to_owned(),
    ];
    for other in others {
        let said = say(&fixed, &[("url", Value::text(&*other))]).await;
        assert!(said.starts_with("invalid: "), "{other}: {said}");
    }
    let port = address.port();
    let named = |host: &str| ("url", Value::text(format!("http://{host}:{port}/text")));
    let free = |allow: &str| {
        node(&format!(
            r#"url "http://{{{{ input.x }}}}/"; allow-host {allow}"#
        ))
    };
    // The address itself is on the list, then a name that means this machine.
    assert_eq!(
        say(&free("\"127.0.0.1\""), &[named("127.0.0.1")]).await,
        r#""plain""#
    );
    assert_eq!(
        say(&free("\"localhost\""), &[named("localhost")]).await,
        r#""plain""#
    );
    let said = say(&free("\"127.0.0.1\""), &[named("localhost")]).await;
    assert_eq!(said, r#"invalid: the host "localhost" is not allowed"#);
    let said = say(&free("\"localhost.\""), &[named("localhost.")]).await;
    assert!(
        said.starts_with("unavailable: "),
        "a name that leads inside: {said}"
    );
}

#[test]
fn secrets_are_in_no_message() {
    let text = r#"url "http://h/"; header "x-key" (env)"KEY""#;
    let source = Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: format!(
            "graph g {{ input {{ x type=string }}; http h {{ {text} }}; output {{ y \"{{{{ h }}}}\" }} }}"
        ),
    };
    let (document, _) = schema::parse(&source, &|_| Some("bad\nsecret".to_owned()));
    assert!(!format!("{document:?}").contains("secret"));
    let Work::Http(work) = &document.graphs[0].nodes[0].work else {
        panic!("not http");
    };
    let error = Http::new(work).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the secret of the header `x-key` is no value of one"
    );
    assert!(std::error::Error::source(&error).is_none());
}

/// What a server does with a connection once it has read a request.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing is listening.
    Refused,
    /// The connection ends before an answer, by a reset.
    Reset,
    /// The same in the middle of a body.
    ResetInBody,
    /// Nothing ever comes.
    Silence,
    /// A byte of the body now and then.
    Drops,
    /// A shorter body than was said.
    TooShort,
    /// What is no HTTP.
    Garbage,
    /// 503.
    Busy,
}

async fn faulty(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    if !matches!(fault, Fault::Refused) {
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(misbehave(connection, fault));
            }
        });
    }
    address
}

async fn misbehave(mut connection: TcpStream, fault: Fault) {
    let mut request = [0; 4096];
    let _ = connection.read(&mut request).await;
    let head = |length: usize| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n")
    };
    let reset = |connection: &TcpStream| connection.set_zero_linger().unwrap();
    match fault {
        Fault::Refused => {}
        Fault::Reset => reset(&connection),
        Fault::ResetInBody => {
            let _ = connection.write_all(head(1000).as_bytes()).await;
            let _ = connection.write_all(b"half").await;
            reset(&connection);
        }
        Fault::Silence => std::future::pending().await,
        Fault::Drops => {
            let _ = connection.write_all(head(1000).as_bytes()).await;
            while connection.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Fault::TooShort => {
            let _ = connection.write_all(head(1000).as_bytes()).await;
            let _ = connection.write_all(b"short").await;
        }
        Fault::Garbage => {
            let _ = connection.write_all(b"220 mail.example ready\r\n").await;
        }
        Fault::Busy => {
            let busy = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
            let _ = connection.write_all(busy.as_bytes()).await;
        }
    }
}

#[tokio::test]
async fn every_fault_is_its_error() {
    for (fault, says) in [
        (Fault::Refused, "unavailable: the service is out of reach"),
        (Fault::Reset, "unavailable: the service is out of reach"),
        (
            Fault::ResetInBody,
            "unavailable: the service is out of reach",
        ),
        (Fault::Silence, "timeout: took longer than"),
        (Fault::Drops, "timeout: took longer than"),
        (Fault::TooShort, "unavailable: the service is out of reach"),
        (Fault::Garbage, "unavailable: the service is out of reach"),
        (Fault::Busy, "unavailable: the service answered 503"),
    ] {
        let address = faulty(fault).await;
        let node = node(&format!(r#"url "http://{address}/""#));
        // Faults that end by themselves have all the time that a slow machine takes.
        let given = match fault {
            Fault::Silence | Fault::Drops => Duration::from_millis(500),
            _ => Duration::from_secs(60),
        };
        let mut item = input(&[url(address, "/secret-path?key=s3cret")]);
        item.context.deadline = Some(Instant::now() + given);
        let error = node.run(vec![item]).await.remove(0).unwrap_err();
        let said = class(&error);
        assert!(said.starts_with(says), "{fault:?}: {said}");
        assert!(
            !said.contains("secret-path") && !said.contains("s3cret"),
            "{said}"
        );
    }
}
