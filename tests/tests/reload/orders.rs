//! Reloads that are asked for, and going back.

#![cfg(unix)]

use crate::kit::{file, generation, order, save, step};
use serde_json::json;
use std::process::Command;
use tests::{Engine, write_graph};

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_history() {
    let (_folder, path) = write_graph(&file(1));
    let engine = Engine::start_with(&path, &["--no-watch"]);
    save(&path, &file(2));
    let order = async |path: &str| order(&engine, path).await;
    let (status, outcome) = order("/reload").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(2)),
        "{outcome}"
    );
    assert_eq!(step(&engine).await, "2");
    save(&path, &file(3));
    let pid = engine.pid().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    generation(&engine, 3).await;
    let (status, outcome) = order("/rollback?generation=1").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(4)),
        "{outcome}"
    );
    assert_eq!(step(&engine).await, "1");
    let (status, outcome) = order("/rollback?generation=99").await;
    assert_eq!((status, &outcome["ok"]), (409, &json!(false)));
    let (status, outcome) = order("/reload").await;
    assert_eq!(
        (status, &outcome["generation"]),
        (200, &json!(5)),
        "{outcome}"
    );
    let page = engine.client().post(engine.admin("/reload"));
    let page = page.header("origin", "http://example.org");
    assert_eq!(engine.send(page).await.status, 403);
}
