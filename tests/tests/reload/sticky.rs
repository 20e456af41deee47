//! With a sticky header a client stays on one side.

use crate::kit::{command, save, until};
use serde_json::{Value, json};
use std::collections::HashMap;
use tests::{Engine, write_graph};

fn file(share: &str, says: &str) -> String {
    format!(
        "server {{ rollout {{ canary sticky=\"x-user\" {{ step \"{share}\" interval=\"10m\" }} }} }}\n\
         graph echo {{ template said {{ text \"{says}\" }}\n output {{ said \"{{{{ said }}}}\" }} }}\n"
    )
}

/// What each of these users gets.
async fn answers(engine: &Engine) -> HashMap<usize, String> {
    let mut answers = HashMap::new();
    for user in 0..60 {
        let request = engine.client().post(engine.url("/echo")).json(&json!({}));
        let request = request.header("x-user", format!("user-{user}"));
        let answer = engine.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let said = answer.json()["said"].as_str().unwrap().to_owned();
        answers.insert(user, said);
    }
    answers
}

fn of_next(answers: &HashMap<usize, String>) -> usize {
    answers.values().filter(|said| *said == "two").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_on_its_side() {
    let (_folder, path) = write_graph(&file("50%", "one"));
    let engine = Engine::start(&path);
    save(&path, &file("50%", "two"));
    let begun = |status: &Value| status["rollout"]["generation"] == 2;
    until(&engine, "/status", begun).await;
    let first = answers(&engine).await;
    assert!((15..=45).contains(&of_next(&first)), "{first:?}");
    for _ in 0..5 {
        assert_eq!(answers(&engine).await, first);
    }
    // Who says nothing of himself is divided request by request.
    let mut said = Vec::new();
    for _ in 0..20 {
        let answer = engine.post("/echo", json!({})).await.json();
        said.push(answer["said"] == "two");
    }
    assert!(said.contains(&true) && said.contains(&false), "{said:?}");
    let (code, printed) = command(&engine, &["status"]);
    assert_eq!(code, Some(0));
    for part in [
        "rollout of generation 2: canary, step 1 of 1 with 50% of requests",
        "\n  next ",
        "waits for another ",
    ] {
        assert!(printed.contains(part), "{part}\n{printed}");
    }
    let (code, printed) = command(&engine, &["promote"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("generation 2 was promoted"), "{printed}");
    assert_eq!(of_next(&answers(&engine).await), 60);
}
