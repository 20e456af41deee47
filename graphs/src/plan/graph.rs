//! What is different about graphs and their nodes.

use super::{
    Capacity, Change, GraphPlan, Handover, NodePlan, Step, change::Changes, pool, world::World,
};
use crate::{BoundOutput, Expression, Graph, GraphNode, NodeIx, Program, Root};
use schema::{Name, NodeDecl, Work, kind::Backend};
use std::collections::HashSet;

/// The plans of the next program's graphs, and the graphs of the running one that end.
pub(super) fn compare(
    running: &Program,
    next: &Program,
    world: &World,
    capacity: Capacity,
) -> (Vec<GraphPlan>, Vec<(Name, Vec<Name>)>) {
    let graphs = || running.graphs().iter();
    let named = |graph: &Graph| graphs().position(|before| before.id == graph.id);
    let is_next = |id: &Name| next.graphs().iter().any(|graph| graph.id == *id);
    // A graph that has another name and the route of one that is not there any more was renamed.
    let renamed = |graph: &Graph| {
        graphs().position(|before| before.route == graph.route && !is_next(&before.id))
    };
    let mut memory = Memory::new(running, capacity);
    let mut used = HashSet::new();
    let mut plans = Vec::new();
    for graph in next.graphs() {
        let before = named(graph).or_else(|| renamed(graph));
        used.extend(before);
        let from = before.map(|index| &*running.graphs()[index]);
        let nodes = Nodes::new(from, graph, world, capacity.adjusts_pools);
        plans.push(GraphPlan {
            id: graph.id.clone(),
            before,
            step: from.map_or(Step::Start, |from| Step::adjust(of_graph(from, graph))),
            stopped: nodes.stopped(),
            nodes: nodes.plans(&mut memory),
        });
    }
    let gone = graphs()
        .enumerate()
        .filter(|(index, _)| !used.contains(index));
    let gone = gone.map(|(_, graph)| (graph.id.clone(), graph.nodes().map(name).collect()));
    (plans, gone.collect())
}

fn name((_, node): (NodeIx, &GraphNode)) -> Name {
    node.decl.id.value.clone()
}

fn of_graph(before: &Graph, after: &Graph) -> Vec<Change> {
    let Graph {
        id,
        route,
        timeout,
        input,
        // Nodes have steps of their own; edges and slots follow from them.
        dag: _,
        output,
        slots: _,
    } = before;
    let mut changes = Changes::default();
    changes.values("name", id, &after.id);
    changes.values("route", route, &after.route);
    changes.values("timeout", timeout, &after.timeout);
    changes.whole("input", input, &after.input);
    if !same_output(before, output, after) {
        changes.push(Change::changed("output"));
    }
    changes.into_list()
}

/// Whether two graphs answer with the same fields. Nodes are compared by name: their indexes move
/// when others come and go.
fn same_output(before: &Graph, output: &[BoundOutput], after: &Graph) -> bool {
    let field = |graph: &Graph, field: &BoundOutput| {
        let value = match &field.expression {
            Expression::Constant(literal) => format!("{literal:?}"),
            Expression::Path(path) => match path.root {
                Root::Node(ix) => format!("{} {:?}", *graph.node(ix).decl.id, path.steps),
                root => format!("{root:?} {:?}", path.steps),
            },
            Expression::Template(template) => template.source.clone(),
        };
        (field.name.clone(), value)
    };
    let old = output.iter().map(|output| field(before, output));
    old.eq(after.output.iter().map(|output| field(after, output)))
}

/// The nodes of a graph, each with the one it comes from.
struct Nodes<'a> {
    before: Option<&'a Graph>,
    after: &'a Graph,
    world: &'a World,
    adjusts_pools: bool,
    /// By `NodeIx` of `after`.
    origin: Vec<Option<NodeIx>>,
}

