//! What is different about models and indexes, which all graphs share.

use super::{Change, Handover, Step, change::Changes};
use crate::Program;
use schema::{IndexDecl, ModelDecl, Name, Work};
use std::collections::HashSet;

/// The steps of models and indexes.
pub(super) struct World {
    pub(super) models: Vec<(Name, Step)>,
    pub(super) indexes: Vec<(Name, Step)>,
    /// Those whose declaration is not what it was.
    changed: HashSet<(&'static str, Name)>,
}

impl World {
    pub(super) fn compare(running: &Program, next: &Program) -> Self {
        let models = steps(running.models(), next.models(), |m| &m.id, of_model);
        let indexes = steps(running.indexes(), next.indexes(), |i| &i.id, of_index);
        let declared = [("model", &models), ("index", &indexes)];
        let changed = declared.into_iter().flat_map(|(what, steps)| {
            let changed = steps
                .iter()
                .filter(|(_, step)| matches!(step, Step::Replace { .. }));
            changed.map(move |(name, _)| (what, name.clone()))
        });
        Self {
            changed: changed.collect(),
            models,
            indexes,
        }
    }

    /// What the replicas of this work stand on and is not what it was.
    pub(super) fn changed_below(&self, work: &Work) -> Option<Change> {
        let (what, name) = match work {
            Work::Search(search) => ("index", &search.index.value),
            other => ("model", &other.model()?.value),
        };
        let changed = self.changed.contains(&(what, name.clone()));
        changed.then(|| Change::changed(format!("{what} {name}")))
    }
}

fn steps<T: PartialEq>(
    running: &[T],
    next: &[T],
    name: fn(&T) -> &Name,
    why: fn(&T, &T) -> Vec<Change>,
) -> Vec<(Name, Step)> {
    let find = |list: &'_ [T], wanted: &Name| list.iter().position(|one| name(one) == wanted);
    let step = |after: &T| match find(running, name(after)).map(|at| &running[at]) {
        None => Step::Start,
        Some(before) if before == after => Step::Keep,
        Some(before) => Step::Replace {
            why: why(before, after),
            handover: Handover::Overlap,
        },
    };
    let here = next.iter().map(|after| (name(after).clone(), step(after)));
    let gone = running
        .iter()
        .filter(|before| find(next, name(before)).is_none());
    here.chain(gone.map(|before| (name(before).clone(), Step::Stop)))
        .collect()
}

fn of_model(before: &ModelDecl, after: &ModelDecl) -> Vec<Change> {
    let ModelDecl {
        id: _,
        sources,
        adapters,
        named_adapters,
        dtype,
        device,
        max_tokens,
        span: _,
    } = before;
    let mut changes = Changes::default();
    changes.whole("source", sources, &after.sources);
    changes.optional("adapters", adapters.as_ref(), after.adapters.as_ref());
    changes.whole("adapter", named_adapters, &after.named_adapters);
    changes.values("dtype", dtype, &after.dtype);
    changes.values("device", device, &after.device);
    changes.values("max-tokens", max_tokens, &after.max_tokens);
    changes.into_list()
}

fn of_index(before: &IndexDecl, after: &IndexDecl) -> Vec<Change> {
    let IndexDecl {
        id: _,
        backend,
        model,
        dimensions,
        from,
        span: _,
    } = before;
    let mut changes = Changes::default();
    changes.whole("place", backend, &after.backend);
    changes.optional("model", model.as_ref(), after.model.as_ref());
    changes.values("dimensions", dimensions, &after.dimensions);
    changes.optional("from", from.as_ref(), after.from.as_ref());
    changes.into_list()
}
