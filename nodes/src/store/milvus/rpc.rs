//! One call of Milvus: the connection, the token, and what is wrong when it is not answered.

use super::{
    super::{
        CONNECT,
        tls::{self, Trust},
    },
    proto::{self, Status},
};
use crate::NodeError;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::pki_types::ServerName;
use schema::Text;
use std::{error::Error as _, io, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;

/// Largest answer that is taken.
const LARGEST: usize = 256 << 20;
/// How often a connection is asked whether it is still there, and how long it may take to say so.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// How long a server that is full and does not say for how long is left alone.
const FULL: Duration = Duration::from_secs(1);

/// A server.
#[derive(Clone)]
pub(super) struct Rpc {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    /// The database, empty for the server's default.
    pub(super) database: String,
    /// What errors call it.
    pub(super) name: String,
}

/// An answer, which says itself whether it is one.
pub(super) trait Answer: Message + Default + 'static {
    fn status(&self) -> Option<&Status>;
}

macro_rules! answers {
    ($($message:ident),*) => {
        $(impl Answer for proto::$message {
            fn status(&self) -> Option<&Status> {
                self.status.as_ref()
            }
        })*
    };
}

answers!(
    BoolResponse,
    DescribeCollectionResponse,
    DescribeIndexResponse,
    GetLoadStateResponse,
    GetVersionResponse,
    MutationResult,
    QueryResults,
    SearchResults
);

impl Answer for Status {
    fn status(&self) -> Option<&Status> {
        Some(self)
    }
}

impl Rpc {
    /// Connects. The connection is made again whenever it was lost.
    ///
    /// # Errors
    /// The address is none, or the server is out of reach.
    pub(super) async fn connect(url: &Text, token: Option<&Text>) -> Result<Self, NodeError> {
        let none = |error| NodeError::failed(format!("{url} is no address: {error}"));
        let parsed = reqwest::Url::parse(url.expose()).map_err(|error| none(error.to_string()))?;
        let host = parsed
            .host_str()
            .ok_or_else(|| none("it has no host".into()))?;
        let secure = parsed.scheme() == "https";
        let port = parsed.port().unwrap_or(if secure { 443 } else { 19530 });
        let name = match url.is_secret() {
            true => "Milvus".to_owned(),
            false => format!("Milvus at {host}:{port}"),
        };
        // TLS, if any, is below: the connection itself brings it.
        let endpoint = Endpoint::from_shared(format!("http://{host}:{port}"));
        let endpoint = endpoint
            .map_err(|error| none(error.to_string()))?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .keep_alive_while_idle(true);
        let channel = match secure {
            false => endpoint.connect().await,
            true => {
                let connector = secure_connector(host)?;
                endpoint.connect_with_connector(connector).await
            }
        };
        let channel = channel.map_err(|error| {
            NodeError::unavailable(format!("cannot connect to {name}: {}", innermost(&error)))
        })?;
        Ok(Self {
            channel,
            token: token.map(authorization).transpose()?,
            database: parsed.path().trim_matches('/').to_owned(),
            name,
        })
    }

    /// Calls a method of the server.
    ///
    /// # Errors
    /// As a node's error: by whether it is out of reach, full, or refuses.
    pub(super) async fn call<Q: Message + 'static, A: Answer>(
        &self,
        method: &'static str,
        question: Q,
    ) -> Result<A, NodeError> {
        let answer: A = self.send(method, question).await?;
        match answer.status() {
            Some(status) if !is_success(status) => Err(refused(&self.name, method, status)),
            _ => Ok(answer),
        }
    }

    /// Calls a method and takes any answer.
    async fn send<Q: Message + 'static, A: Message + Default + 'static>(
        &self,
        method: &'static str,
        question: Q,
    ) -> Result<A, NodeError> {
        let path = format!("/milvus.proto.milvus.MilvusService/{method}");
        let path = PathAndQuery::try_from(path)
            .map_err(|error| NodeError::because("a method has a bad name", error))?;
        let mut request = Request::new(question);
        let metadata = request.metadata_mut();
        if let Some(token) = &self.token {
            metadata.insert("authorization", token.clone());
        }
        if let Ok(database) = self.database.parse()
            && !self.database.is_empty()
        {
            metadata.insert("dbname", database);
        }
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        let ready = client.ready().await;
        ready.map_err(|error| {
            let reason = innermost(&error);
            NodeError::unavailable(format!("{} is out of reach: {reason}", self.name))
        })?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = client.unary(request, path, codec).await;
        let answer = answer.map_err(|status| failed(&self.name, method, &status))?;
        Ok(answer.into_inner())
    }
}