impl<'a> Nodes<'a> {
    fn new(
        before: Option<&'a Graph>,
        after: &'a Graph,
        world: &'a World,
        adjusts_pools: bool,
    ) -> Self {
        let mut nodes = Self {
            before,
            after,
            world,
            adjusts_pools,
            origin: vec![None; after.nodes().len()],
        };
        nodes.find_namesakes();
        nodes.find_renamed();
        nodes
    }

    fn find_namesakes(&mut self) {
        for (ix, node) in self.after.nodes() {
            let mut candidates = self.candidates();
            let found = candidates.find(|(_, before)| before.decl.id == node.decl.id);
            // Another kind under an old name is another node.
            let same_kind = |before: &GraphNode| before.decl.work.kind() == node.decl.work.kind();
            let origin = found.filter(|(_, before)| same_kind(before));
            self.origin[ix.index()] = origin.map(|(from, _)| from);
        }
    }

    /// What has a new name, and is otherwise one of those that are gone, was renamed.
    fn find_renamed(&mut self) {
        for (ix, node) in self.after.nodes() {
            if self.origin[ix.index()].is_some() {
                continue;
            }
            let taken: HashSet<_> = self.origin.iter().flatten().copied().collect();
            let is_next = |id| self.after.nodes().any(|(_, node)| node.decl.id.value == id);
            let mut candidates = self.candidates();
            let found = candidates.find(|(from, before)| {
                !taken.contains(from)
                    && !is_next(before.decl.id.value.clone())
                    && before.decl.work == node.decl.work
                    && before.decl.pool == node.decl.pool
            });
            self.origin[ix.index()] = found.map(|(from, _)| from);
        }
    }

