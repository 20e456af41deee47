//! The hub's documented cache layout, which its other clients on this machine share.
//!
//! ```text
//! models--ORG--NAME/refs/REVISION            the commit that a branch or tag stood at
//! models--ORG--NAME/snapshots/COMMIT/FILE    links to blobs
//! models--ORG--NAME/blobs/ETAG               contents; ETAG.incomplete while it is fetched
//! .locks/models--ORG--NAME/ETAG.lock
//! ```

use crate::source::{HubPlace, Problem, digest, store::write_atomically};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The part of the cache that belongs to one repository.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    root: PathBuf,
    locks: PathBuf,
}

impl Repository {
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        let name = format!("models--{}", repo.replace('/', "--"));
        Self {
            root: cache.join(&name),
            locks: cache.join(".locks").join(name),
        }
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The commit that a revision stood at when it was last fetched.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Notes where a revision stands. Done last, so that it points to a whole snapshot.
    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), Problem> {
        if is_commit(revision) {
            return Ok(());
        }
        write_atomically(&self.root.join("refs").join(revision), commit.as_bytes())
    }

    /// What was fetched earlier.
    pub(super) fn cached(&self, place: &HubPlace) -> Option<PathBuf> {
        let snapshot = self.snapshot(&self.commit(&place.revision)?);
        let path = match &place.file {
            Some(file) => snapshot.join(file),
            None => snapshot,
        };
        path.exists().then_some(path)
    }

    /// Puts a file into a snapshot as a link to its blob.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), Problem> {
        let path = self.snapshot(commit).join(file);
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(Problem::disk("create", folder))?;
        // Relative, so that the cache may be moved: out of the file's folders, the commit's and
        // `snapshots`.
        let up = "../".repeat(file.split('/').count() + 1);
        let target = format!("{up}blobs/{etag}");
        let temporary = folder.join(format!(".{etag}.{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        make_link(&target, &self.blob(etag), &temporary)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(Problem::disk("link", &path))
    }
}

#[cfg(unix)]
fn make_link(relative: &str, _blob: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, link)
}

#[cfg(not(unix))]
fn make_link(_relative: &str, blob: &Path, link: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, link)
}

/// The commit whose snapshot a path leads into.
pub(super) fn commit_of(path: &Path) -> Option<&str> {
    let mut parts = path.iter().map(|part| part.to_str().unwrap_or_default());
    parts.by_ref().find(|part| part.starts_with("models--"))?;
    parts.next().filter(|part| *part == "snapshots")?;
    parts.next().filter(|part| is_commit(part))
}

/// Whether it is a commit's full name.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The digest that a blob's name states; small files are named otherwise.
pub(super) fn blob_digest(etag: &str) -> Option<&str> {
    digest::is_sha256(etag).then_some(etag)
}
