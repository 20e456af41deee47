//! One node's turn in a request: its arguments, its answer, and its text as it arrives.

use super::{
    Delta,
    expression::is_true,
    prepared::{Action, Cases, Node},
    scope::{Scope, View},
};
use crate::pool::Pool;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use nodes::{Arguments, Context, Input, NodeError, TextStream, Value};
use smallvec::SmallVec;
use std::sync::Arc;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// What a node's turn needs of the replicas.
#[expect(
    clippy::large_enum_variant,
    reason = "a turn is moved once, into its future; a box would cost an allocation a hop"
)]
pub(super) enum Turn<'g> {
    /// Nothing: this is the result, or it is skipped.
    Settled(Option<Value>),
    /// An answer.
    One(Ask<'g>),
    /// An answer for each element of a list.
    Each(AskEach<'g>),
}

/// A question to a pool.
pub(super) struct Ask<'g> {
    pool: &'g Pool,
    input: Input,
    flow: Option<Flow>,
}

/// Where the pieces of a node's text go.
pub(super) struct Flow {
    /// The way to whoever reads the answer.
    pub(super) deltas: mpsc::Sender<Delta>,
    /// The fields that the text is.
    pub(super) fields: SmallVec<[Arc<str>; 2]>,
}

/// A question to a pool for each element of a list.
pub(super) struct AskEach<'g> {
    node: &'g Node,
    pool: &'g Pool,
    width: usize,
    list: Elements,
    scope: Scope,
    context: Context,
}

/// What `each` goes through.
pub(super) enum Elements {
    List(Arc<[Value]>),
    Vector(Arc<[f32]>),
}

impl Node {
    /// Begins the node's turn: evaluates what it takes, and answers itself where it can.
    pub(super) fn begin(
        &self,
        scope: &Scope,
        context: &Context,
        flow: Option<Flow>,
    ) -> Result<Turn<'_>, NodeError> {
        if !self.is_wanted(scope)? {
            return Ok(Turn::Settled(None));
        }
        let view = View { scope, item: None };
        match (&self.each, &self.action) {
            (None, Action::Ask(pool)) => Ok(match self.arguments(view)? {
                Some(arguments) => Turn::One(Ask {
                    pool,
                    input: Input {
                        arguments,
                        context: context.clone(),
                    },
                    flow,
                }),
                None => Turn::Settled(None),
            }),
            (None, _) => self.inline(view).map(Turn::Settled),
            (Some(each), action) => {
                let Some(list) = Elements::of(each.list.evaluate(view)?)? else {
                    return Ok(Turn::Settled(None));
                };
                if let Action::Ask(pool) = action {
                    return Ok(Turn::Each(AskEach {
                        node: self,
                        pool,
                        width: each.width,
                        list,
                        scope: scope.clone(),
                        context: context.clone(),
                    }));
                }
                let results = (0..list.len()).map(|index| {
                    let item = list.get(index);
                    let view = View {
                        scope,
                        item: Some(&item),
                    };
                    self.inline(view).map(Option::unwrap_or_default)
                });
                let results: Result<Arc<[Value]>, _> = results.collect();
                Ok(Turn::Settled(Some(Value::List(results?))))
            }
        }
    }

    /// Whether its `when` is true, or it has none.
    pub(super) fn is_wanted(&self, scope: &Scope) -> Result<bool, NodeError> {
        let view = View { scope, item: None };
        match &self.when {
            Some(when) => Ok(is_true(&when.evaluate(view)?)),
            None => Ok(true),
        }
    }

    /// The values of its ports; none where one that it needs is none.
    fn arguments(&self, view: View<'_>) -> Result<Option<Arguments>, NodeError> {
        let mut arguments = Arguments::default();
        let mut misfits = Vec::new();
        for port in &self.ports {
            let value = port.value.evaluate(view)?;
            if value.is_none() {
                if port.required {
                    return Ok(None);
                }
                continue;
            }
            let value = value.fit(&port.accepts, &port.name, &mut misfits);
            arguments.push(Arc::clone(&port.name), value);
        }
        if misfits.is_empty() {
            return Ok(Some(arguments));
        }
        let reasons = misfits
            .iter()
            .map(|misfit| format!("`{}` {}", misfit.place, misfit.reason));
        Err(NodeError::invalid(reasons.collect::<Vec<_>>().join("; ")))
    }

    /// The result of a node without replicas; none if it is skipped.
    fn inline(&self, view: View<'_>) -> Result<Option<Value>, NodeError> {
        match &self.action {
            Action::Template => {
                let value = self.ports.first().map(|port| port.value.evaluate(view));
                Ok(value.transpose()?.filter(|value| !value.is_none()))
            }
            Action::Switch(cases) => self.switch(cases, view).map(Some),
            // A merge needs to know what ran, so the walk answers for it.
            Action::Merge(_) | Action::Ask(_) => Ok(None),
        }
    }

    fn switch(&self, cases: &Cases, view: View<'_>) -> Result<Value, NodeError> {
        let port = |port: usize| self.ports[port].value.evaluate(view);
        let on = cases.on.map(port).transpose()?.unwrap_or_default();
        for (name, condition) in &cases.cases {
            let holds = match condition {
                Some(condition) => is_true(&port(*condition)?),
                None => is_named(&on, name),
            };
            if holds {
                return Ok(name.clone());
            }
        }
        cases.default.clone().ok_or_else(|| {
            let on = on.to_json().unwrap_or_default();
            let on = String::from_utf8_lossy(&on).into_owned();
            NodeError::invalid(match cases.on {
                Some(_) => format!("no case is named {on}, and there is no default"),
                None => "no case holds, and there is no default".to_owned(),
            })
        })
    }
}

