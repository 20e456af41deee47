//! The engine's cache of fetched files, shared by all engines of a user.
//!
//! ```text
//! content/DIGEST/…    a file or folder under the digest of what it holds, never changed
//! refs/KEY            which content a source gave
//! notes/KEY           the same for a store that changes: which objects it had, and what they held
//! work/KEY/…          what is being fetched; belongs to who holds the lock
//! locks/KEY.lock      taken by who fetches
//! checked/DIGEST-KEY  size and time of a file whose digest was seen to be right
//! ```
//!
//! Content appears by one rename, so that a reader never sees half of it. Files from model hubs are
//! not here but in the hub's own cache, which other programs share.

use super::{Problem, digest};
use schema::place::is_inner_path;
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a lock that another engine holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// The cache.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
}

/// Holds a lock until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// What the source with this key gave earlier.
    pub(super) fn find(&self, key: &str) -> Option<PathBuf> {
        let inner = fs::read_to_string(self.root.join("refs").join(key)).ok()?;
        let path = is_inner_path(&inner).then(|| self.root.join("content").join(inner))?;
        path.exists().then_some(path)
    }

    /// Waits until nobody else fetches for this key.
    pub(super) async fn lock(&self, key: &str) -> Result<Lock, Problem> {
        lock(&self.root.join("locks").join(format!("{key}.lock"))).await
    }

    /// The folder in which files for this key are made; only while its lock is held.
    pub(super) fn work(&self, key: &str) -> Result<PathBuf, Problem> {
        let path = self.root.join("work").join(key);
        fs::create_dir_all(&path).map_err(Problem::disk("create", &path))?;
        Ok(path)
    }

    /// Moves a finished folder to its place under `digest` and notes that `key` gives `inside` of
    /// it; the whole folder if `inside` is empty.
    pub(super) fn publish(
        &self,
        key: &str,
        made: &Path,
        digest: &str,
        inside: &str,
    ) -> Result<PathBuf, Problem> {
        self.keep(made, digest, inside)?;
        let inner = match inside {
            "" => digest.to_owned(),
            _ => format!("{digest}/{inside}"),
        };
        write_atomically(&self.root.join("refs").join(key), inner.as_bytes())?;
        Ok(self.content(digest, inside))
    }

    /// Moves a finished folder to its place under `digest`, where `inside` of it will be found.
    pub(super) fn keep(&self, made: &Path, digest: &str, inside: &str) -> Result<(), Problem> {
        let content = self.root.join("content");
        fs::create_dir_all(&content).map_err(Problem::disk("create", &content))?;
        let target = content.join(digest);
        let Err(source) = fs::rename(made, &target) else {
            return Ok(());
        };
        // The same content came from another source earlier, perhaps under another name.
        match target.is_dir() {
            true if target.join(inside).exists() => Ok(()),
            true => {
                let (from, to) = (made.join(inside), target.join(inside));
                let folder = to.parent().unwrap_or(&target);
                fs::create_dir_all(folder).map_err(Problem::disk("create", folder))?;
                fs::rename(&from, &to).map_err(Problem::disk("rename", &from))
            }
            false => Err(Problem::disk("rename", made)(source)),
        }
    }

    /// Where the content with this digest is, or would be: the whole folder, or the file `inside`.
    pub(super) fn content(&self, digest: &str, inside: &str) -> PathBuf {
        let folder = self.root.join("content").join(digest);
        match inside {
            "" => folder,
            inside => folder.join(inside),
        }
    }

    /// Where what is remembered of a source is, or would be.
    pub(super) fn note(&self, key: &str) -> PathBuf {
        self.root.join("notes").join(key)
    }

    /// Holds a file against its expected digest. The digest is remembered with the file's size and
    /// time, so that an unchanged file of many gigabytes is not read at each start.
    pub(super) fn check_digest(&self, path: &Path, expected: &str) -> Result<(), Problem> {
        let read = || Problem::disk("read", path);
        let absolute = path.canonicalize().map_err(read())?;
        let state = file_state(&absolute).map_err(read())?;
        let key = digest::of_text(&absolute.to_string_lossy());
        let note = self.root.join("checked").join(format!("{expected}-{key}"));
        if fs::read_to_string(&note).is_ok_and(|noted| noted == state) {
            return Ok(());
        }
        let found = digest::of_file(&absolute)?;
        if found != expected {
            return Err(Problem::Digest {
                file: path.display().to_string(),
                expected: expected.to_owned(),
                found,
            });
        }
        // Only a saving of time: a cache that cannot be written must not fail a good model.
        if let Err(problem) = write_atomically(&note, state.as_bytes()) {
            tracing::debug!(%problem, "did not note a checked digest");
        }
        Ok(())
    }
}

/// Waits for an exclusive lock on a file, which is made if it is not there. Python's `filelock` and
/// other processes that use `flock` take part.
pub(super) async fn lock(path: &Path) -> Result<Lock, Problem> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Problem::disk("create", folder))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Problem::disk("open", path))?;
    // Tried again and again rather than waited for in a thread, so that giving up a fetch leaves no
    // thread behind that takes the lock later.
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
            Err(TryLockError::Error(source)) => return Err(Problem::disk("lock", path)(source)),
        }
    }
}

/// Writes a small file so that a reader sees all of it or none.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Problem> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Problem::disk("create", folder))?;
    let write = || Problem::disk("write", path);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(write())?;
    std::io::Write::write_all(&mut file, content).map_err(write())?;
    file.persist(path)
        .map_err(|error| Problem::disk("write", path)(error.error))?;
    Ok(())
}

/// What changes when a file is written to: its size and times, and its number where there is one.
pub(crate) fn file_state(path: &Path) -> std::io::Result<String> {
    let metadata = fs::metadata(path)?;
    let modified = metadata
        .modified()?
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    #[cfg(unix)]
    let (number, changed) = {
        use std::os::unix::fs::MetadataExt as _;
        // Nobody can set this time, so that who writes and turns the other one back is seen.
        (
            metadata.ino(),
            format!("{}.{}", metadata.ctime(), metadata.ctime_nsec()),
        )
    };
    #[cfg(not(unix))]
    let (number, changed) = (0, String::new());
    Ok(format!("{} {modified} {number} {changed}", metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[tokio::test]
    async fn content_is_found_by_its_key_once_published() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        assert_eq!(store.find("key"), None);
        for key in ["key", "other"] {
            let made = store.work(key).unwrap().join("out");
            fs::create_dir(&made).unwrap();
            fs::write(made.join("a.gguf"), "abc").unwrap();
            let path = store.publish(key, &made, ABC, "a.gguf").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "abc");
            assert_eq!(store.find(key), Some(path));
        }
        fs::write(folder.path().join("refs/key"), "../../etc").unwrap();
        assert_eq!(store.find("key"), None);
    }

    #[test]
    fn a_digest_is_checked_again_when_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("cache"));
        let path = folder.path().join("a");
        fs::write(&path, "abc").unwrap();
        store.check_digest(&path, ABC).unwrap();
        store.check_digest(&path, ABC).unwrap();
        fs::write(&path, "abcd").unwrap();
        let error = store.check_digest(&path, ABC).unwrap_err().to_string();
        assert!(error.contains("has the sha256 88d4266f"), "{error}");
        assert!(error.contains(&format!("expected {ABC}")), "{error}");
        assert!(path.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        let first = store.lock("key").await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_secs(5), store.lock("key"));
        assert!(waiting.await.is_err());
        drop(first);
        store.lock("key").await.unwrap();
    }
}
