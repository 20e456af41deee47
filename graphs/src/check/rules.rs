//! Rules of a graph that are neither names nor types: what is read, and limits that fit together.

use super::{
    draft::{DraftOutput, title},
    graph::Checker,
    world::duplicate,
};
use crate::GraphNode;
use schema::{Diagnostic, Name, Spanned, codes};
use std::{collections::HashMap, time::Duration};

impl Checker<'_, '_> {
    /// Nodes that nothing reads, and fallbacks that are read as if they always ran.
    pub(super) fn check_reads(&mut self, outputs: &[DraftOutput<'_>]) {
        let mut read = self.on_demand.clone();
        let reads = self.drafts.iter().flat_map(|draft| &draft.reads);
        for (node, span) in reads.chain(outputs.iter().flat_map(|output| &output.reads)) {
            if self.on_demand[*node] {
                let name = &*self.drafts[*node].decl.id;
                let message =
                    format!("\"{name}\" runs only as a fallback, so it has no result to read");
                let problem = Diagnostic::error(codes::FALLBACK_READ, message, *span);
                self.problems
                    .push(problem.help("read the node that it stands in for"));
            }
            read[*node] = true;
        }
        // A name that is misspelt leaves a node unread as well; that is said first.
        if self.problems.errors() > self.errors_before {
            return;
        }
        for (index, draft) in self.drafts.iter().enumerate() {
            if !read[index] {
                let message = format!("nothing reads {}", title(draft.decl));
                self.problems.push(Diagnostic::warning(
                    codes::UNUSED_NODE,
                    message,
                    draft.decl.id.span,
                ));
            }
        }
    }

    pub(super) fn check_batch(&mut self, node: &GraphNode) {
        let pool = &node.decl.pool;
        if let (Some(batch), Some(ongoing)) = (&pool.batch, &pool.max_ongoing_requests)
            && batch.max_size.value > ongoing.value
        {
            let message = format!(
                "a batch of {} never fills: a replica holds {} items at most",
                batch.max_size.value, ongoing.value
            );
            let problem = Diagnostic::warning(codes::BATCH_SIZE, message, batch.max_size.span)
                .also(ongoing.span, "the most that a replica holds");
            self.problems
                .push(problem.help("raise `max-ongoing-requests` or lower `max-size`"));
        }
    }

    pub(super) fn check_timeouts(&mut self, graph: Duration) {
        for draft in self.drafts {
            let Some(timeout) = &draft.decl.pool.timeout else {
                continue;
            };
            // A graph whose timeout could not be read stands with none.
            if timeout.value <= graph || graph.is_zero() {
                continue;
            }
            let message = format!(
                "{} may take {:?}, longer than its whole graph",
                title(draft.decl),
                timeout.value
            );
            let problem = Diagnostic::error(codes::NESTED_TIMEOUT, message, timeout.span);
            let help = format!("give the graph a `timeout` of its own; it is {graph:?}");
            self.problems.push(match &self.decl.timeout {
                Some(limit) => problem.also(limit.span, format!("the graph may take {graph:?}")),
                None => problem.help(help),
            });
        }
    }

    pub(super) fn check_input(&mut self) {
        let mut seen: HashMap<String, &Spanned<Name>> = HashMap::new();
        for field in &self.decl.input {
            match seen.get(&field.id.in_template()) {
                Some(first) => duplicate("field of the request", &field.id, first, self.problems),
                None => {
                    seen.insert(field.id.in_template(), &field.id);
                }
            }
        }
    }
}
