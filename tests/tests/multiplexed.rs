//! A class that was written for Ray Serve and keeps several models, as it is: the id comes in Ray's
//! header, each worker keeps as many models as the class says, and calls go where theirs is.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use futures::stream::{self, StreamExt as _};
use serde_json::json;
use std::{collections::BTreeMap, fs, path::Path};
use tests::{Engine, write_graph};

const CLASS: &str = r#"
import asyncio
import os

from ray import serve


@serve.deployment(num_replicas=3)
class PerTenant:
    @serve.multiplexed(max_num_models_per_replica=6)
    async def model(self, model_id: str):
        with open(os.path.join(os.path.dirname(__file__), "loads"), "a") as file:
            file.write(f"{os.getpid()} {model_id}\n")
        await asyncio.sleep(0.005)
        return model_id.upper()

    async def __call__(self, text: str):
        model = await self.model(serve.get_multiplexed_model_id())
        return f"{model}: {text}"


app = PerTenant.bind()


async def many(text):
    return [f"{serve.get_multiplexed_model_id()}: {one}" for one in text]
"#;

const FILE: &str = r#"
graph warm route="/warm" {
    input { text type=string }
    python answer {
        file "app.py"
        class "app"
        arguments {
            text "{{ input.text }}"
            multiplexed-model-id "{{ header.serve_multiplexed_model_id }}"
        }
        replicas min=3
        max-ongoing-requests 8
    }
    output { answer "{{ answer }}" }
}
graph load route="/load" {
    input { text type=string }
    python answer {
        file "app.py"
        class "app"
        arguments {
            text "{{ input.text }}"
            multiplexed-model-id "{{ header.serve_multiplexed_model_id }}"
        }
        placement "load"
        replicas min=3
        max-ongoing-requests 8
    }
    output { answer "{{ answer }}" }
}
graph many route="/many" {
    input { text type=string }
    python answer {
        file "app.py"
        function "many"
        arguments {
            text "{{ input.text }}"
            multiplexed-model-id "{{ header.serve_multiplexed_model_id }}"
        }
        batch max-size=8 max-wait="100ms"
    }
    output { answer "{{ answer }}" }
}
"#;

/// Models, twice as many as a worker has room for.
const MODELS: usize = 12;

/// Models in an order that looks like chance; the same one each time.
fn models() -> impl Iterator<Item = usize> {
    let step = |state: &u64| {
        let next = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Some(next)
    };
    std::iter::successors(Some(1), step).map(|state| (state >> 33) as usize % MODELS)
}

async fn ask(engine: &Engine, route: &str, model: usize) -> String {
    let request = engine.client().post(engine.url(route));
    let request = request.json(&json!({ "text": "hi" }));
    let id = format!("tenant-{model}");
    let answer = engine
        .send(request.header("serve_multiplexed_model_id", &id))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["answer"].as_str().unwrap().to_owned()
}

/// How often each worker has loaded a model since the last time.
fn loads(path: &Path) -> BTreeMap<String, usize> {
    let mut loads = BTreeMap::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        let (worker, _) = line.split_once(' ').unwrap();
        *loads.entry(worker.to_owned()).or_default() += 1;
    }
    let _ = fs::remove_file(path);
    loads
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multiplexed_class_finds_its_models_in_memory() {
    let (folder, path) = write_graph(FILE);
    fs::write(folder.path().join("app.py"), CLASS).unwrap();
    let log = folder.path().join("loads");
    let engine = Engine::start(&path);
    let mut sums = Vec::new();
    for route in ["/warm", "/load"] {
        // In no order, four at once.
        let asked = models().take(600).map(async |model| {
            let answer = ask(&engine, route, model).await;
            assert_eq!(answer, format!("TENANT-{model}: hi"));
        });
        let answers = stream::iter(asked).buffer_unordered(4);
        answers.collect::<Vec<()>>().await;
        let loads = loads(&log);
        eprintln!("{route}: loads by worker {loads:?} of 600 requests");
        sums.push(loads.values().sum::<usize>());
    }
    assert!(
        sums[0] * 2 < sums[1],
        "with placement and without: {sums:?}"
    );
    // A batch is about one model.
    let asked = (0..24).map(async |n| {
        let answer = ask(&engine, "/many", n % 3).await;
        assert_eq!(answer, format!("tenant-{}: hi", n % 3));
    });
    futures::future::join_all(asked).await;
}
