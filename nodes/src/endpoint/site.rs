//! An address: what it is called, and the way to it.

use super::CONNECT;
use crate::NodeError;
use schema::Text;
use std::time::Duration;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// How often a connection on which calls wait is asked whether its other end is there. Servers of
/// gRPC take one who asks more often than this for an attacker, unless they are told otherwise.
const ASK: Duration = Duration::from_secs(300);
/// How long it may take to say so.
const SAY: Duration = Duration::from_secs(20);
/// How often a connection that is idle is kept known to the routers on the way.
const IDLE: Duration = Duration::from_secs(30);

/// An address that can be called.
pub(super) struct Site {
    /// What errors and logs call it: no path, no user and no key.
    pub(super) name: String,
    pub(super) way: Way,
}

/// How an address is reached.
pub(super) enum Way {
    /// HTTP; paths are added to `base`.
    Http { base: String },
    /// gRPC over one connection, which is made when it is needed and again when it was lost.
    Grpc(Channel),
}

impl Site {
    /// An address as it is written; `prefix` is put before paths where it has none of its own.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn new(url: &Text, prefix: &str) -> Result<Self, NodeError> {
        let none = |error: String| NodeError::failed(format!("{url} is no address: {error}"));
        let (text, is_grpc) = match url.expose().strip_prefix("grpc") {
            // What follows is `://` or `s://`.
            Some(rest) => (format!("http{rest}"), true),
            None => (url.expose().to_owned(), false),
        };
        let parsed = reqwest::Url::parse(&text).map_err(|error| none(error.to_string()))?;
        let origin = parsed.origin().ascii_serialization();
        let way = match is_grpc {
            true => Way::Grpc(channel(&origin).map_err(|error| none(error.to_string()))?),
            false => {
                let base = parsed.as_str().trim_end_matches('/').to_owned();
                Way::Http {
                    base: match parsed.path() {
                        "/" => base + prefix,
                        _ => base,
                    },
                }
            }
        };
        let name = match (url.is_secret(), is_grpc) {
            (true, _) => "the endpoint".to_owned(),
            (false, true) => origin.replacen("http", "grpc", 1),
            (false, false) => origin,
        };
        Ok(Self { name, way })
    }
}

/// A connection for gRPC, not made yet.
fn channel(origin: &str) -> Result<Channel, tonic::transport::Error> {
    crate::http_client::choose_cryptography();
    let mut endpoint = Endpoint::from_shared(origin.to_owned())?;
    if origin.starts_with("https:") {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    let endpoint = endpoint
        .user_agent(concat!("engine/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(CONNECT)
        // Without this, small requests wait for the acknowledgement of the one before.
        .tcp_nodelay(true)
        .tcp_keepalive(Some(IDLE))
        .http2_keep_alive_interval(ASK)
        .keep_alive_timeout(SAY)
        .http2_adaptive_window(true);
    Ok(endpoint.connect_lazy())
}
