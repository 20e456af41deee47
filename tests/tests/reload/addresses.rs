//! Another address is open before the old one closes.

use crate::kit::{PATIENCE, file, generation, save, until};
use serde_json::{Value, json};
use std::time::Duration;
use tests::{Engine, write_graph};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

#[tokio::test(flavor = "multi_thread")]
async fn another_address_is_open_before_the_old_one_closes() {
    let at = |address: &str| {
        let server = format!("server {{ listen \"{address}\"; admin \"127.0.0.1:0\" }}\n");
        server + &file(1)
    };
    let (_folder, path) = write_graph(&at("127.0.0.1:0"));
    let engine = Engine::start_as_written(&path);
    let old = engine.url("").replace("http://", "");
    // A request is under way on the old socket while the new one opens: its body is asked for, and
    // comes later.
    let mut stream = TcpStream::connect(&old).await.unwrap();
    let body = json!({ "id": "early" }).to_string();
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut continued = [0; 25];
    stream.read_exact(&mut continued).await.unwrap();
    assert_eq!(&continued, b"HTTP/1.1 100 Continue\r\n\r\n");
    save(&path, &at("localhost:0"));
    generation(&engine, 2).await;
    let closed = async {
        while TcpStream::connect(&old).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, closed).await.is_ok());
    let moved = engine.wait_for_log(PATIENCE, |line| line.contains("at another address"));
    let moved: Value = serde_json::from_str(&moved.unwrap()).unwrap();
    let url = format!("http://{}/echo", moved["listen"].as_str().unwrap());
    let late = engine.client().post(&url).json(&json!({ "id": "late" }));
    let late = engine.send(late).await;
    assert_eq!((late.status, &late.json()["id"]), (200, &json!("late")));
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // To the end: the connection closes after the answer.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("early"),
        "{answer}"
    );
    // An address that cannot be had changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    save(&path, &at(&taken.local_addr().unwrap().to_string()));
    let failed = |status: &Value| status["last_reload"]["ok"] == false;
    let status = until(&engine, "/status", failed).await;
    assert_eq!(status["generation"], 2);
}
