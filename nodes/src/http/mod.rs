//! `http`: a call of an HTTP service that answers with JSON or text.
//!
//! Redirects are not followed, since they would lead where the file does not say. Nothing is tried again
//! here: an error says whether that is worth it, and the pool decides. Headers that the file reads from
//! the environment are never shown.

mod address;
mod answer;
mod result;

use crate::{Input, Node, NodeError, Running, Value, http_client};
use address::{Allowed, Guard};
use futures::future::{BoxFuture, join_all};
use reqwest::{
    Client, Method, Url,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use schema::kind;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a call may take where neither the node nor the request says.
const LONGEST: Duration = Duration::from_secs(60);

/// Calls an HTTP service.
///
/// Takes the arguments `url`, `body`, `header NAME` and `query NAME`, as far as the file has them. Gives
/// what `result` makes of the response, or its body: JSON as a value, any other text as it is.
pub struct Http {
    client: Client,
    allowed: Allowed,
    /// The method; by the body if the file does not say.
    method: Option<Method>,
    /// Headers that are the same in every request.
    fixed: HeaderMap,
    /// Headers that are filled in, with their ports.
    filled: Vec<(HeaderName, String)>,
    /// Parameters of the address with their ports.
    query: Vec<(String, String)>,
    accept: Vec<u16>,
    result: result::Result,
}

impl Http {
    /// A node as the file declares it. Nothing is called yet.
    ///
    /// # Errors
    /// An address, header or method that cannot be one.
    pub fn new(work: &kind::Http) -> Result<Self, NodeError> {
        let hosts = work.allow_hosts.iter().map(|host| host.value.expose());
        let allowed = Allowed::new(work.origin(), hosts)?;
        let mut fixed = HeaderMap::new();
        // Nothing compressed, so that the bound on a body bounds what it becomes.
        fixed.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        fixed.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/*;q=0.9, */*;q=0.5"),
        );
        let mut filled = Vec::new();
        for header in &work.headers {
            let text = &header.name.value;
            let name: HeaderName = text.parse().map_err(|error| {
                NodeError::because(format!("{text:?} is no name of a header"), error)
            })?;
            match &header.value {
                kind::HeaderValue::Argument(_) => filled.push((name, header.port.clone())),
                kind::HeaderValue::Secret(secret) => {
                    fixed.insert(name.clone(), secret_value(&name, secret.expose())?);
                }
            }
        }
        let method = work.method.as_ref().map(|method| method.value.parse());
        let mut query: Vec<(String, String)> = Vec::new();
        for one in &work.query {
            if !query.iter().any(|(_, port)| *port == one.port) {
                query.push((one.name.value.clone(), one.port.clone()));
            }
        }
        Ok(Self {
            client: client(&allowed)?,
            allowed,
            method: method
                .transpose()
                .map_err(|error| NodeError::because("the method is none", error))?,
            fixed,
            filled,
            query,
            accept: work.accept.iter().map(|status| status.value).collect(),
            result: result::Result::new(work.result.as_ref())?,
        })
    }

    async fn answer(&self, item: Input) -> Result<Value, NodeError> {
        let begun = Instant::now();
        let deadline = item.context.deadline.unwrap_or(begun + LONGEST);
        let called = timeout_at(deadline, self.call(&item)).await;
        called.unwrap_or(Err(NodeError::Timeout {
            after: deadline - begun,
        }))
    }

    async fn call(&self, item: &Input) -> Result<Value, NodeError> {
        let request = self.request(item)?;
        let response = self.client.execute(request).await.map_err(unreachable)?;
        self.result.of(answer::read(response, &self.accept).await?)
    }

    fn request(&self, item: &Input) -> Result<reqwest::Request, NodeError> {
        let url = item.arguments.get("url").as_text();
        let url = url.ok_or_else(|| NodeError::invalid("`url` must be a text"))?;
        let url = self.with_query(self.allowed.parse(url)?, item)?;
        let body = item.arguments.get("body");
        let method = self.method.clone().unwrap_or(match body.is_none() {
            true => Method::GET,
            false => Method::POST,
        });
        let mut request = reqwest::Request::new(method, url);
        let (kind, bytes) = match body {
            Value::None => (None, Vec::new()),
            Value::Text(text) => (Some("text/plain; charset=utf-8"), text.as_bytes().to_vec()),
            value => {
                let json = value.to_json();
                let json = json.map_err(|error| NodeError::because("`body` is no JSON", error))?;
                (Some("application/json"), json)
            }
        };
        let headers = request.headers_mut();
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        headers.extend(self.fixed.clone());
        for (name, port) in &self.filled {
            let value = item.arguments.get(port);
            if value.is_none() {
                continue;
            }
            let value = HeaderValue::from_str(&plain(value)?)
                .map_err(|_| NodeError::invalid(format!("`{port}` is no value of a header")))?;
            headers.insert(name.clone(), value);
        }
        if kind.is_some() {
            *request.body_mut() = Some(bytes.into());
        }
        Ok(request)
    }

    fn with_query(&self, mut url: Url, item: &Input) -> Result<Url, NodeError> {
        if self.query.is_empty() {
            return Ok(url);
        }
        let mut pairs = url.query_pairs_mut();
        for (name, port) in &self.query {
            for value in item.arguments.all(port) {
                match value {
                    Value::List(list) => {
                        for one in list.iter() {
                            pairs.append_pair(name, &plain(one)?);
                        }
                    }
                    value => drop(pairs.append_pair(name, &plain(value)?)),
                }
            }
        }
        drop(pairs);
        Ok(url)
    }
}

impl Node for Http {
    fn run(&self, batch: Vec<Input>) -> BoxFuture<'_, Vec<Result<Value, NodeError>>> {
        Box::pin(join_all(batch.into_iter().map(|item| self.answer(item))))
    }

    fn running(&self) -> Running {
        Running::ManyItems
    }
}

fn client(allowed: &Allowed) -> Result<Client, NodeError> {
    let mut builder = http_client()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .user_agent(concat!("engine/", env!("CARGO_PKG_VERSION")));
    if let Allowed::Hosts(hosts) = allowed {
        // A proxy would look names up by itself.
        builder = builder.dns_resolver(Guard(Arc::clone(hosts))).no_proxy();
    }
    let client = builder.build();
    client.map_err(|error| NodeError::because("failed to make an HTTP client", error))
}

fn secret_value(name: &HeaderName, secret: &str) -> Result<HeaderValue, NodeError> {
    // The error is not told further: it could hold the secret.
    let mut value = HeaderValue::from_str(secret).map_err(|_| {
        NodeError::failed(format!(
            "the secret of the header `{name}` is no value of one"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A value as the text of a header or parameter.
fn plain(value: &Value) -> Result<String, NodeError> {
    match value {
        Value::Text(text) => Ok(text.to_string()),
        Value::None => Ok(String::new()),
        value => {
            let json = value.to_json();
            let json = json.map_err(|error| NodeError::because("a value is no JSON", error))?;
            String::from_utf8(json).map_err(|error| NodeError::because("a value is no text", error))
        }
    }
}

/// A call that brought no whole response. The address is left out, since it may hold what nobody
/// should read in a log.
fn unreachable(error: reqwest::Error) -> NodeError {
    let error = error.without_url();
    let mut reason = format!("the service is out of reach: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        reason += &format!(": {inner}");
        cause = inner.source();
    }
    NodeError::unavailable(reason)
}