    fn candidates(&self) -> impl Iterator<Item = (NodeIx, &'a GraphNode)> + use<'a> {
        self.before.into_iter().flat_map(Graph::nodes)
    }

    fn stopped(&self) -> Vec<Name> {
        let kept: HashSet<_> = self.origin.iter().flatten().copied().collect();
        let gone = self.candidates().filter(|(ix, _)| !kept.contains(ix));
        gone.map(name).collect()
    }

    fn plans(&self, memory: &mut Memory) -> Vec<NodePlan> {
        let plan = |(ix, node): (NodeIx, &GraphNode)| {
            let origin = self.origin[ix.index()];
            let before = origin.zip(self.before);
            let step = match before {
                None => Step::Start,
                Some((from, graph)) => self.step(&graph.node(from).decl, &node.decl, memory),
            };
            let goes_on = matches!(step, Step::Keep | Step::Adjust(_));
            NodePlan {
                id: node.decl.id.value.clone(),
                kind: node.decl.work.kind(),
                before: origin.filter(|_| goes_on),
                replaces: origin.filter(|_| !goes_on),
                step,
            }
        };
        self.after.nodes().map(plan).collect()
    }

    fn step(&self, before: &NodeDecl, after: &NodeDecl, memory: &mut Memory) -> Step {
        let mut pool = pool::compare(&before.pool, &after.pool);
        let mut why = Changes::default();
        if !same_replicas(&before.work, &after.work) {
            of_replicas(&before.work, &after.work, &mut why);
        }
        // Whether they are given lists is settled when they are built.
        if matches!(after.work, Work::Python(_) | Work::Infer(_)) {
            let has_batch = |node: &NodeDecl| node.pool.batch.as_ref().map(|_| &());
            why.optional("batch", has_batch(before), has_batch(after));
        }
        let below = self.world.changed_below(&after.work).into_iter();
        let code = self.world.changed_code(&after.work);
        below.chain(code).for_each(|change| why.push(change));
        let mut why = why.into_list();
        why.extend(pool.replicas.into_list());
        let limits = std::mem::take(&mut pool.limits).into_list();
        let mut wiring = of_wiring(before, after);
        wiring.extend(pool.answers.into_list());
        match self.adjusts_pools {
            true => wiring.extend(limits),
            false => why.extend(limits),
        }
        if why.is_empty() {
            return Step::adjust(wiring);
        }
        // For the reader: a replaced node behaves differently in these ways too.
        why.extend(wiring);
        Step::Replace {
            why,
            handover: memory.handover(after),
        }
    }
}

/// Whether replicas that do the one work can do the other: what differs is only what each request
/// brings along.
fn same_replicas(before: &Work, after: &Work) -> bool {
    match (before, after) {
        (Work::Embed(before), Work::Embed(after)) => same_backend(&before.backend, &after.backend),
        (Work::Rerank(before), Work::Rerank(after)) => {
            same_backend(&before.backend, &after.backend)
        }
        (Work::Generate(before), Work::Generate(after)) => {
            same_backend(&before.backend, &after.backend)
        }
        (Work::Search(before), Work::Search(after)) => before.index == after.index,
        (Work::Split(before), Work::Split(after)) => {
            let mut before = before.clone();
            before.text.clone_from(&after.text);
            before == *after
        }
        (before, after) => before.is_inline() || before == after,
    }
}

fn same_backend(before: &Backend, after: &Backend) -> bool {
    match (before, after) {
        // The adapter is chosen by each request.
        (Backend::Local(before), Backend::Local(after)) => before.model == after.model,
        (before, after) => before == after,
    }
}

/// Why the replicas of one work cannot do the other.
fn of_replicas(before: &Work, after: &Work, why: &mut Changes) {
    match (before, after) {
        (Work::Search(before), Work::Search(after)) => {
            why.values("index", &before.index, &after.index);
        }
        (before, after) => match (before.model(), after.model()) {
            (Some(before), Some(after)) => why.values("model", before, after),
            _ => why.push(Change::changed("work")),
        },
    }
}

/// How requests reach the node and what they bring along.
fn of_wiring(before: &NodeDecl, after: &NodeDecl) -> Vec<Change> {
    let NodeDecl {
        id,
        work,
        pool: _,
        when,
        each,
        fallback,
        span: _,
    } = before;
    let mut changes = Changes::default();
    changes.values("name", id, &after.id);
    let (old, new) = (work.ports(), after.work.ports());
    for port in &new {
        let was = old.iter().find(|was| was.name == port.name);
        changes.argument(port.name, was.map(|was| was.argument), Some(port.argument));
    }
    for port in &old {
        if !new.iter().any(|is| is.name == port.name) {
            changes.argument(port.name, Some(port.argument), None);
        }
    }
    changes.argument("when", when.as_ref(), after.when.as_ref());
    changes.optional("each", each.as_ref(), after.each.as_ref());
    changes.optional("fallback", fallback.as_ref(), after.fallback.as_ref());
    let mut changes = changes.into_list();
    let same_work = *work == after.work || !same_replicas(work, &after.work);
    if changes.is_empty() && !same_work {
        // Such as the cases of a switch or the sources of a merge, which are no ports.
        changes.push(Change::changed("options"));
    }
    changes
}

/// What is left of the memory that nodes declare.
struct Memory {
    free: Option<u64>,
}

impl Memory {
    fn new(running: &Program, capacity: Capacity) -> Self {
        let nodes = running.graphs().iter().flat_map(|graph| graph.nodes());
        let used = nodes.map(|(_, node)| declared(&node.decl)).sum();
        Self {
            free: capacity
                .memory
                .map(|memory: u64| memory.saturating_sub(used)),
        }
    }

    /// Whether this node fits beside the one that it replaces.
    fn handover(&mut self, node: &NodeDecl) -> Handover {
        let wanted = declared(node);
        match &mut self.free {
            Some(free) if wanted > *free => Handover::Pause,
            Some(free) => {
                *free -= wanted;
                Handover::Overlap
            }
            None => Handover::Overlap,
        }
    }
}

/// Bytes that the replicas of a node say they take.
fn declared(node: &NodeDecl) -> u64 {
    let replicas = u64::from(node.pool.replicas.min.value.max(1));
    let memory = node.pool.resources.memory;
    memory.map_or(0, |memory| memory.0.saturating_mul(replicas))
}