/// Whether a switch's value is the name of a case.
fn is_named(on: &Value, name: &Value) -> bool {
    let Value::Text(name) = name else {
        return false;
    };
    match on {
        Value::Text(on) => on == name,
        Value::Boolean(on) => **name == *on.to_string(),
        Value::Integer(on) => **name == *on.to_string(),
        Value::Number(on) => **name == *on.to_string(),
        _ => false,
    }
}

impl Elements {
    /// The elements of a list or a vector; none of none.
    pub(super) fn of(value: Value) -> Result<Option<Self>, NodeError> {
        match value {
            Value::None => Ok(None),
            Value::List(list) => Ok(Some(Self::List(list))),
            Value::Vector(vector) => Ok(Some(Self::Vector(vector))),
            other => {
                let found = other.type_name();
                let reason = format!("`each` needs a list, got {found}");
                Err(NodeError::invalid(reason))
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Elements::List(list) => list.len(),
            Elements::Vector(vector) => vector.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Value {
        match self {
            Elements::List(list) => list[index].clone(),
            Elements::Vector(vector) => Value::Number(vector[index].into()),
        }
    }
}

impl Ask<'_> {
    /// The node's answer. A text that is being made is read to its end, and its pieces go to the
    /// fields of the answer that wait for them.
    pub(super) async fn answer(self) -> Result<Value, NodeError> {
        let begun = Instant::now();
        let value = self.pool.answer(self.input).await?;
        whole(value, self.pool, begun, self.flow.as_ref()).await
    }
}

impl AskEach<'_> {
    /// The answers for all elements, in their order; the first failure is that of the whole.
    pub(super) async fn answer(self) -> Result<Value, NodeError> {
        let asked = stream::iter(0..self.list.len()).map(|index| self.element(index));
        let answers: Vec<Value> = asked.buffered(self.width).try_collect().await?;
        Ok(Value::List(answers.into()))
    }

    async fn element(&self, index: usize) -> Result<Value, NodeError> {
        let begun = Instant::now();
        let item = self.list.get(index);
        let view = View {
            scope: &self.scope,
            item: Some(&item),
        };
        let Some(arguments) = self.node.arguments(view)? else {
            return Ok(Value::None);
        };
        let input = Input {
            arguments,
            context: self.context.clone(),
        };
        let value = self.pool.answer(input).await?;
        whole(value, self.pool, begun, None).await
    }
}

/// The value itself, or the whole text if it is one that is being made, within the node's timeout.
async fn whole(
    value: Value,
    pool: &Pool,
    begun: Instant,
    flow: Option<&Flow>,
) -> Result<Value, NodeError> {
    let Value::Stream(text) = value else {
        return Ok(value);
    };
    let text = read(text, pool, begun, flow);
    match pool.timeout() {
        Some(after) => timeout_at(begun + after, text)
            .await
            .unwrap_or(Err(NodeError::Timeout { after })),
        None => text.await,
    }
}

async fn read(
    mut stream: TextStream,
    pool: &Pool,
    begun: Instant,
    flow: Option<&Flow>,
) -> Result<Value, NodeError> {
    let metrics = pool.metrics();
    let mut text = String::new();
    let mut last = None;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        let now = Instant::now();
        match last.replace(now) {
            None => metrics.ttft.observe((now - begun).as_secs_f64()),
            Some(last) => metrics.inter_token.observe((now - last).as_secs_f64()),
        }
        text.push_str(&piece);
        if let Some(flow) = flow {
            for field in &flow.fields {
                let delta = Delta {
                    field: Arc::clone(field),
                    text: Arc::clone(&piece),
                };
                // A client that is gone drops this whole request; there is nothing to do here.
                let _ = flow.deltas.send(delta).await;
            }
        }
    }
    if let Some(finish) = stream.finish() {
        metrics.prompt_tokens.inc_by(finish.prompt_tokens.into());
        metrics.cached_tokens.inc_by(finish.cached_tokens.into());
        metrics.guessed_tokens.inc_by(finish.guessed_tokens.into());
        metrics
            .completion_tokens
            .inc_by(finish.completion_tokens.into());
    }
    Ok(Value::text(text))
}
