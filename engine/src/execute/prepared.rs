//! A graph made ready to run: its expressions compiled, its pools at hand.

use super::{RequestError, admission, ahead::Lookahead, expression::Compiled};
use crate::{adapters::Shelves, pool::Pool};
use graphs::{Bound, BoundFallback, Expression, Graph, GraphNode, NodeIx, Root};
use nodes::{NodeError, Value};
use schema::{Type, Work, kind::Switch};
use std::sync::Arc;

/// A graph that requests can walk.
#[derive(Debug)]
pub struct Prepared {
    pub(super) graph: Arc<Graph>,
    pub(super) id: Arc<str>,
    pub(super) nodes: Vec<Node>,
    pub(super) output: Vec<Output>,
    /// The nodes at which a request takes a place before it begins.
    pub(super) gated: Vec<NodeIx>,
    /// Whether a node's result may be that of another.
    pub(super) has_fallback_nodes: bool,
    /// The adapters that can be loaded while earlier nodes run.
    pub(super) ahead: Vec<Lookahead>,
    reads_headers: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: Arc<str>,
    pub(super) action: Action,
    pub(super) ports: Vec<Port>,
    pub(super) when: Option<Compiled>,
    pub(super) each: Option<Each>,
    pub(super) fallback: Option<Compiled>,
    /// The fields of the answer to which its text goes piece by piece.
    pub(super) fields: Vec<Arc<str>>,
    /// The merges whose result its text may be, where that result goes to fields of the answer.
    pub(super) merges: Vec<NodeIx>,
}

#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: Arc<str>,
    pub(super) accepts: Type,
    pub(super) required: bool,
    pub(super) value: Compiled,
}

#[derive(Debug)]
pub(super) struct Each {
    pub(super) list: Compiled,
    pub(super) width: usize,
}

/// What a node does.
#[derive(Debug)]
pub(super) enum Action {
    /// Yields the value of its only port.
    Template,
    /// Yields the name of a case.
    Switch(Cases),
    /// Yields the result of the first of these that ran.
    Merge(Vec<NodeIx>),
    /// Asks the replicas.
    Ask(Pool),
}

#[derive(Debug)]
pub(super) struct Cases {
    /// The port that is compared with names, if there is one.
    pub(super) on: Option<usize>,
    /// Names, and the port with the condition where a case has one.
    pub(super) cases: Vec<(Value, Option<usize>)>,
    pub(super) default: Option<Value>,
}

#[derive(Debug)]
pub(super) struct Output {
    pub(super) name: Arc<str>,
    pub(super) value: Compiled,
}

