//! Files that were written for Ray Serve.

use crate::kit::{file, say, start, try_start};
use nodes::Value;

const RAY: &str = "
import asyncio
from ray import serve

@serve.deployment(num_replicas=2, ray_actor_options={'num_cpus': 1})
class Rewriter:
    def __init__(self, suffix='!'):
        self.suffix = suffix
    def __call__(self, text):
        return text + self.suffix

app = Rewriter.bind(suffix='?')
nested = Rewriter.bind(app)

@serve.deployment
class Batched:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=600)
    async def together(self, texts):
        return [f'{text}{len(texts)}' for text in texts]
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
    async def soon(self, texts):
        return [f'{text}{len(texts)}' for text in texts]
    async def __call__(self, text):
        return await (self.soon if text == 'alone' else self.together)(text)

@serve.deployment
class Several:
    def __init__(self):
        self.loads = []
    @serve.multiplexed(max_num_models_per_replica=2)
    async def model(self, model_id):
        self.loads.append(model_id)
        return model_id.upper()
    async def __call__(self, text):
        model = await self.model(serve.get_multiplexed_model_id())
        return f\"{text}:{model}:{','.join(self.loads)}\"

@serve.deployment
def shout(text):
    return text.upper()
";

#[tokio::test]
async fn a_deployment_is_what_it_decorates() {
    let folder = file(RAY);
    let text = [("text", Value::text("a"))];
    let node = start(&folder, r#"class "Rewriter""#).await;
    assert_eq!(say(&node, &text).await, r#""a!""#);
    let node = start(&folder, r#"class "app""#).await;
    assert_eq!(say(&node, &text).await, r#""a?""#);
    let node = start(&folder, r#"function "shout""#).await;
    assert_eq!(say(&node, &text).await, r#""A""#);
    let error = try_start(&folder, r#"class "nested""#).await.err().unwrap();
    assert!(
        error.to_string().contains("make that a node of the graph"),
        "{error}"
    );
}

#[tokio::test]
async fn calls_are_gathered_by_serve_batch() {
    let node = start(&file(RAY), r#"class "Batched""#).await;
    let texts = ["a", "b", "c", "d"].map(|text| [("text", Value::text(text))]);
    let asked = texts.iter().map(|text| say(&node, text));
    let said = futures::future::join_all(asked).await;
    assert_eq!(said, [r#""a4""#, r#""b4""#, r#""c4""#, r#""d4""#]);
    let alone = [("text", Value::text("alone"))];
    assert_eq!(say(&node, &alone).await, r#""alone1""#);
}

#[tokio::test]
async fn models_are_kept_by_serve_multiplexed() {
    let node = start(&file(RAY), r#"class "Several""#).await;
    let mut last = String::new();
    for model in ["x", "y", "x", "z", "x", "y"] {
        let arguments = [
            ("text", Value::text("t")),
            ("multiplexed-model-id", Value::text(model)),
        ];
        last = say(&node, &arguments).await;
    }
    // `x` was used when `z` came, so `y` had to go and is loaded again.
    assert_eq!(last, r#""t:Y:x,y,z,y""#);
}
