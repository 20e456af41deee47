//! `server`: how the engine listens.

use super::Rollout;
use crate::{
    ByteSize, Diagnostic, Spanned, Text, codes,
    decode::{Fields, block},
    syntax::shorten,
};
use std::time::Duration;

block! {
    /// How the engine listens.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Server {
        /// Where requests come in, `host:port`.
        pub listen: Spanned<Text> = option("listen").or(Text::plain("127.0.0.1:8000")),
        /// Where metrics, status and control are served, `host:port`. Never the public address.
        pub admin: Spanned<Text> = option("admin").or(Text::plain("127.0.0.1:8001")),
        /// Keys of which a request must bear one, as `authorization: Bearer …`. A public address needs one.
        pub api_keys: Vec<Spanned<Text>> = option("api-key").many(),
        /// The largest request body taken.
        pub max_body: ByteSize = option("max-body").at_least(ByteSize(1)).or(ByteSize(1 << 20)),
        /// How long a request may take where neither it nor its graph says.
        pub timeout: Duration = option("timeout")
            .at_least(Duration::from_millis(1))
            .or(Duration::from_secs(60)),
        /// How long running requests are given to finish at a stop.
        pub graceful_shutdown_timeout: Duration = option("graceful-shutdown-timeout")
            .or(Duration::from_secs(20)),
        /// How a changed file comes to be served; without it, to all requests at once.
        pub rollout: Option<Rollout> = block("rollout", Rollout::read),
    }
}

impl Default for Server {
    fn default() -> Self {
        Fields::defaults(Server::fields)
    }
}

impl Server {
    pub(super) fn read(f: &mut Fields) -> Self {
        let server = Self::fields(f);
        for address in [&server.listen, &server.admin] {
            let port = address.expose().rsplit_once(':');
            if port.is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                f.report(|| {
                    let message =
                        format!("\"{}\" is not an address", shorten(&address.to_string()));
                    Diagnostic::error(codes::WRONG_TYPE, message, address.span)
                        .help("write a host and a port, such as \"127.0.0.1:8000\"")
                });
            }
        }
        server
    }
}