fn is_success(status: &Status) -> bool {
    status.code == 0 && status.error_code == 0
}

/// What the server says in an answer that is none. Codes are those of Milvus 2.3 and later.
fn refused(server: &str, method: &str, status: &Status) -> NodeError {
    let words = status.reason.trim();
    let said = format!("{server} refuses {method}: {words} ({})", status.code);
    match (status.code, status.error_code) {
        // Too many requests, or more a second than is allowed.
        (4 | 8, _) | (0, 49) => NodeError::Full { retry_after: FULL },
        // Not ready, unavailable, out of memory or of room, closed for a while.
        (1..=3 | 7 | 9, _) => NodeError::unavailable(said),
        // Parameters that are wrong; the second is milvus-lite's code for an expression.
        (1100..=1199 | 6, _) => NodeError::invalid(said),
        _ if status.retriable => NodeError::unavailable(said),
        _ => NodeError::failed(said),
    }
}

/// A call that gRPC did not get an answer for.
fn failed(server: &str, method: &str, status: &tonic::Status) -> NodeError {
    let said = || format!("{server} refuses {method}: {}", status.message());
    let lost = || {
        let reason = match status.source() {
            Some(source) => innermost(source),
            None => status.message().to_owned(),
        };
        NodeError::unavailable(format!("the connection to {server} was lost: {reason}"))
    };
    match status.code() {
        _ if status.source().is_some() => lost(),
        Code::Unavailable | Code::Cancelled | Code::Aborted => lost(),
        Code::InvalidArgument | Code::OutOfRange => NodeError::invalid(said()),
        Code::Unauthenticated | Code::PermissionDenied => {
            NodeError::failed(format!("{}; is the `token` right?", said()))
        }
        Code::Unimplemented => {
            NodeError::failed(format!("{}; is that the address of Milvus?", said()))
        }
        _ => NodeError::failed(said()),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The token as Milvus takes it.
fn authorization(token: &Text) -> Result<MetadataValue<Ascii>, NodeError> {
    let encoded = BASE64_STANDARD.encode(token.expose());
    let value: Result<MetadataValue<Ascii>, _> = encoded.parse();
    let mut value = value.map_err(|error| NodeError::because("the token cannot be sent", error))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A service that makes TLS connections.
fn secure_connector(
    host: &str,
) -> Result<
    impl tower::Service<
        Uri,
        Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>,
        Error = io::Error,
        Future: Send,
    > + Send
    + 'static,
    NodeError,
> {
    let mut config = tls::config(&Trust::System)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let host = ServerName::try_from(host.to_owned());
    let host = host.map_err(|error| NodeError::because("the host cannot have TLS", error))?;
    Ok(tower::service_fn(move |uri: Uri| {
        let (connector, host) = (connector.clone(), host.clone());
        async move {
            let place = (
                uri.host().unwrap_or_default(),
                uri.port_u16().unwrap_or(443),
            );
            let stream = TcpStream::connect(place).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(connector.connect(host, stream).await?))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &NodeError) -> &'static str {
        match error {
            NodeError::Full { .. } => "full",
            NodeError::Unavailable { .. } => "unavailable",
            NodeError::Invalid { .. } => "invalid",
            NodeError::Failed { .. } => "failed",
            _ => "other",
        }
    }

    #[test]
    fn what_milvus_says_becomes_an_error() {
        let cases = [
            (1, false, "unavailable"),
            (8, false, "full"),
            (100, false, "failed"),
            (103, true, "unavailable"),
            (1100, false, "invalid"),
            (65535, false, "failed"),
        ];
        for (code, retriable, expected) in cases {
            let status = Status {
                error_code: 1,
                reason: "no".into(),
                code,
                retriable,
            };
            assert_eq!(
                kind(&refused("Milvus", "Search", &status)),
                expected,
                "{code}"
            );
        }
        let cases = [
            (Code::Unavailable, "unavailable"),
            (Code::Unauthenticated, "failed"),
            (Code::InvalidArgument, "invalid"),
            (Code::Unimplemented, "failed"),
        ];
        for (code, expected) in cases {
            let status = tonic::Status::new(code, "no");
            assert_eq!(
                kind(&failed("Milvus", "Search", &status)),
                expected,
                "{code}"
            );
        }
    }

    #[test]
    fn a_token_is_sent_as_milvus_takes_it() {
        let value = authorization(&Text::secret("root:Milvus")).unwrap();
        assert_eq!(value.to_str().unwrap(), "cm9vdDpNaWx2dXM=");
        assert!(value.is_sensitive());
    }
}
