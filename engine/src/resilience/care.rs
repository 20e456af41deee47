//! What is done around a call of a pool: cache, hedge, retry and breaker, in this order from
//! outside, each only where the file asks for it.
//!
//! Every try has the whole of the node's `timeout`; the request's deadline bounds all of them.

use super::{
    Cache,
    breaker::{Admission, Breaker, Ended},
    budget::Budget,
    latency::Percentile,
    retry,
};
use crate::metrics::NodeMetrics;
use futures::future::BoxFuture;
use nodes::{Input, NodeError, StreamEnd, Value};
use schema::{PoolSpec, Retry};
use std::{
    hash::{BuildHasher as _, RandomState},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// One try of an item. A trait object, because the measures are for the few nodes that ask for
/// them, and a try costs much more than a box.
pub type Ask<'f, 'a> = &'f (dyn Fn(Input) -> BoxFuture<'a, Result<Value, NodeError>> + Sync + 'f);

/// The measures that a node's file asks for, with their state.
#[derive(Debug)]
pub struct Care {
    cache: Option<Cache>,
    hedge: Option<Hedge>,
    retry: Option<(Retry, Mutex<Budget>)>,
    breaker: Option<Arc<Mutex<Breaker>>>,
    timeout: Option<Duration>,
    start: Instant,
    metrics: Arc<NodeMetrics>,
}

#[derive(Debug)]
struct Hedge {
    usual: Mutex<Percentile>,
    budget: Mutex<Budget>,
}

impl Care {
    /// The measures of a node; none if the file asks for none.
    pub fn new(spec: &PoolSpec, metrics: Arc<NodeMetrics>) -> Option<Self> {
        let care = Self {
            cache: spec.cache.as_ref().map(|cache| Cache::new(&cache.value)),
            hedge: spec.hedge.as_ref().map(|hedge| Hedge {
                usual: Mutex::new(Percentile::new(hedge.value.percentile)),
                budget: Mutex::default(),
            }),
            retry: spec
                .retry
                .as_ref()
                .map(|retry| (retry.value.clone(), Mutex::default())),
            breaker: spec
                .breaker
                .as_ref()
                .map(|breaker| Arc::new(Mutex::new(Breaker::new(breaker.value.clone())))),
            timeout: spec.timeout.as_ref().map(|timeout| timeout.value),
            start: Instant::now(),
            metrics,
        };
        let any = care.cache.is_some()
            || care.hedge.is_some()
            || care.retry.is_some()
            || care.breaker.is_some();
        any.then_some(care)
    }

    /// Has an item answered by `ask`, which may be called several times.
    ///
    /// # Errors
    /// That of the last try, or [`NodeError::Unavailable`] if the breaker is open.
    pub async fn answer(&self, input: Input, ask: Ask<'_, '_>) -> Result<Value, NodeError> {
        let Some(cache) = &self.cache else {
            return self.hedged(input, ask).await;
        };
        let hedged = async |input| self.hedged(input, ask).await;
        let (answer, hit) = cache.answer(input, hedged).await;
        match hit {
            true => self.metrics.cache_hits.inc(),
            false => self.metrics.cache_misses.inc(),
        };
        answer
    }

    /// Sends an item a second time if it takes longer than usual; the first answer wins.
    async fn hedged(&self, input: Input, ask: Ask<'_, '_>) -> Result<Value, NodeError> {
        let Some(hedge) = &self.hedge else {
            return self.retried(input, ask).await;
        };
        let begun = Instant::now();
        lock(&hedge.budget).pay_in();
        let usual = lock(&hedge.usual).get();
        let answer = match usual {
            Some(usual) => self.raced(hedge, input, usual, ask).await,
            None => self.retried(input, ask).await,
        };
        if answer.is_ok() {
            lock(&hedge.usual).see(begun.elapsed());
        }
        answer
    }

    async fn raced(
        &self,
        hedge: &Hedge,
        input: Input,
        usual: Duration,
        ask: Ask<'_, '_>,
    ) -> Result<Value, NodeError> {
        let mut first = pin!(self.retried(input.clone(), ask));
        tokio::select! {
            biased;
            answer = &mut first => return answer,
            () = sleep(usual) => {}
        }
        if !lock(&hedge.budget).take(self.start.elapsed()) {
            return first.await;
        }
        self.metrics.hedges.inc();
        let mut second = pin!(self.retried(input, ask));
        // An error wins only if the other try fails too.
        tokio::select! {
            biased;
            answer = &mut first => match answer {
                Ok(answer) => Ok(answer),
                Err(error) => second.await.or(Err(error)),
            },
            answer = &mut second => match answer {
                Ok(answer) => Ok(answer),
                Err(_) => first.await,
            },
        }
    }

    /// Tries again where the failure is worth it.
    async fn retried(&self, input: Input, ask: Ask<'_, '_>) -> Result<Value, NodeError> {
        let Some((spec, budget)) = &self.retry else {
            return self.guarded(input, ask).await;
        };
        lock(budget).pay_in();
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.guarded(input.clone(), ask).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = retry::pause(spec, tries, &error, chance());
            let in_time = |pause: &Duration| {
                let deadline = input.context.deadline;
                deadline.is_none_or(|deadline| Instant::now() + *pause < deadline)
            };
            let Some(pause) = pause.filter(in_time) else {
                return Err(error);
            };
            if !lock(budget).take(self.start.elapsed()) {
                return Err(error);
            }
            self.metrics.retries.inc();
            sleep(pause).await;
        }
    }

    /// Leaves the node alone while the breaker is open.
    async fn guarded(&self, input: Input, ask: Ask<'_, '_>) -> Result<Value, NodeError> {
        let Some(breaker) = &self.breaker else {
            return ask(input).await;
        };
        if let Admission::Refused { retry_after } = lock(breaker).admit(self.start.elapsed()) {
            self.metrics.shed_breaker.inc();
            return Err(NodeError::Unavailable {
                reason: format!(
                    "the node has failed too often and is left alone for another {retry_after:.1?}"
                ),
                retry_after: Some(retry_after),
            });
        }
        let own = self.timeout.map(|timeout| Instant::now() + timeout);
        let deadline = [own, input.context.deadline].into_iter().flatten().min();
        let mut trial = Trial {
            breaker: Arc::clone(breaker),
            start: self.start,
            ended: Ended::Unknown,
            stream: None,
        };
        let answer = ask(input).await;
        trial.ended = ended(answer.as_ref().err());
        let Ok(Value::Stream(text)) = answer else {
            return answer;
        };
        if lock(breaker).is_open() {
            // That the text has begun is enough to let others through, which would wait long for its
            // end.
            lock(breaker).record(self.start.elapsed(), Ended::Well);
        }
        trial.stream = Some((text.end(), deadline));
        Ok(Value::Stream(text.hold(trial)))
    }
}

