//! What is different about models and indexes, which all graphs share.

use super::{Change, Handover, Step, change::Changes};
use crate::Program;
use schema::{IndexDecl, ModelDecl, Name, Work};
use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// The steps of models and indexes.
pub(super) struct World {
    pub(super) models: Vec<(Name, Step)>,
    pub(super) indexes: Vec<(Name, Step)>,
    /// Those that are not what they were.
    changed: HashSet<(&'static str, Name)>,
    /// Files of Python nodes with another content.
    files: HashSet<String>,
}

impl World {
    pub(super) fn compare(running: &Program, next: &Program) -> Self {
        let (old, new) = (running.content(), next.content());
        let exchanged = differing(&old.models, &new.models);
        let of_model = |before: &ModelDecl, after: &ModelDecl| {
            let mut changes = of_model(before, after);
            if exchanged.contains(&after.id.value) {
                changes.push(Change::changed("files"));
            }
            changes
        };
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
            files: differing(&old.files, &new.files),
            models,
            indexes,
        }
    }

    /// What this work runs and is not what it was, though the file names the same.
    pub(super) fn changed_code(&self, work: &Work) -> Vec<Change> {
        let Work::Python(python) = work else {
            return Vec::new();
        };
        let requirements = python.requirements.as_ref().map(|path| &path.value);
        [
            ("python file", Some(&python.file.value)),
            ("requirements file", requirements),
        ]
        .into_iter()
        .filter(|(_, path)| path.is_some_and(|path| self.files.contains(path.expose())))
        .map(|(what, _)| Change::changed(what))
        .collect()
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

/// What has one digest on the one side and another on the other.
fn differing<K: Clone + Eq + Hash>(
    before: &HashMap<K, u64>,
    after: &HashMap<K, u64>,
) -> HashSet<K> {
    let differs = |(key, digest): &(&K, &u64)| before.get(key).is_some_and(|old| old != *digest);
    let found = after.iter().filter(differs);
    found.map(|(key, _)| key.clone()).collect()
}

fn steps<T>(
    running: &[T],
    next: &[T],
    name: fn(&T) -> &Name,
    why: impl Fn(&T, &T) -> Vec<Change>,
) -> Vec<(Name, Step)> {
    let find = |list: &'_ [T], wanted: &Name| list.iter().position(|one| name(one) == wanted);
    let step = |after: &T| match find(running, name(after)).map(|at| &running[at]) {
        None => Step::Start,
        Some(before) => match why(before, after) {
            none if none.is_empty() => Step::Keep,
            why => Step::Replace {
                why,
                handover: Handover::Overlap,
            },
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
