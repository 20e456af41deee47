//! Load over HTTP, closed or open loop, and what came of it.
//!
//! In a closed loop each client sends its next request when the last is answered: it shows the most
//! that a service can do. In an open loop requests are sent at a rate whether or not earlier ones
//! are answered, and latency counts from the moment a request was due, not from when it could be
//! sent, so that a stall is seen by every request that it delayed (Tene's "coordinated omission").

mod outcome;

pub use outcome::Outcome;

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// This many clients, each with one request under way.
    Closed {
        /// Number of clients.
        clients: usize,
    },
    /// This many requests a second.
    Open {
        /// Requests a second.
        rate: f64,
    },
}

/// What is sent where, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The address to POST to.
    pub url: String,
    /// The JSON body of every request.
    pub body: Bytes,
    /// How requests are sent.
    pub load: Load,
    /// Time before the measured part; its requests are not counted.
    pub warmup: Duration,
    /// Time of the measured part.
    pub duration: Duration,
}

/// Requests that an open loop has under way at most; one more is counted as not sent.
const MAX_UNDER_WAY: usize = 10_000;

/// Sends the load and measures. `second` is called with the seconds passed, about once a second.
///
/// # Errors
/// The client cannot be built. Failed requests are part of the outcome.
pub async fn drive(client: &reqwest::Client, plan: &Plan, mut second: impl FnMut(u64)) -> Outcome {
    let start = Instant::now();
    let measured = start + plan.warmup;
    let end = measured + plan.duration;
    let mut outcome = Outcome::default();
    let mut under_way = FuturesUnordered::new();
    let mut sent = 0_u64;
    if let Load::Closed { clients } = plan.load {
        under_way.extend((0..clients).map(|_| request(client, plan, start)));
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        let next = match plan.load {
            Load::Open { rate } => start + Duration::from_secs_f64(sent as f64 / rate),
            Load::Closed { .. } => end,
        };
        tokio::select! {
            biased;
            Some(answer) = under_way.next() => {
                let Answer { due, finished, status } = answer;
                if due >= measured || (finished >= measured && matches!(plan.load, Load::Closed { .. })) {
                    outcome.record(status, finished - due);
                }
                if matches!(plan.load, Load::Closed { .. }) && finished < end {
                    under_way.push(request(client, plan, finished));
                }
            }
            () = sleep_until(next), if next < end => {
                sent += 1;
                match under_way.len() < MAX_UNDER_WAY {
                    true => under_way.push(request(client, plan, next)),
                    false => outcome.not_sent += 1,
                }
            }
            _ = tick.tick() => second(start.elapsed().as_secs()),
            () = sleep_until(end), if under_way.is_empty() => break,
        }
        if under_way.is_empty() && Instant::now() >= end {
            break;
        }
    }
    outcome.seconds = (Instant::now() - measured).as_secs_f64();
    outcome
}

struct Answer {
    /// When the request was to be sent.
    due: Instant,
    finished: Instant,
    /// The status, or nothing if there was no answer.
    status: Option<u16>,
}

async fn request(client: &reqwest::Client, plan: &Plan, due: Instant) -> Answer {
    let sent = client
        .post(&plan.url)
        .header("content-type", "application/json")
        .body(plan.body.clone());
    let status = match sent.send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            // A body that breaks off is no answer, whatever its status said.
            answer.bytes().await.ok().map(|_| status)
        }
        Err(_) => None,
    };
    Answer {
        due,
        finished: Instant::now(),
        status,
    }
}
