//! The lock beside a file: read, compared with what the file names, and held against what is on this
//! machine.
//!
//! Without an order to the contrary a lock is used for what it has, and what it lacks is a warning.
//! With `--locked` what it lacks is an error. What it has and what is something else is an error
//! always.

use crate::{facts, load::Loaded};
use nodes::source::{Attempt, Fetcher, Problem};
use schema::{AdapterSet, Diagnostic, Lock, ModelDecl, ModelSource, Source, Span, Spanned, codes};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the lock of a file is: beside it, with the ending `lock`.
pub fn beside(file: &Path) -> PathBuf {
    file.with_extension("lock")
}

/// The lock of a file if there is a good one; whoever needs to know why there is none asks [`read`].
pub fn peek(file: &Path) -> Option<Lock> {
    let path = beside(file);
    let source = Source {
        id: schema::SourceId(0),
        name: path.display().to_string(),
        text: fs::read_to_string(&path).ok()?,
    };
    Lock::parse(&source).ok()
}

/// Reads the lock of a file, and what is to be said of it; its text joins those of the file, so that
/// places in it can be shown. With `binding` there must be one, and it must have everything.
pub fn read(file: &Path, loaded: &mut Loaded, binding: bool) -> (Option<Lock>, Vec<Diagnostic>) {
    let path = beside(file);
    let models = loaded.program.models();
    let first = models.iter().flat_map(|model| &model.sources).next();
    let Some(place) = first.map(|source| source.span) else {
        // Nothing to lock.
        return (None, Vec::new());
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !binding => {
            return (None, Vec::new());
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            let problem = Diagnostic::error(codes::UNREADABLE_FILE, message, place);
            return (None, vec![problem.help("`engine lock` writes it")]);
        }
    };
    let name = path.display().to_string();
    let id = loaded.sources.add(name.clone(), text.clone());
    match Lock::parse(&Source { id, name, text }) {
        Ok(lock) => {
            let mut problems = lock.compare(models, binding);
            let base_dir = facts::base_dir(file);
            for model in models {
                problems.extend(further_adapters(model, &lock, &base_dir, binding));
            }
            (Some(lock), problems)
        }
        Err(problems) => (None, problems),
    }
}

/// Adapters in the folder of a model that the lock does not have.
fn further_adapters(
    model: &ModelDecl,
    lock: &Lock,
    base_dir: &Path,
    binding: bool,
) -> Vec<Diagnostic> {
    let (Some(set), Some(names)) = (&model.adapters, nodes::local_adapters(model, base_dir)) else {
        return Vec::new();
    };
    let root = set.root_uri().unwrap_or_default();
    let mut names = names;
    names.sort();
    names.retain(|name| lock.get(&format!("{root}{name}")).is_none());
    let problems = names.into_iter().map(|name| {
        let message = format!("the lock has no adapter `{name}` of model `{}`", *model.id);
        let problem = match binding {
            true => Diagnostic::error(codes::LOCK_OUTDATED, message, set.span),
            false => Diagnostic::warning(codes::LOCK_OUTDATED, message, set.span),
        };
        problem.help("`engine lock` brings it up to date")
    });
    problems.collect()
}

/// Holds everything that the lock has against what the sources give, which are fetched if they are
/// not here and `fetcher` may. What cannot be had is not said here.
pub async fn verify(models: &[ModelDecl], lock: &Lock, fetcher: &Fetcher) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for model in models {
        problems.extend(differs(&model.sources, fetcher).await);
        for adapter in &model.named_adapters {
            problems.extend(differs(&adapter.sources, fetcher).await);
        }
        let set = model.adapters.iter();
        for (set, root) in set.filter_map(|set| Some((set, local_root(set)?))) {
            let entries = lock.sources.iter();
            for entry in entries.filter(|entry| entry.uri.starts_with(&root)) {
                let source = ModelSource::of(&*entry.uri);
                problems.extend(differs(&[Spanned::new(source, set.span)], fetcher).await);
            }
        }
    }
    problems
}

/// What the sources of adapters in a folder on this machine begin with; those of a remote one are
/// held against the lock when a request needs them.
fn local_root(set: &AdapterSet) -> Option<String> {
    set.root_uri().filter(|_| !set.is_remote())
}

async fn differs(sources: &[Spanned<ModelSource>], fetcher: &Fetcher) -> Option<Diagnostic> {
    let fetched = fetcher.fetch(sources.iter().map(|source| &source.value));
    let attempts = fetched.await.err()?.attempts;
    let told = |Attempt { uri, problem }: &Attempt| match problem {
        Problem::Lock { .. } | Problem::Digest { .. } => Some((uri.clone(), problem.to_string())),
        // A folder that a lock has and that is gone.
        Problem::NotFound { .. } if uri.expose().starts_with("file:") => {
            Some((uri.clone(), problem.to_string()))
        }
        _ => None,
    };
    let (uri, message) = attempts.iter().find_map(told)?;
    let place = sources.iter().find(|source| source.uri.value == uri);
    let place = place.map_or(Span::default(), |source| source.span);
    Some(
        Diagnostic::error(codes::LOCK_MISMATCH, message, place)
            .label("it is not what was locked")
            .help("put back what the lock says, or take it as it is now with `engine lock`"),
    )
}
