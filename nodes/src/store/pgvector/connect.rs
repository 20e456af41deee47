//! Connecting to PostgreSQL: what a connection string says, and TLS as it asks for it.

use super::super::{
    CONNECT,
    tls::{self, Trust},
};
use crate::NodeError;
use rustls::pki_types::ServerName;
use schema::Text;
use std::{future::Future, io, pin::Pin, sync::Arc, task, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Client, Config, Socket,
    config::{Host, SslMode},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::{TlsConnector, client};

/// How long a connection is idle before it is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What every connection starts with. Without these, a search by an HNSW index gives at most 40
/// documents, and fewer where a filter leaves some out; what an older pgvector does not know it ignores.
const SESSION: &str = "SET hnsw.ef_search = 100; SET hnsw.iterative_scan = strict_order";

/// How to get a connection.
pub(super) struct Server {
    config: Config,
    tls: Tls,
    /// What errors call it: no user and no password.
    pub(super) name: String,
}

impl Server {
    /// Reads a connection string: a URL or `key=value` pairs, as libpq takes them, with `sslmode`
    /// `disable`, `prefer`, `require` or `verify-full`, and `sslrootcert`.
    ///
    /// # Errors
    /// It is none, or asks for what is not known.
    pub(super) fn new(url: &Text) -> Result<Self, NodeError> {
        let (text, ssl) = Ssl::taken_from(url.expose());
        let mut config: Config = text
            .parse()
            .map_err(|error| NodeError::because("the connection string is not one", error))?;
        let (mode, trust) = ssl.meant()?;
        config
            .ssl_mode(mode)
            .connect_timeout(CONNECT)
            .keepalives_idle(KEEP_ALIVE)
            .application_name("engine");
        Ok(Self {
            name: name(url, &config),
            tls: Tls(TlsConnector::from(Arc::new(tls::config(&trust)?))),
            config,
        })
    }

    /// A connection that is ready for searches.
    pub(super) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        tokio::spawn(async move {
            // Whoever uses the connection gets its error; one that nobody uses is not missed.
            let _ = connection.await;
        });
        client.batch_execute(SESSION).await?;
        Ok(client)
    }

    /// Has the server give up what a connection that is no longer wanted asked for.
    pub(super) fn cancel(&self, client: &Client) {
        let (token, tls) = (client.cancel_token(), self.tls.clone());
        tokio::spawn(tokio::time::timeout(CONNECT, async move {
            // The server may be what is in trouble.
            let _ = token.cancel_query(tls).await;
        }));
    }
}

fn name(url: &Text, config: &Config) -> String {
    let host = config.get_hosts().first().map(|host| match host {
        Host::Tcp(host) => host.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match host {
        Some(host) if !url.is_secret() => format!("PostgreSQL at {host}:{port}"),
        _ => "PostgreSQL".to_owned(),
    }
}

/// What a connection string says of TLS.
#[derive(Debug, Default, PartialEq)]
struct Ssl {
    mode: Option<String>,
    root: Option<String>,
}

impl Ssl {
    /// The connection string without what it says of TLS, which the client does not know as a whole.
    fn taken_from(text: &str) -> (String, Self) {
        let mut ssl = Self::default();
        let text = match text.split_once('?') {
            Some((server, pairs)) if server.contains("://") => {
                let left: Vec<_> = pairs.split('&').filter(|pair| !ssl.takes(pair)).collect();
                match left.is_empty() {
                    true => server.to_owned(),
                    false => format!("{server}?{}", left.join("&")),
                }
            }
            _ if text.contains("://") => text.to_owned(),
            _ => {
                let words = text.split_whitespace();
                let left: Vec<_> = words.filter(|word| !ssl.takes(word)).collect();
                match ssl == Self::default() {
                    // As it was, in case a quoted value has blanks.
                    true => text.to_owned(),
                    false => left.join(" "),
                }
            }
        };
        (text, ssl)
    }

    fn takes(&mut self, pair: &str) -> bool {
        let Some((key, value)) = pair.split_once('=') else {
            return false;
        };
        let place = match key {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root,
            _ => return false,
        };
        *place = Some(value.trim_matches('\'').replace("%2F", "/"));
        true
    }

    fn meant(self) -> Result<(SslMode, Trust), NodeError> {
        let root = self.root.filter(|root| root != "system");
        let strict = root.map_or(Trust::System, |root| Trust::Signed(root.into()));
        match self.mode.as_deref() {
            Some("disable") => Ok((SslMode::Disable, Trust::Anyone)),
            None | Some("prefer" | "allow") => Ok((SslMode::Prefer, Trust::Anyone)),
            // With certificates at hand libpq compares them; so do we, and the host's name as well.
            Some("require") if strict != Trust::System => Ok((SslMode::Require, strict)),
            Some("require") => Ok((SslMode::Require, Trust::Anyone)),
            Some("verify-full") => Ok((SslMode::Require, strict)),
            Some(other) => Err(NodeError::failed(format!(
                "sslmode {other:?} is not known; there are disable, prefer, require and verify-full"
            ))),
        }
    }
}

/// TLS as the client of PostgreSQL takes it.
#[derive(Clone)]
struct Tls(TlsConnector);

/// TLS to a host.
struct TlsTo {
    connector: TlsConnector,
    host: ServerName<'static>,
}

/// A stream over TLS.
struct Stream(client::TlsStream<Socket>);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = TlsTo;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<TlsTo, Self::Error> {
        Ok(TlsTo {
            connector: self.0.clone(),
            host: ServerName::try_from(host.to_owned())?,
        })
    }
}

impl TlsConnect<Socket> for TlsTo {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let stream = self.connector.connect(self.host, stream);
            Ok(Stream(stream.await?))
        })
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> task::Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_string_says_of_tls_is_taken_out() {
        let anyone = |mode| Ok((mode, Trust::Anyone));
        let cases = [
            ("host=a user=b", "host=a user=b", anyone(SslMode::Prefer)),
            (
                "host=a sslmode=require password='x'",
                "host=a password='x'",
                anyone(SslMode::Require),
            ),
            (
                "host=a password='x  y'",
                "host=a password='x  y'",
                anyone(SslMode::Prefer),
            ),
            (
                "postgres://b@a/c?sslmode=verify-full&connect_timeout=3",
                "postgres://b@a/c?connect_timeout=3",
                Ok((SslMode::Require, Trust::System)),
            ),
            (
                "postgres://a/c?sslmode=verify-full&sslrootcert=%2Fca.pem",
                "postgres://a/c",
                Ok((SslMode::Require, Trust::Signed("/ca.pem".into()))),
            ),
            (
                "postgres://a/c?sslmode=disable",
                "postgres://a/c",
                anyone(SslMode::Disable),
            ),
            (
                "postgres://a/c?sslmode=verify-ca",
                "postgres://a/c",
                Err(()),
            ),
        ];
        for (text, left, meant) in cases {
            let (rest, ssl) = Ssl::taken_from(text);
            assert_eq!(rest, left, "{text}");
            assert_eq!(ssl.meant().map_err(|_| ()), meant, "{text}");
        }
    }

    #[test]
    fn a_password_is_in_no_message() {
        let server = |text: Text| Server::new(&text).unwrap().name;
        let url = "postgres://me:secret@db.example:6000/c";
        assert_eq!(server(Text::plain(url)), "PostgreSQL at db.example:6000");
        assert_eq!(server(Text::secret(url)), "PostgreSQL");
    }
}
