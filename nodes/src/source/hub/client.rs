//! The hub's HTTP interface: what a revision holds, and what a file is.

use super::layout::is_commit;
use crate::source::{HubSettings, Problem};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{AUTHORIZATION, ETAG, HeaderMap, HeaderName, LOCATION},
    redirect,
};
use schema::{Text, place::is_inner_path};
use std::{error::Error, time::Duration};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 8;
/// How often a question is asked that a server cannot answer at the moment.
const ATTEMPTS: u32 = 3;
/// Largest answer to the question what a revision holds.
const MAX_LISTING: usize = 32 << 20;

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// A connection to a hub.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: Url,
    token: Option<Text>,
    retry_pause: Duration,
}

/// What a revision holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// The name of its content: a SHA-256 for weights, something shorter for small files.
    pub(super) etag: String,
    pub(super) size: Option<u64>,
}

impl Client {
    pub(super) fn new(settings: &HubSettings) -> Result<Self, Problem> {
        let endpoint = Url::parse(&settings.endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| Problem::Malformed {
                reason: format!("the hub's address {:?} is no URL", settings.endpoint),
            })?;
        let http = crate::http_client()
            .user_agent(concat!("engine/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // Followed by hand: the hub says on the way what the file is, and the token must not
            // travel on.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| unreachable("the hub", error))?;
        Ok(Self {
            http,
            endpoint,
            token: settings.token.clone(),
            retry_pause: settings.retry_pause,
        })
    }

    /// Asks what a revision holds.
    pub(super) async fn list(&self, repo: &str, revision: &str) -> Result<Listing, Problem> {
        #[derive(serde::Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(serde::Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let segments = ["api", "models"].into_iter().chain(repo.split('/'));
        let url = self.url(segments.chain(["revision", revision]));
        let what = format!("{repo}@{revision}");
        let mut response = self.ask(Method::GET, url, &what).await?;
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unreachable(&what, error))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_LISTING {
                return Err(Problem::unsuitable(what, "has a listing without end"));
            }
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| Problem::unsuitable(&what, format!("is not described: {error}")))?;
        if !is_commit(&answer.sha) {
            return Err(Problem::unsuitable(what, "has no commit"));
        }
        let files = answer.siblings.into_iter().map(|sibling| sibling.rfilename);
        Ok(Listing {
            commit: answer.sha,
            // A name that would lead out of the snapshot can only be hostile.
            files: files.filter(|file| is_inner_path(file)).collect(),
        })
    }

    /// Asks what a file is, without fetching it.
    pub(super) async fn describe(&self, url: &Url, what: &str) -> Result<Described, Problem> {
        let response = self.ask(Method::HEAD, url.clone(), what).await?;
        let headers = response.headers();
        let linked = headers.contains_key(LINKED_ETAG);
        let etag = text(headers, if linked { LINKED_ETAG } else { ETAG });
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        let etag = etag
            .filter(|etag| is_blob_name(etag))
            .ok_or_else(|| Problem::unsuitable(what, "comes without an etag"))?;
        let size = if linked {
            LINKED_SIZE
        } else {
            reqwest::header::CONTENT_LENGTH
        };
        Ok(Described {
            etag: etag.to_owned(),
            size: text(headers, size).and_then(|size| size.parse().ok()),
        })
    }

    /// Where a file of a commit is fetched.
    pub(super) fn file_url(&self, repo: &str, commit: &str, file: &str) -> Url {
        let segments = repo.split('/').chain(["resolve", commit]);
        self.url(segments.chain(file.split('/')))
    }

    /// Asks for a file's bytes; answers of any kind come back.
    pub(super) async fn get(
        &self,
        url: &Url,
        headers: HeaderMap,
        what: &str,
    ) -> Result<Response, Problem> {
        self.send(Method::GET, url.clone(), headers, what).await
    }

    /// Waits before a question is asked again that failed so many times.
    pub(super) async fn pause(&self, failures: u32) {
        tokio::time::sleep(self.retry_pause * (1 << failures.saturating_sub(1).min(6))).await;
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(&self, status: StatusCode, what: &str) -> Problem {
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Problem::NotFound {
                what: what.to_owned(),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Problem::Refused {
                what: what.to_owned(),
                status: status.as_u16(),
                help: match self.token {
                    Some(_) => "the token in HF_TOKEN may not read it, or it does not exist",
                    None => "it needs a token in HF_TOKEN, or does not exist",
                },
            },
            _ => Problem::Unreachable {
                what: what.to_owned(),
                reason: format!("the server answers {status}"),
            },
        }
    }

    /// An address below the endpoint; each segment is escaped, a `/` within one too.
    fn url<'a>(&self, segments: impl Iterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Asks a question, again if the server is busy.
    async fn ask(&self, method: Method, url: Url, what: &str) -> Result<Response, Problem> {
        let mut failures = 0;
        loop {
            let result = self
                .send(method.clone(), url.clone(), HeaderMap::new(), what)
                .await;
            let problem = match result {
                Ok(response) if is_answer(&response) => return Ok(response),
                Ok(response) => self.refusal(response.status(), what),
                Err(problem) => problem,
            };
            failures += 1;
            if failures == ATTEMPTS || !matches!(problem, Problem::Unreachable { .. }) {
                return Err(problem);
            }
            self.pause(failures).await;
        }
    }

    async fn send(
        &self,
        method: Method,
        mut url: Url,
        headers: HeaderMap,
        what: &str,
    ) -> Result<Response, Problem> {
        for _ in 0..MAX_REDIRECTS {
            let mut request = self
                .http
                .request(method.clone(), url.clone())
                .headers(headers.clone());
            if let Some(token) = &self.token
                && url.origin() == self.endpoint.origin()
            {
                request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
            }
            let response = request
                .send()
                .await
                .map_err(|error| unreachable(what, error))?;
            let describes = method == Method::HEAD && response.headers().contains_key(LINKED_ETAG);
            if !response.status().is_redirection() || describes {
                return Ok(response);
            }
            url = next(&url, &response).map_err(|reason| Problem::Unreachable {
                what: what.to_owned(),
                reason,
            })?;
        }
        Err(Problem::Unreachable {
            what: what.to_owned(),
            reason: "the server sends us round in circles".to_owned(),
        })
    }
}

/// An answer that says something: a success, or a redirection that tells what it leads to.
fn is_answer(response: &Response) -> bool {
    response.status().is_success() || response.status().is_redirection()
}

fn next(url: &Url, response: &Response) -> Result<Url, String> {
    let location = text(response.headers(), LOCATION).ok_or("a redirection leads nowhere")?;
    let next = url
        .join(location)
        .map_err(|_| "a redirection leads to no URL")?;
    let safe = next.scheme() == "https" || (next.scheme() == "http" && url.scheme() == "http");
    if !safe {
        return Err(format!(
            "a redirection leads from {} to {}",
            url.scheme(),
            next.scheme()
        ));
    }
    Ok(next)
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// An etag becomes a file's name.
fn is_blob_name(etag: &str) -> bool {
    (1..=128).contains(&etag.len())
        && !etag.starts_with('.')
        && etag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// An error of the transport, without the address: signed addresses are secrets.
pub(super) fn unreachable(what: &str, error: reqwest::Error) -> Problem {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    Problem::Unreachable {
        what: what.to_owned(),
        reason,
    }
}
