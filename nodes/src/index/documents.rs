//! Reading the documents that an index is built from: a folder of Markdown and text, or JSON lines.

use super::{IndexError, Record, json_lines, log::read_small, passages};
use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

/// Longest text file that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// How deep folders are looked into.
const DEEPEST: usize = 32;

/// Documents to build an index from.
pub struct Documents {
    /// How many there are.
    pub total: usize,
    /// The documents, in an order that does not change as long as the files do not.
    pub records: Box<dyn Iterator<Item = Result<Record, IndexError>> + Send>,
}

/// How texts become documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Files and folders inside the folder that are left out.
    pub exclude: Vec<PathBuf>,
    /// Most characters of a passage.
    pub passage_size: usize,
}

/// The documents of a JSON-lines file (`.jsonl`, `.ndjson`), the passages of one text (any other
/// file), or those of all `.md`, `.markdown` and `.txt` files in a folder and its folders. In a
/// folder, hidden files and links are passed over.
///
/// # Errors
/// If a file cannot be read, is no text, or a folder holds no such file.
pub fn documents(path: &Path, reading: &Reading) -> Result<Documents, IndexError> {
    let metadata = fs::metadata(path).map_err(IndexError::io("read", path))?;
    if metadata.is_dir() {
        return folder(path, reading);
    }
    match extension(path).as_deref() {
        Some("jsonl" | "ndjson") => lines(path),
        _ => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Ok(known(read(path, &name, reading)?))
        }
    }
}

fn known(records: Vec<Record>) -> Documents {
    Documents {
        total: records.len(),
        records: Box::new(records.into_iter().map(Ok)),
    }
}

fn lines(path: &Path) -> Result<Documents, IndexError> {
    let open = || {
        let file = File::open(path).map_err(IndexError::io("open", path))?;
        Ok(BufReader::with_capacity(1 << 20, file))
    };
    let mut total = 0;
    for line in open()?.split(b'\n') {
        let line = line.map_err(IndexError::io("read", path))?;
        total += usize::from(!line.trim_ascii().is_empty());
    }
    let name = path.display().to_string();
    let records = json_lines(open()?)
        .map(move |record| record.map_err(|error| IndexError::invalid(format!("{name}: {error}"))));
    Ok(Documents {
        total,
        records: Box::new(records),
    })
}

fn folder(path: &Path, reading: &Reading) -> Result<Documents, IndexError> {
    let mut records = Vec::new();
    for file in texts(path)? {
        // The path inside the folder, the same on every machine.
        let inside = file.strip_prefix(path).unwrap_or(&file);
        if reading.exclude.iter().any(|left| inside.starts_with(left)) {
            continue;
        }
        let parts = inside
            .components()
            .map(|part| part.as_os_str().to_string_lossy());
        let source = parts.collect::<Vec<_>>().join("/");
        records.extend(read(&file, &source, reading)?);
    }
    match records.is_empty() {
        true => Err(IndexError::invalid(format!(
            "{} holds no text to index: no .md, .markdown or .txt file with any",
            path.display()
        ))),
        false => Ok(known(records)),
    }
}

/// The text files of a folder and its folders, in order.
fn texts(path: &Path) -> Result<Vec<PathBuf>, IndexError> {
    let mut found = Vec::new();
    let mut folders = VecDeque::from([(path.to_owned(), 0)]);
    while let Some((folder, depth)) = folders.pop_front() {
        for entry in fs::read_dir(&folder).map_err(IndexError::io("read", &folder))? {
            let entry = entry.map_err(IndexError::io("read", &folder))?;
            let kind = entry.file_type().map_err(IndexError::io("read", &folder))?;
            let path = entry.path();
            let text = matches!(extension(&path).as_deref(), Some("md" | "markdown" | "txt"));
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() && depth < DEEPEST {
                folders.push_back((path, depth + 1));
            } else if kind.is_file() && text {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path, source: &str, reading: &Reading) -> Result<Vec<Record>, IndexError> {
    let invalid = |reason: &str| IndexError::invalid(format!("{} {reason}", path.display()));
    let bytes = read_small(path, LONGEST + 1).map_err(IndexError::io("read", path))?;
    if bytes.len() as u64 > LONGEST {
        return Err(invalid("is longer than 64 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("is no text in UTF-8"))?;
    Ok(passages(source, &text, reading.passage_size)
        .into_iter()
        .map(Record::from)
        .collect())
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn reading() -> Reading {
        Reading {
            exclude: Vec::new(),
            passage_size: 900,
        }
    }

    fn ids(path: &Path, reading: &Reading) -> Vec<String> {
        let documents = documents(path, reading).unwrap();
        let ids: Vec<_> = documents
            .records
            .map(|record| record.unwrap().id.to_string())
            .collect();
        assert_eq!(ids.len(), documents.total);
        ids
    }

    #[test]
    fn folders_files_and_lines() {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, text: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let empty = documents(folder.path(), &reading())
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(empty.ends_with("holds no text to index: no .md, .markdown or .txt file with any"));
        let guide = write("guide.md", b"# Guide\n\nText.");
        write("deep/er/Note.TXT", b"A note.");
        write(".hidden/x.md", b"# Hidden\n\nText.");
        write("picture.png", b"\x89PNG");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        assert_eq!(
            ids(folder.path(), &reading()),
            ["deep/er/Note.TXT#note", "guide.md#guide"]
        );
        let without = Reading {
            exclude: vec!["deep/er".into()],
            ..reading()
        };
        assert_eq!(ids(folder.path(), &without), ["guide.md#guide"]);
        assert_eq!(ids(&guide, &reading()), ["guide.md#guide"]);
        let lines = write(
            "d.jsonl",
            b"{\"id\":1,\"text\":\"\"}\n\n{\"id\":2,\"text\":\"\"}\n",
        );
        assert_eq!(ids(&lines, &reading()), ["1", "2"]);
        let wrong = write("e.jsonl", b"\n{\"id\":1}\n");
        let error = documents(&wrong, &reading())
            .unwrap()
            .records
            .next()
            .unwrap()
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("e.jsonl: line 2: there is no \"text\""),
            "{error}"
        );
        let binary = write("binary.md", b"\xff\xfe");
        assert!(
            documents(&binary, &reading())
                .map(|_| ())
                .unwrap_err()
                .to_string()
                .ends_with("is no text in UTF-8")
        );
        let absent = documents(&folder.path().join("absent"), &reading())
            .map(|_| ())
            .unwrap_err();
        assert!(absent.to_string().starts_with("failed to read"));
    }
}
