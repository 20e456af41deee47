//! Models from a hub, into the cache that the hub's other clients share.

mod client;
mod download;
mod layout;

use super::{
    HubPlace, HubSettings, Problem, Progress,
    select::{self, Wanted},
    store,
};
use client::{Client, Described, Listing};
use download::Download;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use layout::{Repository, blob_digest, is_commit};
use schema::LockedSource;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// How many files of a repository are fetched at once.
const AT_ONCE: usize = 4;

/// A model hub.
pub(super) struct Hub {
    settings: HubSettings,
    progress: Arc<dyn Progress>,
    /// Made when the first file is needed: most engines never ask a hub.
    client: OnceLock<Client>,
}

impl Hub {
    pub(super) fn new(settings: HubSettings, progress: Arc<dyn Progress>) -> Self {
        Self {
            settings,
            progress,
            client: OnceLock::new(),
        }
    }

    /// The folder or file of a place, fetched where the cache does not have it. `pin` is the digest
    /// of a single file.
    pub(super) async fn fetch(
        &self,
        place: &HubPlace,
        pin: Option<&str>,
    ) -> Result<PathBuf, Problem> {
        let repository = Repository::new(&self.settings.cache_dir, &place.repo);
        if let Some(path) = immutable(&repository, place) {
            return Ok(path);
        }
        if self.settings.offline {
            return repository.cached(place).ok_or_else(|| Problem::Offline {
                what: describe(place),
            });
        }
        let client = self.client()?;
        match client.list(&place.repo, &place.revision).await {
            Ok(listing) => {
                self.complete(client, &repository, place, pin, listing)
                    .await
            }
            Err(problem @ Problem::Unreachable { .. }) => match repository.cached(place) {
                Some(path) => {
                    tracing::warn!(repo = place.repo, %problem, "using what the cache holds");
                    Ok(path)
                }
                None => Err(problem),
            },
            Err(problem) => Err(problem),
        }
    }

    /// The folder or file of a place as it was when it was locked.
    pub(super) async fn fetch_locked(
        &self,
        place: &HubPlace,
        locked: &LockedSource,
    ) -> Result<PathBuf, Problem> {
        let revision = locked.revision.as_deref();
        let commit = revision.filter(|revision| is_commit(revision));
        let commit = commit.ok_or_else(|| Problem::Lock {
            file: describe(place),
            reason: "has no commit in the lock".to_owned(),
        })?;
        let place = HubPlace {
            revision: commit.to_owned(),
            ..place.clone()
        };
        // A commit does not change: if its files are here, nobody need be asked.
        let repository = Repository::new(&self.settings.cache_dir, &place.repo);
        let is_whole = |path: &PathBuf| {
            let mut files = locked.files.iter();
            path.is_file() || files.all(|file| path.join(&file.path).exists())
        };
        match repository.cached(&place).filter(is_whole) {
            Some(path) => Ok(path),
            None => self.fetch(&place, None).await,
        }
    }

    /// The commit that a path of this hub's cache belongs to.
    pub(super) fn commit_of(&self, path: &Path) -> Option<String> {
        let inside = path.strip_prefix(&self.settings.cache_dir).ok()?;
        layout::commit_of(inside).map(str::to_owned)
    }

    /// Brings a snapshot up to what is needed of it.
    async fn complete(
        &self,
        client: &Client,
        repository: &Repository,
        place: &HubPlace,
        pin: Option<&str>,
        listing: Listing,
    ) -> Result<PathBuf, Problem> {
        let wanted = Wanted {
            repo: &place.repo,
            inside: place.file.as_deref(),
            naming: "with #FILE",
        };
        let files = select::select(&listing.files, wanted)?;
        if pin.is_some() && files.iter().filter(|file| select::is_weights(file)).count() != 1 {
            return Err(Problem::unsuitable(
                describe(place),
                "is more than one file, and a sha256 is that of a single one; name it with #FILE",
            ));
        }
        let commit = listing.commit.as_str();
        let downloads: Vec<BoxFuture<'_, _>> = files
            .iter()
            .map(|file| {
                let pin = pin.filter(|_| select::is_weights(file));
                self.file(client, repository, &place.repo, commit, file, pin)
                    .boxed()
            })
            .collect();
        stream::iter(downloads)
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        repository.set_commit(&place.revision, commit)?;
        let snapshot = repository.snapshot(commit);
        Ok(match &place.file {
            Some(file) => snapshot.join(file),
            None => snapshot,
        })
    }

    /// Sees to it that a file is in a snapshot.
    async fn file(
        &self,
        client: &Client,
        repository: &Repository,
        repo: &str,
        commit: &str,
        file: &str,
        pin: Option<&str>,
    ) -> Result<(), Problem> {
        if repository.snapshot(commit).join(file).exists() {
            return Ok(());
        }
        let what = format!("{repo}/{file}");
        let url = client.file_url(repo, commit, file);
        let described = client.describe(&url, &what).await?;
        let announced = blob_digest(&described.etag);
        if let (Some(expected), Some(found)) = (pin, announced)
            && expected != found
        {
            return Err(Problem::Digest {
                file: what,
                expected: expected.to_owned(),
                found: found.to_owned(),
            });
        }
        let blob = repository.blob(&described.etag);
        if !blob.exists() {
            let download = Download {
                client,
                url,
                what,
                incomplete: append(&blob, ".incomplete"),
                size: described.size,
                sha256: announced.or(pin),
            };
            let lock = repository.lock(&described.etag);
            self.download(download, &described, &blob, &lock).await?;
        }
        repository.link(commit, file, &described.etag)
    }

    async fn download(
        &self,
        download: Download<'_>,
        described: &Described,
        blob: &Path,
        lock: &Path,
    ) -> Result<(), Problem> {
        let _lock = store::lock(lock).await?;
        if blob.exists() {
            // Another engine fetched it while this one waited.
            return Ok(());
        }
        let folder = blob.parent().unwrap_or(blob);
        fs::create_dir_all(folder).map_err(Problem::disk("create", folder))?;
        let incomplete = download.incomplete.clone();
        let mut transfer = self.progress.start(&download.what, described.size);
        download.run(&mut *transfer).await?;
        fs::rename(&incomplete, blob).map_err(Problem::disk("rename", &incomplete))?;
        transfer.finish();
        Ok(())
    }

    fn client(&self) -> Result<&Client, Problem> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(&self.settings)?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// A file of a commit cannot change: if it is there, nobody need be asked.
fn immutable(repository: &Repository, place: &HubPlace) -> Option<PathBuf> {
    (is_commit(&place.revision) && place.file.as_deref().is_some_and(select::is_weights))
        .then(|| repository.cached(place))
        .flatten()
}

fn describe(place: &HubPlace) -> String {
    match &place.file {
        Some(file) => format!("{}/{file}", place.repo),
        None => place.repo.clone(),
    }
}

fn append(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
