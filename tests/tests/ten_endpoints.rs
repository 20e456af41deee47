//! Ten addresses of one model of which three fail: no client gets an error after the first second, and
//! what is repaired is used again.

use futures::future::join_all;
use serde_json::json;
use std::time::Duration;
use tests::{
    Engine,
    faulty::{Fault, Faulty},
    write_graph,
};
use tokio::time::{Instant, sleep};

#[tokio::test(flavor = "multi_thread")]
async fn three_that_fail_fail_nobody() {
    let mut services = Vec::new();
    for fault in [Fault::Refused, Fault::Error, Fault::Reset] {
        services.push(Faulty::start(fault).await);
    }
    for _ in 0..7 {
        services.push(Faulty::start(Fault::None).await);
    }
    let urls: Vec<_> = services
        .iter()
        .map(|one| format!("\"{}\"", one.url()))
        .collect();
    let (_folder, path) = write_graph(&format!(
        r#"
        graph ten route="/ten" {{
            input {{ text type=string }}
            generate answer {{
                endpoint {}
                prompt "{{{{ input.text }}}}"
                timeout "50s"
            }}
            output {{ answer "{{{{ answer }}}}" }}
        }}"#,
        urls.join(" ")
    ));
    let engine = Engine::start(&path);
    let ask = async || engine.post("/ten", json!({ "text": "x" })).await;
    // Long enough for addresses to be left alone, asked whether they are there, and tried again.
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        let settled = begun.elapsed() > Duration::from_secs(1);
        for answer in join_all((0..10).map(|_| ask())).await {
            assert!(answer.status == 200 || !settled, "{}", answer.text);
            asked += 1;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(asked >= 50, "only {asked} were asked");
    // The one of three that is repaired is found when no other is well.
    for one in &services[3..] {
        one.set(Fault::Error).await;
    }
    services[1].set(Fault::None).await;
    let end = Instant::now() + Duration::from_secs(60);
    while ask().await.status != 200 {
        assert!(
            Instant::now() < end,
            "the address that is well again was never used"
        );
    }
}
