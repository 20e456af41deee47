//! What the whole file declares beside graphs: models and indexes, and what is known of them.

use crate::{
    Facts, PythonFacts,
    problems::{Problems, listed},
};
use schema::{Diagnostic, Document, IndexDecl, ModelDecl, Name, Span, Spanned, codes};
use std::collections::HashMap;

/// Models and indexes by name.
pub(super) struct World<'a> {
    models: HashMap<&'a str, &'a ModelDecl>,
    indexes: HashMap<&'a str, &'a IndexDecl>,
    facts: &'a Facts,
}

/// The size of vectors, and where it follows from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) dimensions: usize,
    pub(super) declared: Span,
}

impl<'a> World<'a> {
    /// Gathers the declarations and checks them against each other.
    pub(super) fn new(document: &'a Document, facts: &'a Facts, problems: &mut Problems) -> Self {
        let world = Self {
            models: unique(
                "model",
                document.models.iter().map(|model| (&model.id, model)),
                problems,
            ),
            indexes: unique(
                "index",
                document.indexes.iter().map(|index| (&index.id, index)),
                problems,
            ),
            facts,
        };
        for index in &document.indexes {
            world.check_declared(index, problems);
        }
        for model in &document.models {
            let named = model.named_adapters.iter();
            unique("adapter", named.map(|one| (&one.id, one)), problems);
            for pin in model.adapters.iter().flat_map(|set| &set.pin) {
                world.check_adapter(&model.id, pin.as_str(), pin.span, problems);
            }
        }
        world
    }

    /// A diagnostic if there is no model of this name.
    pub(super) fn check_model(&self, name: &Spanned<Name>, problems: &mut Problems) {
        if !self.models.contains_key(name.as_str()) && !name.as_str().is_empty() {
            unknown("model", name, self.models.keys().copied(), problems);
        }
    }

    /// What is known of a Python file.
    pub(super) fn python(&self, file: &str) -> Option<&'a PythonFacts> {
        self.facts.python.get(file)
    }

    /// A diagnostic if a model has no adapter of this name, written at `place`, as far as that is
    /// known.
    pub(super) fn check_adapter(
        &self,
        model: &Name,
        adapter: &str,
        place: Span,
        problems: &mut Problems,
    ) {
        let Some(decl) = self.models.get(model.as_str()) else {
            return;
        };
        if !decl.takes_adapters() {
            let message = format!("model \"{model}\" has no adapters");
            let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, place)
                .also(decl.id.span, "it is declared here");
            let help = "name their folder in the model: `adapters \"adapters/\"`";
            return problems.push(problem.help(help));
        }
        let Some(names) = self.adapters(decl) else {
            return;
        };
        if names.contains(&adapter) {
            return;
        }
        let message = format!("model \"{model}\" has no adapter \"{adapter}\"");
        let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, place);
        let otherwise = match names.is_empty() {
            true => "its folder holds none".to_owned(),
            false => format!("there is {}", listed(names.iter().copied())),
        };
        problems.push_with_guess(problem, adapter, names, Some(otherwise));
    }

    /// The names of a model's adapters, if they are known.
    fn adapters(&self, decl: &'a ModelDecl) -> Option<Vec<&'a str>> {
        let mut names: Vec<&str> = (decl.named_adapters.iter())
            .map(|adapter| adapter.id.as_str())
            .collect();
        let folder = decl.adapters.as_ref().and_then(|set| set.path.as_ref());
        if folder.is_some() {
            let facts = self.facts.models.get(&decl.id.value)?;
            names.extend(facts.adapters.as_ref()?.iter().map(String::as_str));
        }
        Some(names)
    }

    /// The index of this name.
    pub(super) fn index(&self, name: &Name) -> Option<&'a IndexDecl> {
        self.indexes.get(name.as_str()).copied()
    }

    /// A diagnostic if there is no index of this name.
    pub(super) fn check_index(&self, name: &Spanned<Name>, problems: &mut Problems) {
        if self.index(name).is_none() && !name.as_str().is_empty() {
            unknown("index", name, self.indexes.keys().copied(), problems);
        }
    }

    /// The size of the vectors that a model embeds to, if known.
    pub(super) fn model_size(&self, model: &Name) -> Option<Size> {
        let declared = self.models.get(model.as_str())?.id.span;
        let dimensions = self.facts.models.get(model)?.dimensions?;
        Some(Size {
            dimensions,
            declared,
        })
    }

    /// The size of the vectors that an index holds: as declared, as it says itself, or as its model
    /// makes them.
    pub(super) fn index_size(&self, index: &IndexDecl) -> Option<Size> {
        let declared = index.dimensions.as_ref().map(|dimensions| Size {
            dimensions: dimensions.value as usize,
            declared: dimensions.span,
        });
        let known = || {
            let dimensions = self.facts.indexes.get(&index.id.value)?.dimensions?;
            Some(Size {
                dimensions,
                declared: index.id.span,
            })
        };
        let of_model = || self.model_size(index.model.as_deref()?);
        declared.or_else(known).or_else(of_model)
    }

    fn check_declared(&self, index: &IndexDecl, problems: &mut Problems) {
        let Some(model) = &index.model else { return };
        self.check_model(model, problems);
        let (Some(size), Some(made)) = (self.index_size(index), self.model_size(model)) else {
            return;
        };
        if size.dimensions != made.dimensions {
            let message = format!(
                "model \"{}\" makes vectors of {}, and index \"{}\" holds vectors of {}",
                **model, made.dimensions, *index.id, size.dimensions
            );
            let problem = Diagnostic::error(codes::DIMENSION_MISMATCH, message, model.span)
                .label(format!("vectors of {}", made.dimensions))
                .also(size.declared, format!("vectors of {}", size.dimensions));
            problems.push(problem);
        }
    }
}

/// The things by name; of two with one name the first, and a diagnostic.
fn unique<'a, T>(
    what: &str,
    things: impl Iterator<Item = (&'a Spanned<Name>, &'a T)>,
    problems: &mut Problems,
) -> HashMap<&'a str, &'a T> {
    let mut spelled: HashMap<String, &Spanned<Name>> = HashMap::new();
    let mut found = HashMap::new();
    // What could not be read stands with an empty name.
    for (name, thing) in things.filter(|(name, _)| !name.as_str().is_empty()) {
        match spelled.get(&name.in_template()) {
            Some(first) => duplicate(what, name, first, problems),
            None => {
                spelled.insert(name.in_template(), name);
                found.insert(name.as_str(), thing);
            }
        }
    }
    found
}

/// Reports a second thing of one name.
pub(super) fn duplicate(
    what: &str,
    name: &Spanned<Name>,
    first: &Spanned<Name>,
    problems: &mut Problems,
) {
    let message = format!("a second {what} is named \"{}\"", **name);
    let problem = Diagnostic::error(codes::DUPLICATE_NAME, message, name.span)
        .also(first.span, "the first one");
    problems.push(match name.value == first.value {
        true => problem,
        false => problem.help("\"-\" and \"_\" are the same in names"),
    });
}

/// Reports a name that nothing bears.
pub(super) fn unknown<'a>(
    what: &str,
    name: &Spanned<Name>,
    names: impl Iterator<Item = &'a str>,
    problems: &mut Problems,
) {
    if problems.is_full() {
        return problems.skip();
    }
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let message = format!("unknown {what} \"{}\"", **name);
    let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, name.span);
    let otherwise = match names.is_empty() {
        true => format!("there is no {what}"),
        false => format!("there is {}", listed(names.iter().copied())),
    };
    problems.push_with_guess(problem, name.as_str(), names, Some(otherwise));
}
