//! `generate` on llama-cpp-python's OpenAI-compatible server with a real model.
//!
//! Building that package takes longer than the whole suite, so this runs only where
//! `ENGINE_LLAMA_PYTHON` names a Python that has `llama-cpp-python[server]`, and `ENGINE_LLAMA_MODEL` a
//! GGUF file:
//!
//!     ENGINE_LLAMA_PYTHON=venv/bin/python ENGINE_LLAMA_MODEL=model.gguf \
//!         cargo test --release --workspace --test llama_server

use serde_json::json;
use std::{
    env,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tests::{Engine, write_graph};
use tokio::{net::TcpListener, time::sleep};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_continues_prompts_and_chats() {
    let (Ok(python), Ok(model)) = (
        env::var("ENGINE_LLAMA_PYTHON"),
        env::var("ENGINE_LLAMA_MODEL"),
    ) else {
        eprintln!("skipped: ENGINE_LLAMA_PYTHON and ENGINE_LLAMA_MODEL are not set");
        return;
    };
    let port = {
        // Let go of at once, so that the server can have it.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let child = Command::new(python)
        .args(["-m", "llama_cpp.server", "--host", "127.0.0.1"])
        .args(["--model", &model, "--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut server = Server(child.unwrap());
    let (_folder, path) = write_graph(&format!(
        r#"
        graph go-on route="/go-on" {{
            input {{ text type=string }}
            generate answer {{
                endpoint "http://127.0.0.1:{port}"
                prompt "{{{{ input.text }}}}"
                max-tokens 8
                timeout "50s"
            }}
            output {{ answer "{{{{ answer }}}}" }}
        }}
        graph chat route="/chat" {{
            input {{ text type=string }}
            generate answer {{
                endpoint "http://127.0.0.1:{port}"
                user "{{{{ input.text }}}}"
                max-tokens 8
                timeout "50s"
            }}
            output {{ answer "{{{{ answer }}}}" }}
        }}"#
    ));
    let engine = Engine::start(&path);
    let models = format!("http://127.0.0.1:{port}/v1/models");
    while engine.client().get(&models).send().await.is_err() {
        assert!(server.0.try_wait().unwrap().is_none(), "the server ended");
        sleep(Duration::from_millis(100)).await;
    }
    let text = json!({ "text": "The capital of France is" });
    let answer = engine.post("/go-on", text.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let whole = answer.json()["answer"].as_str().unwrap().to_owned();
    assert!(whole.contains("France"), "{whole}");
    // The same, streamed: more than one piece, and together the whole.
    let request = engine.client().post(engine.url("/go-on")).json(&text);
    let streamed = engine
        .send(request.header("accept", "text/event-stream"))
        .await;
    let pieces = streamed.text.matches("event: delta").count();
    assert!(pieces > 1, "{}", streamed.text);
    assert!(
        streamed
            .text
            .contains(&json!({ "answer": whole }).to_string())
    );
    let chat = engine.post("/chat", text).await;
    assert_eq!(chat.status, 200, "{}", chat.text);
    assert!(chat.text.contains("Paris"), "{}", chat.text);
}
