//! `http`: a call of an HTTP service.

use super::Port;
use crate::{Argument, Spanned, Text, Type};

/// Calls an HTTP service that answers with JSON or text.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// The method. Default `POST` with a body, `GET` without.
    pub method: Option<Spanned<String>>,
    /// The address. Its host is fixed by the file, or one of `allow-hosts`.
    pub url: Argument,
    /// Hosts that a templated address may name.
    pub allow_hosts: Vec<Spanned<Text>>,
    /// Request headers, by name.
    pub headers: Vec<(Spanned<String>, Argument)>,
    /// Query parameters, by name.
    pub query: Vec<(Spanned<String>, Argument)>,
    /// The body, sent as JSON unless it is a text.
    pub body: Option<Argument>,
    /// Statuses that are a success. Default 200 to 299.
    pub accept: Vec<Spanned<u16>>,
}

impl Http {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        let mut ports = vec![Port::new("url", Type::Text, &self.url)];
        for (name, argument) in self.headers.iter().chain(&self.query) {
            ports.push(Port::new(&name.value, Type::Any, argument));
        }
        if let Some(body) = &self.body {
            ports.push(Port::new("body", Type::Any, body));
        }
        ports
    }
}
