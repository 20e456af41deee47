//! The order in which nodes can run, and the cycles for which there is none.

use super::draft::{Draft, DraftFallback};
use crate::problems::Problems;
use petgraph::{algo::kosaraju_scc, graph::DiGraph, graph::NodeIndex};
use schema::{Diagnostic, Span, codes};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

/// How many nodes of a cycle are written out.
const SHOWN: usize = 12;

/// Nodes by their place in the file, in the order in which they can run.
pub(super) struct Order {
    pub(super) nodes: Vec<usize>,
    /// How many there are before those of cycles, and those that wait for them.
    pub(super) acyclic: usize,
}

/// The nodes in an order in which each comes after what it reads, and after its fallback; those
/// of cycles, which are reported, come last. Among those that may come next the one that stands first
/// in the file does.
pub(super) fn order(drafts: &[Draft<'_>], problems: &mut Problems) -> Order {
    let needs: Vec<Vec<(usize, Span)>> = drafts.iter().map(needs).collect();
    let mut pending: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); drafts.len()];
    for (node, needed) in needs.iter().enumerate() {
        for (read, _) in needed {
            readers[*read].push(node);
        }
    }
    let free = (0..drafts.len()).filter(|node| pending[*node] == 0);
    let mut next: BinaryHeap<Reverse<usize>> = free.map(Reverse).collect();
    let mut order = Vec::with_capacity(drafts.len());
    while let Some(Reverse(node)) = next.pop() {
        order.push(node);
        for reader in &readers[node] {
            pending[*reader] -= 1;
            if pending[*reader] == 0 {
                next.push(Reverse(*reader));
            }
        }
    }
    let acyclic = order.len();
    if acyclic < drafts.len() {
        report_cycles(drafts, &needs, problems);
        let mut placed = vec![false; drafts.len()];
        order.iter().for_each(|node| placed[*node] = true);
        order.extend((0..drafts.len()).filter(|node| !placed[*node]));
    }
    Order {
        nodes: order,
        acyclic,
    }
}

/// What has to be known before the node: what it reads, and its fallback node.
fn needs(draft: &Draft<'_>) -> Vec<(usize, Span)> {
    let mut needs = draft.reads.clone();
    if let Some(DraftFallback::Node(node, span)) = draft.fallback
        && !needs.iter().any(|(read, _)| *read == node)
    {
        needs.push((node, span));
    }
    needs
}

fn report_cycles(drafts: &[Draft<'_>], needs: &[Vec<(usize, Span)>], problems: &mut Problems) {
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    for _ in drafts {
        graph.add_node(());
    }
    for (node, needed) in needs.iter().enumerate() {
        for (read, _) in needed {
            graph.add_edge(NodeIndex::new(node), NodeIndex::new(*read), ());
        }
    }
    for component in kosaraju_scc(&graph) {
        let members: Vec<usize> = component.iter().map(|node| node.index()).collect();
        let Some(first) = members.iter().copied().min() else {
            continue;
        };
        let alone = members.len() == 1 && !needs[first].iter().any(|(read, _)| *read == first);
        if !alone {
            let cycle = shortest_cycle(first, needs);
            problems.push(describe(drafts, &cycle));
        }
    }
}

/// The shortest way from a node of a cycle back to itself: each node with the place where it reads
/// the next.
fn shortest_cycle(start: usize, needs: &[Vec<(usize, Span)>]) -> Vec<(usize, Span)> {
    let mut came_from: HashMap<usize, (usize, Span)> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for (read, span) in &needs[node] {
            came_from.entry(*read).or_insert_with(|| {
                queue.push_back(*read);
                (node, *span)
            });
        }
        if came_from.contains_key(&start) {
            break;
        }
    }
    let mut cycle = Vec::new();
    let mut node = start;
    while let Some((before, span)) = came_from.get(&node) {
        cycle.push((*before, *span));
        node = *before;
        if node == start {
            break;
        }
    }
    cycle.reverse();
    cycle
}

fn describe(drafts: &[Draft<'_>], cycle: &[(usize, Span)]) -> Diagnostic {
    let name = |node: usize| drafts[node].decl.id.as_str();
    let (first, place) = cycle.first().map_or((0, Span::default()), |first| *first);
    if cycle.len() == 1 {
        let message = format!("\"{}\" reads its own result", name(first));
        return Diagnostic::error(codes::CYCLE, message, place);
    }
    let next = |index: usize| name(cycle[(index + 1) % cycle.len()].0);
    let mut path: Vec<&str> = cycle
        .iter()
        .take(SHOWN)
        .map(|(node, _)| name(*node))
        .collect();
    if cycle.len() > SHOWN {
        path.push("…");
    }
    path.push(name(first));
    let message = format!("nodes wait for each other: {}", path.join(" → "));
    let label = |index: usize| format!("\"{}\" reads \"{}\"", name(cycle[index].0), next(index));
    let problem = Diagnostic::error(codes::CYCLE, message, place).label(label(0));
    let rest = cycle.iter().enumerate().skip(1).take(SHOWN - 1);
    rest.fold(problem, |problem, (index, (_, span))| {
        problem.also(*span, label(index))
    })
}
