//! Documents to put into an index: folders of Markdown and text, and JSON-lines files.

use crate::index::{IndexError, Record, json_lines, passages};
use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

/// Documents, found and counted, not read into memory.
#[derive(Debug)]
pub struct Corpus {
    parts: Vec<Part>,
    records: usize,
}

#[derive(Debug)]
enum Part {
    /// A text that is cut into passages.
    Text { path: PathBuf, name: String },
    /// One document a line.
    Lines(PathBuf),
}

/// Documents that cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of another kind.
    #[error("{} is no Markdown (.md), text (.txt) or JSON-lines (.jsonl) file", .0.display())]
    Kind(PathBuf),
    /// Nothing to read.
    #[error("no Markdown, text or JSON-lines files were found")]
    Empty,
}

impl Corpus {
    /// Looks for documents in files and, at any depth, in folders. In a folder, files of other kinds
    /// and hidden ones are passed over; passages are named by their file's path in the folder.
    ///
    /// # Errors
    /// Something cannot be read, or there is nothing.
    pub fn find(paths: &[PathBuf]) -> Result<Self, CorpusError> {
        let mut parts = Vec::new();
        for path in paths {
            if path.is_dir() {
                walk(path, path, &mut parts)?;
            } else {
                let part = part(path, path.parent().unwrap_or(Path::new("")));
                parts.push(part.ok_or_else(|| CorpusError::Kind(path.clone()))?);
            }
        }
        let mut records = 0;
        for part in &parts {
            records += part.count()?;
        }
        match records {
            0 => Err(CorpusError::Empty),
            records => Ok(Self { parts, records }),
        }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there are none; [`Corpus::find`] never gives such a one.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The records, file by file.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, IndexError>> {
        self.parts.iter().flat_map(Part::records)
    }
}

impl Part {
    fn path(&self) -> &Path {
        match self {
            Part::Text { path, .. } | Part::Lines(path) => path,
        }
    }

    fn count(&self) -> Result<usize, CorpusError> {
        let failed = |source| CorpusError::Read {
            path: self.path().to_owned(),
            source,
        };
        let text = fs::read_to_string(self.path()).map_err(failed)?;
        Ok(match self {
            Part::Text { name, .. } => passages(name, &text).len(),
            Part::Lines(_) => text.lines().filter(|line| !line.trim().is_empty()).count(),
        })
    }

    fn records(&self) -> Box<dyn Iterator<Item = Result<Record, IndexError>> + '_> {
        let invalid = |error: io::Error| {
            let reason = format!("{}: {error}", self.path().display());
            Box::new(std::iter::once(Err(IndexError::invalid(reason))))
        };
        match self {
            Part::Text { path, name } => match fs::read_to_string(path) {
                Ok(text) => Box::new(passages(name, &text).into_iter().map(|passage| Ok(passage.into()))),
                Err(error) => invalid(error),
            },
            Part::Lines(path) => match File::open(path) {
                Ok(file) => Box::new(json_lines(BufReader::new(file))),
                Err(error) => invalid(error),
            },
        }
    }
}

fn walk(folder: &Path, root: &Path, parts: &mut Vec<Part>) -> Result<(), CorpusError> {
    let failed = |source| CorpusError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    // The order of a folder's entries is the file system's whim; that of an index should not be.
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            walk(&path, root, parts)?;
        } else {
            parts.extend(part(&path, root));
        }
    }
    Ok(())
}

fn part(path: &Path, root: &Path) -> Option<Part> {
    let kind = path.extension()?.to_str()?.to_ascii_lowercase();
    let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
    match kind.as_str() {
        "md" | "markdown" | "txt" => Some(Part::Text {
            path: path.to_owned(),
            name,
        }),
        "jsonl" => Some(Part::Lines(path.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_documents_in_folders_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("b")).unwrap();
        fs::write(root.join("b/guide.md"), "# Guide\n\nSome text.\n").unwrap();
        fs::write(root.join("a.txt"), "Plain text.").unwrap();
        fs::write(root.join(".hidden.md"), "# No").unwrap();
        fs::write(root.join("c.jsonl"), "{\"id\": \"1\", \"text\": \"one\"}\n\n").unwrap();
        fs::write(root.join("picture.png"), [0]).unwrap();
        let corpus = Corpus::find(&[root.to_owned()]).unwrap();
        let ids: Vec<_> = corpus.records().map(|record| record.unwrap().id.to_string()).collect();
        assert_eq!(corpus.len(), ids.len());
        assert_eq!(ids, ["a.txt", "b/guide.md#guide", "1"]);
    }

    #[test]
    fn says_what_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.md");
        let error = Corpus::find(&[missing]).unwrap_err();
        assert!(matches!(error, CorpusError::Read { .. }), "{error}");
        let error = Corpus::find(&[folder.path().join("x.png")]).unwrap_err();
        assert!(matches!(error, CorpusError::Kind(_)), "{error}");
        let error = Corpus::find(&[folder.path().to_owned()]).unwrap_err();
        assert!(matches!(error, CorpusError::Empty), "{error}");
    }
}