/// What an answer tells of the node's health.
fn ended(error: Option<&NodeError>) -> Ended {
    match error {
        None | Some(NodeError::Invalid { .. } | NodeError::NotFound { .. }) => Ended::Well,
        // It says how much is asked, not how the node is.
        Some(NodeError::Full { .. }) => Ended::Unknown,
        Some(
            NodeError::Unavailable { .. }
            | NodeError::Timeout { .. }
            | NodeError::Lost { .. }
            | NodeError::Failed { .. },
        ) => Ended::Badly,
    }
}

/// An item that a breaker let through; tells it how it ended, also if the caller leaves. A text keeps
/// it until it has been read.
struct Trial {
    breaker: Arc<Mutex<Breaker>>,
    start: Instant,
    ended: Ended,
    /// Where the end of its text shows, and when it should have come.
    stream: Option<(StreamEnd, Option<Instant>)>,
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some((end, deadline)) = &self.stream {
            let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
            self.ended = match end.get() {
                Some(end) => ended(end.err().as_ref()),
                None if late => Ended::Badly,
                None => Ended::Unknown,
            };
        }
        lock(&self.breaker).record(self.start.elapsed(), self.ended);
    }
}

/// The locks here are held for a few instructions, none of which leaves half a change behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number from 0 to 1, by the chance with which the standard library seeds its maps.
fn chance() -> f64 {
    RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests;
