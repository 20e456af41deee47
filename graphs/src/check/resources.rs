//! The replicas that always run must fit on the machine together.

use crate::{Facts, problems::Problems};
use schema::{ByteSize, Diagnostic, Document, NodeDecl, Resources, codes};

/// What cores and GPUs may exceed the machine by: sums of fractions are not exact.
const ROUNDING: f64 = 1e-6;

/// How many nodes a diagnostic points at.
const SHOWN: usize = 6;

pub(super) fn check(document: &Document, facts: &Facts, problems: &mut Problems) {
    let Some(machine) = facts.machine else { return };
    let nodes = || document.graphs.iter().flat_map(|graph| &graph.nodes);
    // What takes one core because nothing else was said is not counted: it mostly waits.
    let stated =
        |node: &&NodeDecl| !node.work.is_inline() && node.pool.resources != Resources::default();
    let stated: Vec<&NodeDecl> = nodes().filter(stated).collect();
    let cores = |resources: &Resources| resources.cpu;
    let gpus = |resources: &Resources| resources.gpu;
    let memory = |resources: &Resources| resources.memory.map_or(0.0, |size| size.0 as f64);
    let bytes = |size: f64| ByteSize(size as u64).to_string();
    let number = |amount: f64, unit: &str| {
        format!("{amount} {unit}{}", if amount == 1.0 { "" } else { "s" })
    };
    compare(
        &stated,
        cores,
        machine.cpus,
        |amount| number(amount, "core"),
        problems,
    );
    compare(
        &stated,
        gpus,
        machine.gpus,
        |amount| number(amount, "GPU"),
        problems,
    );
    let has = machine.memory as f64;
    compare(
        &stated,
        memory,
        has,
        |amount| format!("{} of memory", bytes(amount)),
        problems,
    );
}

/// Compares the sum of one resource over the fewest replicas of each node with what there is.
fn compare(
    nodes: &[&NodeDecl],
    amount: impl Fn(&Resources) -> f64,
    has: f64,
    say: impl Fn(f64) -> String,
    problems: &mut Problems,
) {
    let takes = |node: &NodeDecl| {
        let replicas = node.pool.replicas.min.value;
        amount(&node.pool.resources) * f64::from(replicas)
    };
    let sum: f64 = nodes.iter().map(|node| takes(node)).sum();
    if sum <= has + ROUNDING {
        return;
    }
    let mut largest: Vec<&&NodeDecl> = nodes.iter().filter(|node| takes(node) > 0.0).collect();
    largest.sort_by(|a, b| takes(b).total_cmp(&takes(a)));
    let mut largest = largest.into_iter().take(SHOWN);
    let Some(first) = largest.next() else { return };
    let message = format!(
        "the nodes take {}, and the machine has {}",
        say(sum),
        say(has)
    );
    let label = |node: &NodeDecl| match node.pool.replicas.min.value {
        1 => say(takes(node)),
        replicas => format!("{replicas} replicas take {}", say(takes(node))),
    };
    let problem = Diagnostic::error(codes::RESOURCES, message, first.id.span).label(label(first));
    problems.push(largest.fold(problem, |problem, node| {
        problem.also(node.id.span, label(node))
    }));
}
