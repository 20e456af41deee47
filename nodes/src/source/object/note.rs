//! What is remembered of a source in an object store: which objects it had, and where the cache has
//! what they held. So a later start asks what there is now, and fetches only what is another.

use crate::source::{
    Problem,
    digest::is_sha256,
    store::{Store, write_atomically},
};
use schema::place::is_inner_path;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An object of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    /// Its path below the place; the file's name where the place is one object.
    pub(super) path: String,
    pub(super) size: u64,
    /// What the store calls its content, without quotes.
    pub(super) etag: Option<String>,
    /// Whether equal names may stand for contents that differ in their bytes.
    #[serde(default)]
    pub(super) weak: bool,
    /// When it was put there, in seconds; 0 where the store does not say.
    #[serde(default)]
    pub(super) modified: i64,
    /// The version of it, where the store keeps several and was told to.
    #[serde(default)]
    pub(super) version: Option<String>,
}

impl Object {
    /// Whether both are the same content, as far as the store says.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = match (&self.etag, &other.etag) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.modified != 0 && self.modified == other.modified,
            _ => false,
        };
        same && self.size == other.size && self.path == other.path
    }

    /// What tells this content from others of its name.
    pub(super) fn mark(&self) -> String {
        match &self.etag {
            Some(etag) => format!("{} {etag}", self.size),
            None => format!("{} at {}", self.size, self.modified),
        }
    }
}

/// An object, and the digest of what it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noted {
    #[serde(flatten)]
    pub(super) object: Object,
    pub(super) sha256: String,
}

/// What a source gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) objects: Vec<Noted>,
    /// Which content it is in the cache.
    pub(super) digest: String,
    /// The file in it; empty for the whole folder.
    pub(super) inside: String,
}

impl Note {
    /// What is remembered under a key, if its content is still there.
    pub(super) fn read(store: &Store, key: &str) -> Option<Self> {
        let text = std::fs::read(store.note(key)).ok()?;
        let note: Self = serde_json::from_slice(&text).ok()?;
        let is_whole = is_sha256(&note.digest)
            && (note.inside.is_empty() || is_inner_path(&note.inside))
            && note.path(store).exists();
        is_whole.then_some(note)
    }

    pub(super) fn write(&self, store: &Store, key: &str) -> Result<(), Problem> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        write_atomically(&store.note(key), &text)
    }

    /// The folder or file that the source gave.
    pub(super) fn path(&self, store: &Store) -> PathBuf {
        store.content(&self.digest, &self.inside)
    }

    /// Whether these objects are what it holds.
    pub(super) fn is_of(&self, objects: &[Object]) -> bool {
        self.objects.len() == objects.len()
            && self
                .objects
                .iter()
                .zip(objects)
                .all(|(noted, object)| noted.object.is_same(object))
    }

    /// What is noted of an object that did not change.
    pub(super) fn of(&self, object: &Object) -> Option<&Noted> {
        let mut noted = self.objects.iter();
        noted.find(|noted| noted.object.is_same(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(etag: Option<&str>, modified: i64) -> Object {
        Object {
            path: "a.json".to_owned(),
            size: 3,
            etag: etag.map(str::to_owned),
            weak: false,
            modified,
            version: None,
        }
    }

    #[test]
    fn an_object_is_the_same_by_its_etag_or_by_its_time() {
        for (one, other, same) in [
            (object(Some("x"), 1), object(Some("x"), 2), true),
            (object(Some("x"), 1), object(Some("y"), 1), false),
            (object(None, 1), object(None, 1), true),
            (object(None, 1), object(None, 2), false),
            // Nothing is known of it.
            (object(None, 0), object(None, 0), false),
            (object(Some("x"), 1), object(None, 1), false),
        ] {
            assert_eq!(one.is_same(&other), same, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_note_that_leads_out_of_the_cache_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        std::fs::create_dir_all(folder.path().join("content")).unwrap();
        for (digest, inside) in [("../..", ""), (&*"0".repeat(64), "../../x")] {
            let note = Note {
                objects: Vec::new(),
                digest: digest.to_owned(),
                inside: inside.to_owned(),
            };
            note.write(&store, "key").unwrap();
            assert_eq!(Note::read(&store, "key"), None);
        }
    }
}