impl Prepared {
    /// Compiles a graph's expressions. `pools` has one entry a node, filled where the node's work
    /// needs replicas; adapters that requests will need are loaded ahead through `adapters`.
    ///
    /// # Errors
    /// An expression that does not compile, which the check should have found; or a pool is missing.
    pub fn new(
        graph: Arc<Graph>,
        pools: Vec<Option<Pool>>,
        adapters: &Arc<Shelves>,
    ) -> Result<Self, RequestError> {
        let id: Arc<str> = graph.id().as_str().into();
        let nodes = graph.nodes().zip(pools).map(|((ix, node), pool)| {
            Node::new(&graph, ix, node, pool).map_err(|error| RequestError {
                graph: Arc::clone(&id),
                node: Some(node.decl.id.value.as_str().into()),
                error,
            })
        });
        let nodes: Result<Vec<_>, _> = nodes.collect();
        let output = graph.output().iter().map(|field| {
            Ok(Output {
                name: Arc::clone(&field.name),
                value: Compiled::new(&field.expression)?,
            })
        });
        let output: Result<Vec<_>, NodeError> = output.collect();
        let output = output.map_err(|error| RequestError::of_graph(&id, error));
        let relies =
            |(_, node): (_, &GraphNode)| matches!(node.fallback, Some(BoundFallback::Node(_)));
        let (nodes, output) = (nodes?, output?);
        let has_fallback_nodes = graph.nodes().any(relies);
        let reads_headers = expressions(&graph).any(reads_headers);
        let ahead = graph.nodes();
        let ahead = ahead.filter_map(|(ix, node)| Lookahead::of(ix, node, adapters));
        Ok(Self {
            id,
            gated: admission::gated(&graph),
            ahead: ahead.collect(),
            nodes,
            output,
            has_fallback_nodes,
            reads_headers,
            graph,
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The names of its nodes, by `NodeIx`.
    pub fn node_id(&self, node: NodeIx) -> &Arc<str> {
        &self.nodes[node.index()].id
    }

    /// The pools of its nodes.
    pub fn pools(&self) -> impl Iterator<Item = (&Arc<str>, &Pool)> {
        self.nodes.iter().filter_map(|node| match &node.action {
            Action::Ask(pool) => Some((&node.id, pool)),
            _ => None,
        })
    }

    /// The pool of a node; `None` if it needs none.
    pub fn pool(&self, node: NodeIx) -> Option<&Pool> {
        match &self.nodes.get(node.index())?.action {
            Action::Ask(pool) => Some(pool),
            _ => None,
        }
    }

    /// Whether an expression reads the request's headers.
    pub fn reads_headers(&self) -> bool {
        self.reads_headers
    }

    /// Whether a field of the answer can arrive piece by piece.
    pub fn streams(&self) -> bool {
        self.nodes.iter().any(|node| !node.fields.is_empty())
    }
}

impl Node {
    fn new(
        graph: &Graph,
        ix: NodeIx,
        node: &GraphNode,
        pool: Option<Pool>,
    ) -> Result<Self, NodeError> {
        let compile =
            |expression: &Option<Expression>| expression.as_ref().map(Compiled::new).transpose();
        let each = node.each.as_ref().map(|each| {
            let list = Compiled::new(&each.list)?;
            let width = each.width.max(1);
            Ok::<_, NodeError>(Each { list, width })
        });
        let fallback = match &node.fallback {
            Some(BoundFallback::Value(value)) => Some(Compiled::new(value)?),
            _ => None,
        };
        // What the kind itself can take: the check may have settled on one of several types.
        let kinds = node.decl.work.ports().into_iter().map(|port| port.accepts);
        let ports = node.ports.iter().zip(kinds);
        let ports: Result<Vec<_>, _> = ports.map(|(port, kind)| Port::new(port, kind)).collect();
        let id = node.decl.id.value.as_str();
        if each.is_some() && matches!(node.decl.work, Work::Merge(_)) {
            let reason = "a merge runs once, so `each` means nothing for it";
            return Err(NodeError::invalid(reason));
        }
        Ok(Self {
            id: id.into(),
            action: Action::new(node, pool).ok_or_else(|| NodeError::failed("it has no pool"))?,
            ports: ports?,
            when: compile(&node.when)?,
            each: each.transpose()?,
            fallback,
            fields: fields(graph, ix, node),
            merges: merges(graph, ix),
        })
    }
}

impl Port {
    fn new(port: &Bound, accepts: Type) -> Result<Self, NodeError> {
        Ok(Self {
            name: Arc::clone(&port.port),
            accepts,
            required: port.required,
            value: Compiled::new(&port.expression)?,
        })
    }
}

impl Action {
    fn new(node: &GraphNode, pool: Option<Pool>) -> Option<Self> {
        Some(match &node.decl.work {
            Work::Template(_) => Action::Template,
            Work::Switch(switch) => Action::Switch(Cases::new(switch)),
            Work::Merge(_) => Action::Merge(node.from.clone()),
            _ => Action::Ask(pool?),
        })
    }
}

impl Cases {
    /// The ports of a switch are its `on`, then the conditions of its cases in order.
    fn new(switch: &Switch) -> Self {
        let on = switch.on.as_ref().map(|_| 0);
        let mut port = usize::from(on.is_some());
        let cases = switch.cases.iter().map(|case| {
            let condition = case.when.as_ref().map(|_| {
                port += 1;
                port - 1
            });
            (Value::text(case.name.value.as_str()), condition)
        });
        Self {
            on,
            cases: cases.collect(),
            default: switch
                .default
                .as_ref()
                .map(|name| Value::text(name.value.as_str())),
        }
    }
}

/// The output fields that are this node's result as it is.
fn fields(graph: &Graph, ix: NodeIx, node: &GraphNode) -> Vec<Arc<str>> {
    let is_merge = !node.from.is_empty();
    if (node.decl.work.is_inline() && !is_merge) || node.each.is_some() {
        return Vec::new();
    }
    let is_it = |expression: &Expression| {
        matches!(expression, Expression::Path(path)
            if path.root == Root::Node(ix) && path.steps.is_empty())
    };
    let outputs = graph.output().iter();
    let fields = outputs.filter(|field| is_it(&field.expression));
    fields.map(|field| Arc::clone(&field.name)).collect()
}

/// The merges that always run, may yield this node's result, and are shown as they are.
fn merges(graph: &Graph, ix: NodeIx) -> Vec<NodeIx> {
    let shows = |(merge, node): &(NodeIx, &GraphNode)| {
        node.from.contains(&ix) && node.when.is_none() && !fields(graph, *merge, node).is_empty()
    };
    graph
        .nodes()
        .filter(shows)
        .map(|(merge, _)| merge)
        .collect()
}

fn expressions(graph: &Graph) -> impl Iterator<Item = &Expression> {
    let nodes = graph.nodes().flat_map(|(_, node)| {
        let ports = node.ports.iter().map(|port| &port.expression);
        let each = node.each.iter().map(|each| &each.list);
        let fallback = node.fallback.iter().filter_map(|fallback| match fallback {
            BoundFallback::Value(value) => Some(value),
            BoundFallback::Node(_) => None,
        });
        ports.chain(&node.when).chain(each).chain(fallback)
    });
    nodes.chain(graph.output().iter().map(|field| &field.expression))
}

fn reads_headers(expression: &Expression) -> bool {
    match expression {
        Expression::Constant(_) => false,
        Expression::Path(path) => path.root == Root::Header,
        Expression::Template(template) => {
            template.reads.iter().any(|(_, root)| *root == Root::Header)
        }
    }
}
