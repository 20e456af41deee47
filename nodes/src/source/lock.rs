//! Files held against a lock, and the entries of a new one.
//!
//! What a source gave is the files that a model may consist of, the same that would be fetched of it:
//! one that is missing, another size or digest, and one too many are all refused, because each of them
//! changes what the model does.

use super::{Problem, digest, folder, select, store::Store};
use schema::{Lock, LockedFile, LockedSource};
use std::path::{Path, PathBuf};

/// A lock that is in force.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) lock: Lock,
    /// Nothing is taken that it does not have.
    pub(super) binding: bool,
}

/// The files of what a source gave, by their paths in it.
pub(super) fn files(root: &Path) -> Result<Vec<(String, PathBuf)>, Problem> {
    if !root.is_dir() {
        let name = root.file_name().unwrap_or_default().to_string_lossy();
        return Ok(vec![(name.into_owned(), root.to_owned())]);
    }
    let what = root.display().to_string();
    let all = folder::files(root)?.into_iter().filter_map(|path| {
        let inside = path.strip_prefix(root).ok()?;
        let parts = inside.iter().map(|part| part.to_string_lossy());
        Some((parts.collect::<Vec<_>>().join("/"), path))
    });
    let mut all: Vec<_> = all.collect();
    let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
    let wanted = select::Wanted {
        repo: &what,
        inside: None,
        naming: "in the source",
    };
    let chosen = select::select(&names, wanted)?;
    all.retain(|(name, _)| chosen.contains(name));
    Ok(all)
}

/// The files of what a source gave, as a lock has them. Reads all of them.
pub(super) fn lock_files(root: &Path) -> Result<Vec<LockedFile>, Problem> {
    let files = files(root)?.into_iter().map(|(name, path)| {
        let size = path.metadata().map_err(Problem::disk("read", &path))?.len();
        Ok(LockedFile {
            path: name,
            size,
            sha256: digest::of_file(&path)?,
            etag: None,
            version: None,
        })
    });
    files.collect()
}

/// Holds what a source gave against what the lock says of it.
pub(super) fn verify(root: &Path, locked: &LockedSource, store: &Store) -> Result<(), Problem> {
    let different = |file: &str, reason: String| Problem::Lock {
        file: file.to_owned(),
        reason,
    };
    let files = files(root)?;
    if let ([(_, path)], [only]) = (files.as_slice(), locked.files.as_slice()) {
        return same(path, only, store);
    }
    for (name, path) in &files {
        match locked.file(name) {
            Some(file) => same(path, file, store)?,
            None => {
                let file = path.display().to_string();
                return Err(different(&file, "is not in the lock".to_owned()));
            }
        }
    }
    let missing = locked.files.iter();
    let mut missing = missing.filter(|file| !files.iter().any(|(name, _)| *name == file.path));
    match missing.next() {
        Some(file) => {
            let file = root.join(&file.path).display().to_string();
            Err(different(&file, "is in the lock and not here".to_owned()))
        }
        None => Ok(()),
    }
}

fn same(path: &Path, locked: &LockedFile, store: &Store) -> Result<(), Problem> {
    let size = path.metadata().map_err(Problem::disk("read", path))?.len();
    if size != locked.size {
        return Err(Problem::Lock {
            file: path.display().to_string(),
            reason: format!("has {size} bytes, and the lock says {}", locked.size),
        });
    }
    match store.check_digest(path, &locked.sha256) {
        Err(Problem::Digest { file, found, .. }) => Err(Problem::Lock {
            file,
            reason: format!(
                "has the sha256 {found}, and the lock says {}",
                locked.sha256
            ),
        }),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const WEIGHTS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

    fn model() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        fs::write(folder.path().join("model.safetensors"), WEIGHTS).unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        fs::write(folder.path().join("1_Pooling/config.json"), "{}").unwrap();
        fs::write(folder.path().join("README.md"), "not a part of it").unwrap();
        folder
    }

    fn locked(root: &Path) -> LockedSource {
        LockedSource {
            uri: "file:m".to_owned(),
            revision: None,
            files: lock_files(root).unwrap(),
        }
    }

    #[test]
    fn every_difference_is_refused_with_the_file_named() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::new(cache.path().to_owned());
        let folder = model();
        let root = folder.path();
        let lock = locked(root);
        let names: Vec<_> = lock.files.iter().map(|file| &*file.path).collect();
        assert_eq!(
            names,
            ["1_Pooling/config.json", "config.json", "model.safetensors"]
        );
        let check = || verify(root, &lock, &store).map_err(|problem| problem.to_string());
        assert_eq!(check(), Ok(()));
        // What is not taken of a source changes nothing.
        fs::write(root.join("README.md"), "another text").unwrap();
        fs::write(root.join("model.gguf"), "left out beside safetensors").unwrap();
        assert_eq!(check(), Ok(()));

        let refused = |says: &[&str]| {
            let said = check().unwrap_err();
            assert!(says.iter().all(|part| said.contains(part)), "{said}");
        };
        fs::write(root.join("config.json"), "[]").unwrap();
        refused(&["config.json has the sha256", "and the lock says"]);
        fs::write(root.join("config.json"), "{ }").unwrap();
        refused(&["config.json has 3 bytes, and the lock says 2"]);
        fs::write(root.join("config.json"), "{}").unwrap();
        assert_eq!(check(), Ok(()));
        fs::write(root.join("tokenizer.json"), "{}").unwrap();
        refused(&["tokenizer.json is not in the lock"]);
        fs::remove_file(root.join("tokenizer.json")).unwrap();
        fs::remove_file(root.join("1_Pooling/config.json")).unwrap();
        refused(&["1_Pooling/config.json is in the lock and not here"]);
    }

    #[test]
    fn one_file_is_held_against_the_one_entry_whatever_its_name() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::new(cache.path().to_owned());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        fs::write(&path, "GGUF").unwrap();
        let lock = locked(&path);
        let renamed = folder.path().join("other.gguf");
        fs::rename(&path, &renamed).unwrap();
        verify(&renamed, &lock, &store).unwrap();
        fs::write(&renamed, "GGUf").unwrap();
        assert!(verify(&renamed, &lock, &store).is_err());
    }
}
