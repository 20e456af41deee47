//! Requests and answers of one endpoint: JSON out, JSON or a stream of events back.

use super::{Failure, Target, events::Events, site::Way};
use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, RequestBuilder, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::de::DeserializeOwned;

/// Largest answer that is read as a whole, and largest message of gRPC.
pub(super) const LARGEST: usize = 64 << 20;
/// Largest body of an error that is read.
const LARGEST_ERROR: usize = 64 << 10;

/// What a request names, for the error that says that it does not exist: what it is, and its name.
pub(crate) type Named<'a> = Option<(&'static str, &'a str)>;

impl Target {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = match &self.site().way {
            Way::Http { base } => format!("{base}{path}"),
            // Such an address is called by `unary`; this one is refused as none.
            Way::Grpc(_) => path.to_owned(),
        };
        let request = self.shared.client.request(method, url);
        let header = self.shared.key_header;
        let key = self.shared.key.as_ref().map(|key| match header {
            Some(_) => key.expose().to_owned(),
            None => format!("Bearer {}", key.expose()),
        });
        match key.and_then(|key| HeaderValue::try_from(key).ok()) {
            Some(mut key) => {
                key.set_sensitive(true);
                request.header(header.unwrap_or(AUTHORIZATION.as_str()), key)
            }
            None => request,
        }
    }

    /// Posts JSON; the answer's head is there and is a success.
    pub(super) async fn post(
        &self,
        path: &str,
        body: Bytes,
        accept: &'static str,
        named: Named<'_>,
    ) -> Result<Response, Failure> {
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, accept)
            .body(body);
        self.send(request, named).await
    }

    /// Sends a request; the answer's head is there and is a success.
    async fn send(&self, request: RequestBuilder, named: Named<'_>) -> Result<Response, Failure> {
        let lost = |error| Failure::of_transport(self.name(), &error);
        let mut answer = request.send().await.map_err(lost)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        // What the service says is worth having, but its status is the answer: a body that does not
        // arrive changes nothing.
        let mut body = BytesMut::new();
        while let Ok(Some(piece)) = answer.chunk().await
            && body.len() < LARGEST_ERROR
        {
            body.extend_from_slice(&piece);
        }
        let body = self.without_key(&body);
        let headers = answer.headers();
        Err(Failure::of_status(
            self.name(),
            status,
            headers,
            &body,
            named,
        ))
    }

    /// Gets JSON.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        named: Named<'_>,
    ) -> Result<T, Failure> {
        let (_, body) = self.fetch(self.request(Method::GET, path), named).await?;
        self.parse(&body)
    }

    /// Sends a request and reads its answer, which is a success, to its end.
    pub(crate) async fn fetch(
        &self,
        request: RequestBuilder,
        named: Named<'_>,
    ) -> Result<(HeaderMap, Bytes), Failure> {
        let mut answer = self.send(request, named).await?;
        let body = self.whole(&mut answer).await?.freeze();
        Ok((std::mem::take(answer.headers_mut()), body))
    }

    /// Puts JSON and reads JSON.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        let request = self
            .request(Method::PUT, path)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let mut answer = self.send(request, None).await?;
        let body = self.whole(&mut answer).await?;
        self.parse(&body)
    }

    /// Posts JSON and reads JSON.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
        named: Named<'_>,
    ) -> Result<T, Failure> {
        let mut answer = self.post(path, body, "application/json", named).await?;
        let body = self.whole(&mut answer).await?;
        self.parse(&body)
    }

    /// The rest of a body.
    pub(super) async fn whole(&self, answer: &mut Response) -> Result<BytesMut, Failure> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.chunk(answer).await? {
            if body.len() + piece.len() > LARGEST {
                let most = schema::ByteSize(LARGEST as u64);
                let reason = format!("the answer of {} has more than {most}", self.name());
                return Err(Failure::senseless(reason));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body).map_err(|error| {
            let reason = format!("the answer of {} makes no sense: {error}", self.name());
            Failure::senseless(reason)
        })
    }

    async fn chunk(&self, answer: &mut Response) -> Result<Option<Bytes>, Failure> {
        let chunk = answer.chunk().await;
        chunk.map_err(|error| Failure::of_transport(self.name(), &error))
    }

    /// A service may repeat the key when it refuses it.
    fn without_key(&self, body: &[u8]) -> Vec<u8> {
        let key = self.shared.key.as_ref();
        match key.map(|key| key.expose()).filter(|key| !key.is_empty()) {
            Some(key) => String::from_utf8_lossy(body)
                .replace(key, "***")
                .into_bytes(),
            None => body.to_vec(),
        }
    }
}

/// The events of an answer.
pub(super) struct EventReader {
    answer: Response,
    events: Events,
    ended: bool,
}

impl EventReader {
    pub(super) fn new(answer: Response) -> Self {
        Self {
            answer,
            events: Events::default(),
            ended: false,
        }
    }

    /// The data of the next event; none when the body has ended.
    pub(super) async fn next(&mut self, target: &Target) -> Result<Option<String>, Failure> {
        loop {
            let event = self.events.next().map_err(|_| {
                let reason = format!("{} sends a line without end", target.name());
                Failure::senseless(reason)
            })?;
            if event.is_some() || self.ended {
                return Ok(event);
            }
            match target.chunk(&mut self.answer).await? {
                Some(piece) => self.events.push(&piece),
                None => {
                    self.ended = true;
                    return Ok(self.events.rest());
                }
            }
        }
    }
}

/// A name as a segment of a path.
pub(crate) fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_segment() {
        assert_eq!(escaped("a-b_1.0"), "a-b_1.0");
        assert_eq!(escaped("../x y"), "..%2Fx%20y");
    }
}
