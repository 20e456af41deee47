//! `server`: how the engine listens.

use super::Rollout;
use crate::{
    ByteSize, Diagnostic, Spanned, Text, codes,
    decode::{Fields, block},
    syntax::shorten,
};
use std::{net::IpAddr, time::Duration};

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
        let has_key = f.has("api-key");
        let server = Self::fields(f);
        let [listen, admin] = [&server.listen, &server.admin].map(|text| {
            let address = Address::parse(text.expose());
            if address.is_none() {
                f.report(|| {
                    let message = format!("\"{}\" is not an address", shorten(&text.to_string()));
                    Diagnostic::error(codes::WRONG_TYPE, message, text.span)
                        .help("write a host and a port, such as \"127.0.0.1:8000\"")
                });
            }
            address
        });
        if listen.is_some_and(Address::is_public) && !has_key {
            f.report(|| {
                let message =
                    "`listen` can be reached from other machines, and there is no `api-key`";
                Diagnostic::error(codes::MISSING_OPTION, message, server.listen.span)
                    .help("add `api-key (env)\"NAME\"` to `server`, or listen on 127.0.0.1")
            });
        }
        if let (Some(one), Some(other)) = (listen, admin)
            && one.collides_with(other)
        {
            f.report(|| {
                let message = "`listen` and `admin` cannot be the same address";
                Diagnostic::error(codes::CONFLICTING_OPTIONS, message, server.admin.span)
                    .also(server.listen.span, "the other one")
                    .help("give `admin` a port of its own")
            });
        }
        server
    }
}

/// A host, as far as it is known without asking for its name, and a port.
#[derive(Clone, Copy)]
struct Address<'a> {
    host: &'a str,
    ip: Option<IpAddr>,
    port: u16,
}

impl<'a> Address<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let address = Self {
            host,
            ip: inner.unwrap_or(host).parse().ok(),
            port: port.parse().ok()?,
        };
        (!host.is_empty()).then_some(address)
    }

    /// Whether other machines can reach it. A host with a name is looked at when its address is known.
    fn is_public(self) -> bool {
        self.ip.is_some_and(|ip| !ip.is_loopback())
    }

    /// Whether it is known that no second listener can be on the other. Of a name and a number only binding tells.
    fn collides_with(self, other: Self) -> bool {
        let hosts_meet = match (self.ip, other.ip) {
            (Some(one), Some(other)) => {
                let one_is_any = one.is_unspecified() || other.is_unspecified();
                one == other || one_is_any && one.is_ipv4() == other.is_ipv4()
            }
            (None, None) => self.host.eq_ignore_ascii_case(other.host),
            _ => false,
        };
        hosts_meet && self.port == other.port && self.port != 0
    }
}
