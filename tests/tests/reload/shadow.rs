//! Copies of requests are compared, and nobody sees their answers.

use crate::kit::{command, metrics, order, save, until};
use serde_json::{Value, json};
use tests::{Engine, write_graph};

fn file(said: &str) -> String {
    format!(
        "server {{ rollout {{ shadow share=\"100%\" }} }}\n\
         graph echo {{\n\
             input {{ id type=string }}\n\
             template said {{ text \"{said}\" }}\n\
             output {{ said \"{{{{ said }}}}\" }}\n\
         }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_counted() {
    let (_folder, path) = write_graph(&file("{{ input.id }}"));
    let engine = Engine::start(&path);
    save(
        &path,
        &file(
            "{% if input.id == 'bad' %}{{ input.id | int }}{% endif %}{{ input.id | replace('o', '0') }}",
        ),
    );
    let begun = |status: &Value| status["rollout"]["generation"] == 2;
    until(&engine, "/status", begun).await;
    for (id, times) in [("same", 10), ("other", 5), ("bad", 3)] {
        for time in 0..times {
            let request = engine.client().post(engine.url("/echo"));
            let mut request = request.json(&json!({ "id": id }));
            if time == 0 {
                request = request.header("accept", "text/event-stream");
            }
            let answer = engine.send(request).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert!(
                answer.text.contains(&format!("{{\"said\":\"{id}\"}}")),
                "{}",
                answer.text
            );
            assert_eq!(answer.headers["x-engine-generation"], "1");
        }
    }
    // A request that is refused is refused by both.
    let refused = engine.post("/echo", json!({})).await;
    assert_eq!(refused.status, 400);
    let counted = json!({ "same": 11, "different": 5, "failed": 3, "left_out": 0 });
    let compared = |status: &Value| status["rollout"]["copies"] == counted;
    until(&engine, "/status", compared).await;
    let (_, printed) = command(&engine, &["status"]);
    let line = "copies of 100% of requests: 11 same, 5 different, 3 failed, 0 left out";
    assert!(printed.contains(line), "{printed}");
    let text = metrics(&engine).await;
    for line in [
        "engine_rollout_copies_total{result=\"same\"} 11",
        "engine_rollout_copies_total{result=\"different\"} 5",
        "engine_rollout_copies_total{result=\"failed\"} 3",
        // Copies are no requests.
        "engine_requests_total{graph=\"echo\",code=\"200\"} 18",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(order(&engine, "/abort").await.0, 200);
    let ended = |status: &Value| status["last_rollout"]["copies"] == counted;
    until(&engine, "/status", ended).await;
}
