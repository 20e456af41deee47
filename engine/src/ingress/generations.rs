//! The generations that are served at the moment, and which of them a request gets.
//!
//! Requests read one immutable snapshot, so that each sees one generation from start to end.

use super::Front;
use super::problem::Problem;
use crate::{
    rollout::{
        choose::{self, Ask, HEADER, Side, Split},
        shadow::Copies,
    },
    topology::Topology,
};
use http::{HeaderMap, request::Parts};
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// What is served.
#[derive(Debug)]
pub(super) struct Generations {
    stable: Arc<Topology>,
    next: Option<Next>,
}

/// A generation that is to be served, and what it gets until then.
#[derive(Debug, Clone)]
pub struct Next {
    /// It.
    pub topology: Arc<Topology>,
    /// Which requests it gets.
    pub split: Split,
    /// Where copies are counted.
    pub copies: Arc<Copies>,
}

/// What a request gets.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) topology: Arc<Topology>,
    /// Who gets a copy of it.
    pub(super) copy: Option<Next>,
    /// Whether the answer says of which generation it is: while there are two, or it was asked.
    pub(super) named: bool,
}

impl Generations {
    pub(super) fn of(stable: Arc<Topology>, next: Option<Next>) -> Self {
        Self { stable, next }
    }

    pub(super) fn stable(&self) -> &Arc<Topology> {
        &self.stable
    }
}

impl Front {
    /// Divides requests between the generation that is served and this one.
    pub fn offer(&self, next: Next) {
        let stable = self.topology();
        let generations = Generations::of(stable, Some(next));
        self.generations.store(Arc::new(generations));
    }

    /// Has all requests get the generation that is served.
    pub fn withdraw(&self) {
        let generations = Generations::of(self.topology(), None);
        self.generations.store(Arc::new(generations));
    }

    /// The generation that a request gets.
    pub(super) fn choose(&self, request: &Parts) -> Result<Chosen, Problem> {
        let generations = self.generations.load();
        let headers = &request.headers;
        let Some(next) = &generations.next else {
            let named = headers.contains_key(HEADER);
            return self.asked_for(headers).map(|topology| Chosen {
                topology,
                copy: None,
                named,
            });
        };
        let path = request.uri.path();
        let sticky = next.split.sticky.as_deref();
        let ask = Ask {
            wanted: wanted(headers)?,
            sticky: sticky.and_then(|name| Some(headers.get(name)?.as_bytes())),
            number: self.requests.fetch_add(1, Relaxed),
            stable_has: generations.stable.index_at(path).is_some(),
            next_has: next.topology.index_at(path).is_some(),
        };
        let choice = choose::choose(&next.split, &ask);
        let choice = choice.map_err(|reason| Problem::header(HEADER, reason))?;
        let topology = match choice.side {
            Side::Stable => &generations.stable,
            Side::Next => &next.topology,
        };
        Ok(Chosen {
            topology: Arc::clone(topology),
            copy: choice.copied.then(|| next.clone()),
            named: true,
        })
    }

    /// The generation that the headers ask for; the one that is served if they ask for none.
    pub(super) fn asked_for(&self, headers: &HeaderMap) -> Result<Arc<Topology>, Problem> {
        let generations = self.generations.load();
        let side = wanted(headers)?.map(choose::wanted).transpose();
        match side.map_err(|reason| Problem::header(HEADER, reason))? {
            None | Some(Side::Stable) => Ok(Arc::clone(&generations.stable)),
            Some(Side::Next) => match &generations.next {
                Some(next) => Ok(Arc::clone(&next.topology)),
                None => Err(Problem::no_next()),
            },
        }
    }
}

/// The value of [`HEADER`].
fn wanted(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let value = headers.get(HEADER).map(|value| value.to_str());
    value
        .transpose()
        .map_err(|_| Problem::header(HEADER, "is not a text"))
}
