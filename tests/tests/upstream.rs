//! The example with a model on a server: it answers while its server is away, and uses it when it is
//! there.

use serde_json::json;
use std::time::Duration;
use tests::{Engine, repository, upstream::Upstream, write_graph};
use tokio::{
    net::TcpSocket,
    time::{Instant, sleep},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_answers_with_and_without_its_server() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let example = repository().join("examples/upstream/graph.kdl");
    let text = std::fs::read_to_string(example).unwrap();
    assert!(text.contains("127.0.0.1:8080"));
    let (_folder, path) = write_graph(&text.replace("127.0.0.1:8080", &address));
    let engine = Engine::start(&path);
    let ask = async || {
        let body = json!({ "text": "The three laws of motion are" });
        let answer = engine.post("/write", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["text"].as_str().unwrap().to_owned()
    };
    let local = ask().await;
    assert!(!local.trim().is_empty());
    // Its server repeats the prompt, which the local model does not.
    let repeated = " The three laws of motion are";
    assert_ne!(local, repeated);
    let upstream = Upstream::on(socket.listen(64).unwrap()).await;
    let end = Instant::now() + Duration::from_secs(120);
    while ask().await != repeated {
        assert!(Instant::now() < end, "the server was never used");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(upstream.requests()[0].body["model"], "default");
}
