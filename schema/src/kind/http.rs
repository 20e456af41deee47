//! `http`: a call of an HTTP service.

use super::Port;
use crate::{
    Argument, Spanned, Text, Type,
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
        pub query: Vec<(Spanned<String>, Argument)> = blocks("query", named_value),
        /// The body, sent as JSON unless it is a text.
        pub body: Option<Argument> = option("body").optional(),
        /// Statuses that are a success; 200 to 299 if absent.
        pub accept: Vec<Spanned<u16>> = option("accept").at_least(100).at_most(599).many(),
    }
}

/// A header of an HTTP request.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Its name.
    pub name: Spanned<String>,
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
        Header {
            name: f.doc("Its name.").argument("name").required(),
            value: f.doc("Its value.").argument("value").required(),
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
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        let mut ports = vec![Port::new("url", Type::Text, &self.url)];
        for header in &self.headers {
            if let HeaderValue::Argument(argument) = &header.value {
                ports.push(Port::new(&header.name.value, Type::Any, argument));
            }
        }
        for (name, argument) in &self.query {
            ports.push(Port::new(&name.value, Type::Any, argument));
        }
        if let Some(body) = &self.body {
            ports.push(Port::new("body", Type::Any, body));
        }
        ports
    }
}
