//! Services in trouble, seen through the real binary: breakers open, fallbacks answer, and what is
//! repaired is used again.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use serde_json::json;
use std::{fmt::Write as _, time::Duration};
use tests::{
    Engine,
    faulty::{Fault, Faulty},
    repository,
    upstream::Upstream,
    write_graph,
};
use tokio::{
    net::TcpSocket,
    time::{Instant, sleep},
};

const FAULTS: [Fault; 7] = [
    Fault::Refused,
    Fault::Reset,
    Fault::WrongLength,
    Fault::Storm,
    Fault::Error,
    Fault::Silent,
    Fault::Slow,
];

/// How often a node's breaker has refused an item.
async fn refused(engine: &Engine, graph: &str) -> u64 {
    let metrics = engine.client().get(engine.admin("/metrics"));
    let text = engine.send(metrics).await.text;
    let labels = [
        format!("graph=\"{graph}\""),
        "reason=\"breaker\"".to_owned(),
    ];
    let line = text.lines().find(|line| {
        line.starts_with("engine_shed_total") && labels.iter().all(|label| line.contains(label))
    });
    let count = line.and_then(|line| line.rsplit(' ').next());
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_opens_a_fallback_answers_and_a_repaired_service_is_used_again() {
    let mut file = String::new();
    let mut services = Vec::new();
    for fault in FAULTS {
        let service = Faulty::start(fault).await;
        let (name, url) = (format!("{fault:?}").to_lowercase(), service.url());
        write!(
            file,
            r#"
            graph {name} route="/{name}" {{
                input {{ text type=string }}
                generate answer {{
                    endpoint "{url}"
                    prompt "{{{{ input.text }}}}"
                    timeout "700ms"
                    breaker errors=0.5 window="60s" min-requests=3 open="200ms"
                    fallback "instead"
                }}
                output {{ answer "{{{{ answer }}}}" }}
            }}"#
        )
        .unwrap();
        services.push((name, service));
    }
    let (_folder, path) = write_graph(&file);
    let engine = Engine::start(&path);
    for (name, service) in &services {
        let ask = async || {
            let answer = engine
                .post(&format!("/{name}"), json!({ "text": "x" }))
                .await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text);
            answer.json()["answer"].as_str().unwrap().to_owned()
        };
        let end = Instant::now() + Duration::from_secs(120);
        while refused(&engine, name).await == 0 {
            assert_eq!(ask().await, "instead", "{name}");
            assert!(Instant::now() < end, "{name}: its breaker never opened");
        }
        service.set(Fault::None);
        while ask().await != "well" {
            assert!(Instant::now() < end, "{name}: it never came back");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

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
