//! HTTP/2, which services speak over TLS only, and tests without it.

use super::{Endpoints, RemoteGenerate};
use crate::{Arguments, Context, Input, Node as _, NodeError, Value};
use schema::{
    Span, Spanned, Text,
    kind::{Endpoint, Protocol},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A frame of type, flags and stream with its payload.
fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, payload.len() as u8, kind, 0, 0, 0, 0, stream];
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn a_service_that_says_goodbye_is_out_of_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // SETTINGS, and once the client has sent something GOAWAY with ENHANCE_YOUR_CALM.
            let _ = stream.write_all(&frame(4, 0, &[])).await;
            let _ = stream.read(&mut [0; 1024]).await;
            let goodbye = [0, 0, 0, 0, 0, 0, 0, 11];
            let _ = stream.write_all(&frame(7, 0, &goodbye)).await;
        }
    });
    let url = Text::plain(format!("http://{address}"));
    let spec = Endpoint {
        urls: vec![Spanned::new(url, Span::default())],
        protocol: None,
        model: None,
        adapter: None,
        api_key: None,
        extra: None,
    };
    let client = crate::http_client()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let endpoints = Endpoints::with_client(&spec, Protocol::OpenAi, None, client).unwrap();
    let node = RemoteGenerate::over(endpoints);
    let item = Input {
        arguments: Arguments::from_iter([("prompt", Value::text("x"))]),
        context: Context::default(),
    };
    let error = node.run(vec![item]).await.pop().unwrap().unwrap_err();
    assert!(matches!(error, NodeError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("was lost"), "{error}");
}
