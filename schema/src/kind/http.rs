//! `http`: a call of an HTTP service.

use super::Port;
use crate::{
    Argument, Literal, Spanned, Text, Type,
    decode::{Fields, block},
};

block! {
    /// Calls an HTTP service that answers with JSON or text.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Http {
        /// The method; `POST` with a body and `GET` without if absent.
        pub method: Option<Spanned<String>> = option("method")
            .one_of(&["GET", "POST", "PUT", "PATCH", "DELETE"])
            .optional(),
        /// The address. Its host is fixed by the file, or one of `allow-host`.
        pub url: Argument = option("url").required(),
        /// A host that a templated address may name.
        pub allow_hosts: Vec<Spanned<Text>> = option("allow-host").many(),
        /// A header of the request, `header NAME VALUE`.
        pub headers: Vec<Header> = blocks("header", Header::read),
        /// A parameter of the address, `query NAME VALUE`.
        pub query: Vec<Query> = blocks("query", Query::read),
        /// The body, sent as JSON unless it is a text.
        pub body: Option<Argument> = option("body").optional(),
        /// Statuses that are a success; 200 to 299 if absent.
        pub accept: Vec<Spanned<u16>> = option("accept").at_least(100).at_most(599).many(),
        /// What the node yields, a template over `status`, `headers` and `body` of the response; the
        /// body if absent.
        pub result: Option<Argument> = option("result").optional(),
    }
}

/// A header of an HTTP request.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Its name.
    pub name: Spanned<String>,
    /// The port of its value.
    pub port: String,
    /// Its value.
    pub value: HeaderValue,
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    /// Filled in for each request.
    Argument(Argument),
    /// Read from the environment when the file is loaded, and never shown.
    Secret(Text),
}

impl Header {
    fn read(f: &mut Fields) -> Self {
        let name: Spanned<String> = f.doc("Its name.").argument("name").required();
        Header {
            port: format!("header {}", name.value.to_ascii_lowercase()),
            name,
            value: f.doc("Its value.").argument("value").required(),
        }
    }
}

/// A parameter of an address.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Its name.
    pub name: Spanned<String>,
    /// The port of its value.
    pub port: String,
    /// Its value; a list is the same parameter several times.
    pub value: Argument,
}

impl Query {
    fn read(f: &mut Fields) -> Self {
        let (name, value) = named_value(f);
        Query {
            port: format!("query {}", name.value),
            name,
            value,
        }
    }
}

/// `NAME VALUE` on the line of a block.
pub(super) fn named_value(f: &mut Fields) -> (Spanned<String>, Argument) {
    (
        f.doc("Its name.").argument("name").required(),
        f.doc("Its value.").argument("value").required(),
    )
}

impl Http {
    /// Scheme, host and port as the file fixes them; none if a template fills in any of these.
    pub fn origin(&self) -> Option<&str> {
        let text = match &self.url {
            Argument::Literal(literal) => match &literal.value {
                Literal::Text(text) => text.as_str(),
                _ => return None,
            },
            Argument::Template(template) => template.text(),
        };
        let start = text.find("://")? + 3;
        let end = text[start..].find(['/', '?', '#']);
        let origin = end.map_or(text, |end| &text[..start + end]);
        let fixed = !origin.contains("{{") && !origin.contains("{%") && !origin.contains("{#");
        // Without an end of its own, what follows could become a part of the host.
        let closed = end.is_some() || matches!(self.url, Argument::Literal(_));
        (fixed && closed).then_some(origin)
    }

    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        let mut ports = vec![Port::new("url", Type::Text, &self.url)];
        for header in &self.headers {
            if let HeaderValue::Argument(argument) = &header.value {
                ports.push(Port::new(&header.port, Type::Any, argument));
            }
        }
        for query in &self.query {
            ports.push(Port::new(&query.port, Type::Any, &query.value));
        }
        if let Some(body) = &self.body {
            ports.push(Port::new("body", Type::Any, body));
        }
        ports
    }
}
