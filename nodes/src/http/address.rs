//! Where a request may go.
//!
//! An address whose host stands in the file goes there. One whose host a request fills in goes only
//! to hosts that the file allows, by an address that was looked up once and looked at: the name of an
//! allowed host that leads into this machine, or to where clouds keep their credentials, is refused.

use crate::NodeError;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Which addresses requests may have.
#[derive(Debug, Clone)]
pub(super) enum Allowed {
    /// This scheme, host and port.
    Origin(Box<Url>),
    /// These hosts, in lower case.
    Hosts(Arc<[String]>),
}

impl Allowed {
    /// From what the file says.
    pub(super) fn new<'a>(
        origin: Option<&str>,
        hosts: impl Iterator<Item = &'a str>,
    ) -> Result<Self, NodeError> {
        let Some(origin) = origin else {
            let hosts = hosts.map(str::to_ascii_lowercase);
            return Ok(Allowed::Hosts(hosts.collect()));
        };
        let url = Url::parse(origin)
            .map_err(|error| NodeError::because(format!("{origin:?} is no address"), error))?;
        Ok(Allowed::Origin(Box::new(url)))
    }

    /// The address that a text is.
    ///
    /// # Errors
    /// It is none, or one that the file does not allow.
    pub(super) fn parse(&self, text: &str) -> Result<Url, NodeError> {
        let url = Url::parse(text)
            .map_err(|error| NodeError::invalid(format!("`url` is no address: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NodeError::invalid(
                "`url` must begin with http:// or https://",
            ));
        }
        let host = url.host_str().unwrap_or_default();
        match self {
            Allowed::Origin(origin) if origin.origin() == url.origin() => Ok(url),
            Allowed::Hosts(hosts) if hosts.iter().any(|allowed| allowed == host) => Ok(url),
            _ => Err(NodeError::invalid(format!(
                "the host {host:?} is not allowed"
            ))),
        }
    }
}

/// Looks names up and keeps back the addresses that a host of an allow-list must not have. What it
/// gives is what is connected to: nothing is looked up again in between.
pub(super) struct Guard(pub(super) Arc<[String]>);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_ascii_lowercase();
        // Who allows this name means this machine.
        let trusted = name == "localhost" && self.0.contains(&name);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let good: Vec<SocketAddr> = found
                .filter(|address| trusted || is_outside(address.ip()))
                .collect();
            if good.is_empty() {
                return Err(format!("the host {name:?} leads to an address inside").into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is neither this machine nor its link, where clouds keep what tells who a
/// machine is.
fn is_outside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.octets()[0] == 0)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed() -> Allowed {
        Allowed::new(Some("https://api.example"), std::iter::empty()).unwrap()
    }

    #[test]
    fn a_fixed_host_stays() {
        for good in [
            "https://api.example/a",
            "https://API.example:443/",
            "https://u:p@api.example/",
        ] {
            assert!(fixed().parse(good).is_ok(), "{good}");
        }
        for bad in [
            "https://api.example.evil.test/",
            "https://api.example@evil.test/",
            "http://api.example/",
            "https://api.example:8443/",
            "file:///etc/passwd",
            "api.example",
            "",
        ] {
            let error = fixed().parse(bad).unwrap_err();
            assert!(matches!(error, NodeError::Invalid { .. }), "{bad}");
        }
    }

    #[test]
    fn a_host_that_is_filled_in_is_one_of_the_list() {
        let allowed = Allowed::new(None, ["one.example", "127.0.0.1"].into_iter()).unwrap();
        for good in [
            "http://one.example/",
            "https://ONE.example:81/x",
            "http://127.0.0.1:9/",
        ] {
            assert!(allowed.parse(good).is_ok(), "{good}");
        }
        // Another way to write an address that is not on the list is another address.
        for bad in [
            "http://two.example/",
            "http://one.example.two/",
            "http://127.0.0.2/",
            "http://[::1]/",
        ] {
            assert!(allowed.parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_inside_are_known() {
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "255.255.255.255",
            "224.0.0.1",
        ] {
            assert!(!is_outside(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["10.0.0.1", "192.168.1.1", "1.1.1.1", "2606:4700::1111"] {
            assert!(is_outside(outside.parse().unwrap()), "{outside}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_unless_it_is_meant() {
        let look = async |hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let found = Guard(hosts).resolve("localhost".parse().unwrap()).await;
            found.map(|addresses| addresses.count()).unwrap_or(0)
        };
        assert_eq!(look(&["other.example"]).await, 0);
        assert!(look(&["localhost"]).await > 0);
    }
}
