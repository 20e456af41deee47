//! HTTP/2, with gRPC on it where that is what is asked.

use super::{Fault, well};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{
    Reason, RecvStream,
    server::{SendResponse, handshake},
};
use prost::Message;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};

/// How long the beginning of an answer has to be sent before its connection is reset.
const BEGINNING: Duration = Duration::from_millis(50);

type Request = axum::http::Request<RecvStream>;

/// Answers the requests of a connection.
pub(super) async fn answer<S>(stream: S, fault: Fault) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = handshake(stream).await.map_err(std::io::Error::other)?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted.map_err(std::io::Error::other)?;
        if fault == Fault::GoAway {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            continue;
        }
        // By itself, as nothing moves on a connection that nobody asks for its next request.
        tokio::spawn(reply(request, respond, fault));
        if fault == Fault::Reset {
            let _ = timeout(BEGINNING, connection.accept()).await;
            return Ok(());
        }
    }
    Ok(())
}

async fn reply(
    request: Request,
    mut respond: SendResponse<Bytes>,
    fault: Fault,
) -> Result<(), h2::Error> {
    let is_grpc = request
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
    }
    let (kind, text) = match is_grpc {
        true => ("application/grpc", message(&path)),
        false => (well(&path).0, Bytes::from_static(well(&path).1.as_bytes())),
    };
    let mut head = axum::http::Response::builder().header("content-type", kind);
    match (fault, is_grpc) {
        (Fault::Silent, _) => std::future::pending().await,
        (Fault::Storm | Fault::Error, true) => {
            let code = if fault == Fault::Storm { "14" } else { "13" };
            head = head
                .header("grpc-status", code)
                .header("grpc-message", "out of memory");
        }
        (Fault::Storm, false) => head = head.status(503),
        (Fault::Error, false) => head = head.status(500),
        (Fault::WrongLength, false) => head = head.header("content-length", text.len() + 100),
        _ => {}
    }
    let head = head.body(()).unwrap_or_default();
    if matches!(fault, Fault::Storm | Fault::Error) {
        respond.send_response(head, true)?;
        return Ok(());
    }
    let mut stream = respond.send_response(head, false)?;
    match fault {
        Fault::Slow => {
            for byte in text {
                sleep(Duration::from_secs(1)).await;
                stream.send_data(Bytes::copy_from_slice(&[byte]), false)?;
            }
        }
        Fault::Reset => return stream.send_data(text.slice(..4), false),
        Fault::WrongLength => stream.send_data(text.slice(..text.len() - 2), !is_grpc)?,
        _ => stream.send_data(text, !is_grpc)?,
    }
    if is_grpc {
        let ok = (
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        );
        stream.send_trailers(HeaderMap::from_iter([ok]))?;
    }
    Ok(())
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Described {
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<Tensor>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Answered {
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw: Vec<Vec<u8>>,
}

/// What a server of the Open Inference Protocol says when it is well, in gRPC's frame.
fn message(path: &str) -> Bytes {
    let tensor = |name: &str, datatype: &str| Tensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![1],
    };
    let message = match path.rsplit('/').next() {
        Some("ModelMetadata") => Described {
            inputs: vec![tensor("X", "FP32")],
            outputs: vec![tensor("Y", "BYTES")],
        }
        .encode_to_vec(),
        Some("ModelInfer") => Answered {
            outputs: vec![tensor("Y", "BYTES")],
            raw: vec![b"\x04\0\0\0well".to_vec()],
        }
        .encode_to_vec(),
        // That it is ready, and of the server nothing.
        Some("ServerReady") => vec![8, 1],
        _ => Vec::new(),
    };
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}
