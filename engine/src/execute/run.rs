//! The loop of one request: run what the walk hands out, tell the walk how it went.

use super::{
    Delta, RequestError,
    ahead::Lookahead,
    call::{Flow, Turn},
    prepared::{Action, Prepared},
    scope::{Scope, View},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use graphs::{Next, NodeIx, Outcome, Ready, Walk};
use nodes::{Context, Map, NodeError, Value, residency::Ahead};
use smallvec::SmallVec;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// What a request brings.
#[derive(Debug, Default)]
pub struct Request {
    /// The fields, checked against the graph's input, by their names in templates.
    pub input: Value,
    /// The headers as a map, if the graph reads any.
    pub headers: Value,
    /// Whom it is for, and by when.
    pub context: Context,
    /// How long it was given in all, for the error that says that this was not enough.
    pub allowed: Option<Duration>,
    /// Where pieces of texts go as they are made; without one they are only put together.
    pub deltas: Option<mpsc::Sender<Delta>>,
}

/// What a request gets.
#[derive(Debug)]
pub struct Answer {
    /// The fields of the answer.
    pub fields: Arc<Map>,
    /// How long each node took that was asked of replicas, in the order in which they finished.
    pub timings: SmallVec<[(NodeIx, Duration); 4]>,
}

impl Prepared {
    /// Walks the graph. Dropping the future gives up everything that is under way.
    ///
    /// # Errors
    /// The first failure that no fallback stands in for, or that the deadline has passed.
    pub async fn run(&self, request: Request) -> Result<Answer, RequestError> {
        let begun = Instant::now();
        let context = request.context;
        let deltas = request.deltas;
        let mut state = State {
            graph: self,
            walk: Walk::new(&self.graph),
            scope: Scope {
                input: request.input,
                headers: request.headers,
                results: SmallVec::from_elem(Value::None, self.nodes.len()),
            },
            skipped: SmallVec::from_elem(false, self.nodes.len()),
            ready: Ready::new(),
            ahead: self.ahead.iter().collect(),
            kept: SmallVec::new(),
            timings: SmallVec::new(),
        };
        let mut under_way = FuturesUnordered::new();
        let mut asked: SmallVec<[NodeIx; 8]> = SmallVec::new();
        // The timer is registered when something is waited for, and not before.
        let mut alarm = pin!(context.deadline.map(sleep_until));
        let late = |asked: &[NodeIx]| RequestError {
            graph: Arc::clone(&self.id),
            node: asked.first().map(|ix| Arc::clone(self.node_id(*ix))),
            error: NodeError::Timeout {
                after: request.allowed.unwrap_or_else(|| begun.elapsed()),
            },
        };
        let mut places = match self.admit(context.deadline).await {
            Err(error) if matches!(error.error, NodeError::Timeout { .. }) => {
                return Err(late(&[]));
            }
            places => places?,
        };
        state.ready = state.walk.start();
        state.look_ahead();
        loop {
            while let Some(ix) = state.take_ready() {
                if let Action::Merge(from) = &self.nodes[ix.index()].action {
                    state.merge(ix, from)?;
                    continue;
                }
                let flow = deltas.as_ref().and_then(|deltas| state.flow(ix, deltas));
                match self.nodes[ix.index()].begin(&state.scope, &context, flow) {
                    Ok(Turn::Settled(value)) => state.settle(ix, Ok(value))?,
                    Err(error) => state.settle(ix, Err(error))?,
                    Ok(turn) => {
                        asked.push(ix);
                        places.arrive(ix);
                        under_way.push(answer(ix, turn));
                    }
                }
            }
            if under_way.is_empty() {
                return state.answer();
            }
            let (ix, took, result) = tokio::select! {
                biased;
                Some(done) = under_way.next() => done,
                () = async { match alarm.as_mut().as_pin_mut() {
                    Some(alarm) => alarm.await,
                    None => std::future::pending().await,
                } } => return Err(late(&asked)),
            };
            asked.retain(|other| *other != ix);
            places.leave(ix);
            state.timings.push((ix, took));
            state.settle(ix, result.map(Some))?;
        }
    }
}

async fn answer(ix: NodeIx, turn: Turn<'_>) -> (NodeIx, Duration, Result<Value, NodeError>) {
    let begun = Instant::now();
    let result = match turn {
        Turn::Settled(value) => Ok(value.unwrap_or_default()),
        Turn::One(ask) => ask.answer().await,
        Turn::Each(ask) => ask.answer().await,
    };
    (ix, begun.elapsed(), result)
}

/// One request under way.
struct State<'g> {
    graph: &'g Prepared,
    walk: Walk<'g>,
    scope: Scope,
    /// Which nodes have been skipped.
    skipped: SmallVec<[bool; 16]>,
    ready: Ready,
    /// Adapters that are not known yet.
    ahead: SmallVec<[&'g Lookahead; 2]>,
    /// Adapters on their way to nodes whose turn is still to come or not over.
    kept: SmallVec<[(NodeIx, Ahead); 2]>,
    timings: SmallVec<[(NodeIx, Duration); 4]>,
}

impl State<'_> {
    fn take_ready(&mut self) -> Option<NodeIx> {
        (!self.ready.is_empty()).then(|| self.ready.remove(0))
    }

    /// Begins to load the adapters that are known by now.
    fn look_ahead(&mut self) {
        let Self {
            graph,
            walk,
            scope,
            skipped,
            ahead,
            kept,
            ..
        } = self;
        let is_known = |node: NodeIx| skipped[node.index()] || walk.ran(node);
        ahead.retain(|one| {
            let waits = !one.after().all(is_known);
            if !waits {
                let node = &graph.nodes[one.node.index()];
                let leases = one.begin(node, scope).into_iter();
                kept.extend(leases.map(|lease| (one.node, lease)));
            }
            waits
        });
    }

    /// Where the text of a node goes while it is made.
    fn flow(&self, ix: NodeIx, deltas: &mpsc::Sender<Delta>) -> Option<Flow> {
        let nodes = &self.graph.nodes;
        let node = &nodes[ix.index()];
        let merges = node.merges.iter().filter(|merge| self.leads(ix, **merge));
        let merged = merges.flat_map(|merge| &nodes[merge.index()].fields);
        let fields: SmallVec<_> = node.fields.iter().chain(merged).cloned().collect();
        (!fields.is_empty()).then(|| Flow {
            deltas: deltas.clone(),
            fields,
        })
    }

    /// Whether a merge will take this node's result: whatever it would rather take was skipped.
    fn leads(&self, ix: NodeIx, merge: NodeIx) -> bool {
        let Action::Merge(from) = &self.graph.nodes[merge.index()].action else {
            return false;
        };
        let mut preferred = from.iter().take_while(|node| **node != ix);
        preferred.all(|node| self.skipped[node.index()])
    }

    fn merge(&mut self, ix: NodeIx, from: &[NodeIx]) -> Result<(), RequestError> {
        let first = from.iter().find(|node| self.walk.ran(**node));
        let value = first.map(|node| self.scope.results[node.index()].clone());
        let wanted = self.graph.nodes[ix.index()].is_wanted(&self.scope);
        self.settle(ix, wanted.map(|wanted| value.filter(|_| wanted)))
    }

    /// Takes note of how a node's turn ended; none means that it was skipped.
    fn settle(
        &mut self,
        ix: NodeIx,
        result: Result<Option<Value>, NodeError>,
    ) -> Result<(), RequestError> {
        let (outcome, error) = match result {
            Ok(Some(value)) => {
                self.scope.results[ix.index()] = value;
                (Outcome::Done, None)
            }
            Ok(None) => {
                self.skipped[ix.index()] = true;
                (Outcome::Skipped, None)
            }
            Err(error) => (Outcome::Failed, Some(error)),
        };
        // Who computes with the adapter has it by now, or had it.
        self.kept.retain(|(node, _)| *node != ix);
        match self.walk.finish(ix, outcome) {
            Next::Run(nodes) => self.ready.extend(nodes),
            Next::StandIn => return self.stand_in(ix, error),
            Next::Failed(node) => return Err(self.failed(node, error)),
        }
        if let Some(error) = error {
            let (graph, node) = (&self.graph.id, self.graph.node_id(ix));
            tracing::warn!(%graph, %node, %error, "a node failed and its fallback node is asked");
        }
        if self.graph.has_fallback_nodes {
            self.adopt();
        }
        if !self.ahead.is_empty() {
            self.look_ahead();
        }
        Ok(())
    }

    /// Puts the value of a failed node's fallback in the place of its result.
    fn stand_in(&mut self, ix: NodeIx, error: Option<NodeError>) -> Result<(), RequestError> {
        let view = View {
            scope: &self.scope,
            item: None,
        };
        let fallback = self.graph.nodes[ix.index()].fallback.as_ref();
        let value = fallback.map(|fallback| fallback.evaluate(view)).transpose();
        if let (Ok(_), Some(error)) = (&value, &error) {
            let (graph, node) = (&self.graph.id, self.graph.node_id(ix));
            tracing::warn!(%graph, %node, %error, "a node failed and its fallback stands in");
        }
        // A fallback that is none is a result all the same: the node has not been skipped.
        self.settle(ix, value.map(|value| Some(value.unwrap_or_default())))
    }

    /// Gives nodes whose fallback node has settled its result.
    fn adopt(&mut self) {
        for index in 0..self.scope.results.len() {
            let ix = NodeIx(index as u32);
            let result = self.walk.result_of(ix);
            if result != ix {
                self.scope.results[index] = self.scope.results[result.index()].clone();
            }
        }
    }

    fn failed(&self, node: NodeIx, error: Option<NodeError>) -> RequestError {
        RequestError {
            graph: Arc::clone(&self.graph.id),
            node: Some(Arc::clone(self.graph.node_id(node))),
            error: error.unwrap_or_else(|| NodeError::failed("the node failed")),
        }
    }

    fn answer(self) -> Result<Answer, RequestError> {
        let view = View {
            scope: &self.scope,
            item: None,
        };
        let mut fields = Map::with_capacity(self.graph.output.len());
        for field in &self.graph.output {
            let value = field.value.evaluate(view).map_err(|error| {
                let reason = format!("the output `{}`: {error}", field.name);
                RequestError::of_graph(&self.graph.id, NodeError::failed(reason))
            })?;
            fields.insert(Arc::clone(&field.name), value);
        }
        Ok(Answer {
            fields: Arc::new(fields),
            timings: self.timings,
        })
    }
}
