//! What an index says of itself: a small JSON file that is written once.

use super::{IndexError, log};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

/// The version of the layout of files that this code reads and writes.
const FORMAT: u32 = 1;
const FILE: &str = "manifest.json";
/// Longest manifest that is read, in bytes.
const LONGEST: u64 = 64 << 10;
/// Largest vectors that an index takes.
const MOST_DIMENSIONS: usize = 1 << 15;

/// What an index was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// Size of its vectors; none if it is searched by words alone.
    pub dimensions: Option<usize>,
    distance: Distance,
    /// The model that embedded its documents.
    pub model: Option<EmbeddedBy>,
}

/// A model, as far as it decides what its vectors mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedBy {
    /// The name that it goes by.
    pub name: String,
    /// The digest of its weights, where known; vectors of other weights do not compare.
    pub digest: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Distance {
    Cosine,
}

impl Manifest {
    /// The manifest of a new index.
    pub fn new(dimensions: Option<usize>, model: Option<EmbeddedBy>) -> Self {
        Self {
            format: FORMAT,
            dimensions,
            distance: Distance::Cosine,
            model,
        }
    }

    /// What the file is called while it is written.
    pub(super) const UNFINISHED: &str = "manifest.json.new";

    /// Whether a folder holds an index.
    pub(super) fn exists(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    pub(super) fn read(folder: &Path) -> Result<Self, IndexError> {
        let path = folder.join(FILE);
        let bytes = log::read_small(&path, LONGEST).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => IndexError::Absent {
                path: folder.to_owned(),
            },
            _ => IndexError::io("read", &path)(error),
        })?;
        let damaged = |reason: String| IndexError::damaged(folder, format!("{FILE}: {reason}"));
        let manifest: Self = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                return Err(unreadable(&bytes).unwrap_or_else(|| damaged(error.to_string())));
            }
        };
        manifest.check().map_err(damaged)?;
        Ok(manifest)
    }

    /// Writes the manifest so that it is there as a whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<(), IndexError> {
        self.check().map_err(IndexError::invalid)?;
        let path = folder.join(FILE);
        let unfinished = folder.join(Self::UNFINISHED);
        let written = File::create(&unfinished).and_then(|mut file| {
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)
        });
        written.map_err(IndexError::io("write", &path))?;
        log::sync_folder(folder)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            let format = self.format;
            return Err(format!(
                "its format is {format}; this version reads {FORMAT}"
            ));
        }
        match self.dimensions {
            Some(dimensions) if !(1..=MOST_DIMENSIONS).contains(&dimensions) => Err(format!(
                "its vectors have {dimensions} numbers; an index takes 1 to {MOST_DIMENSIONS}"
            )),
            _ => Ok(()),
        }
    }
}

/// A manifest of another format is not damaged, and rebuilding is not the first thing to try.
fn unreadable(bytes: &[u8]) -> Option<IndexError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = serde_json::from_slice(bytes).ok()?;
    (format != FORMAT).then(|| {
        IndexError::invalid(format!(
            "the index has format {format}; this version of engine reads {FORMAT}"
        ))
    })
}
