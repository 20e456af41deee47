//! What lies on the disk under what a file names: Python files, and models that are had by `file:`.
//!
//! A program is told apart by it from another one with the same declarations ([`Content`]), and it is
//! watched with the file. Small files count by what they say, models by the size, time and number of
//! their files: weights are too large to be read twenty times a second. Adapters are not here: they are
//! looked at when a request names them.

use crate::reload::watch::Seen;
use graphs::{Content, Program};
use nodes::source::Place;
use schema::{Document, ModelDecl, Name, Work};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// How far below a model's folder files belong to it; deeper ones are those of something else.
const DEPTH: usize = 2;

/// Something on the disk that a file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    what: What,
    /// Where it is; relative ones are so to the file's folder.
    paths: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// A text of the language.
    Text,
    /// A file of a Python node, by its path as written.
    Python(String),
    /// The files of a model.
    Model(Name),
}

/// What a document names, each once.
pub fn of_document(document: &Document) -> Vec<Named> {
    let nodes = document.graphs.iter().flat_map(|graph| &graph.nodes);
    named(&document.models, nodes.map(|node| &node.work))
}

/// What a program names, each once.
pub fn of_program(program: &Program) -> Vec<Named> {
    let nodes = program.graphs().iter().flat_map(|graph| graph.nodes());
    named(program.models(), nodes.map(|(_, node)| &node.decl.work))
}

fn named<'a>(models: &[ModelDecl], works: impl Iterator<Item = &'a Work>) -> Vec<Named> {
    let python = works.filter_map(|work| match work {
        Work::Python(python) => Some(python),
        _ => None,
    });
    let files = python.flat_map(|python| {
        let requirements = python.requirements.as_ref();
        [Some(&python.file), requirements].into_iter().flatten()
    });
    let files = files.map(|path| path.value.expose()).map(|path| Named {
        what: What::Python(path.to_owned()),
        paths: vec![path.into()],
    });
    let mut named = Vec::new();
    for one in files.chain(models.iter().filter_map(of_model)) {
        if !named.contains(&one) {
            named.push(one);
        }
    }
    named
}

fn of_model(model: &ModelDecl) -> Option<Named> {
    let places = model
        .sources
        .iter()
        .map(|source| Place::parse(source.uri.expose()));
    let paths = places.filter_map(|place| match place {
        Ok(Place::File(path)) => Some(path),
        _ => None,
    });
    let named = Named {
        what: What::Model(model.id.value.clone()),
        paths: paths.collect(),
    };
    (!named.paths.is_empty()).then_some(named)
}

/// Digests of what is there.
pub fn gather(named: &[Named], base_dir: &Path) -> Content {
    let mut content = Content::default();
    for one in named {
        let Seen::Content(digest) = one.look(base_dir) else {
            continue;
        };
        match &one.what {
            What::Text => {}
            What::Python(path) => drop(content.files.insert(path.clone(), digest)),
            What::Model(name) => drop(content.models.insert(name.clone(), digest)),
        }
    }
    content
}

/// What is named, each with what lay there when `content` was gathered.
pub fn with_seen(named: Vec<Named>, content: &Content) -> Vec<(Named, Seen)> {
    let named = named.into_iter();
    named
        .map(|one| {
            let seen = one.seen(content);
            (one, seen)
        })
        .collect()
}

/// What a program names, each with what lay there when it was read.
pub fn seen_of(program: &Program) -> Vec<(Named, Seen)> {
    with_seen(of_program(program), program.content())
}

impl Named {
    /// A text of the language.
    pub fn text(path: PathBuf) -> Self {
        Self {
            what: What::Text,
            paths: vec![path],
        }
    }

    /// What lay there when this was gathered.
    pub fn seen(&self, content: &Content) -> Seen {
        let digest = match &self.what {
            What::Text => None,
            What::Python(path) => content.files.get(path),
            What::Model(name) => content.models.get(name),
        };
        digest.map_or(Seen::Missing, |digest| Seen::Content(*digest))
    }

    /// Looks at what lies there now. Texts have paths of their own, and all others one that is relative
    /// to `base_dir`.
    pub fn look(&self, base_dir: &Path) -> Seen {
        match &self.what {
            What::Text => self.paths.first().map_or(Seen::Missing, |path| read(path)),
            What::Python(path) => read(&base_dir.join(path)),
            What::Model(_) => {
                let mut hasher = DefaultHasher::new();
                let paths = self.paths.iter().map(|path| base_dir.join(path));
                let found = paths.map(|path| stamp(&path, DEPTH, &mut hasher));
                match found.filter(Result::is_ok).count() {
                    0 => Seen::Missing,
                    _ => Seen::Content(hasher.finish()),
                }
            }
        }
    }
}

/// An empty file is as good as none: whoever saves by truncating has yet to write.
pub fn seen(content: &[u8]) -> Seen {
    match content {
        [] => Seen::Missing,
        content => {
            let mut hasher = DefaultHasher::new();
            content.hash(&mut hasher);
            Seen::Content(hasher.finish())
        }
    }
}

/// Small files are read, which costs no more than asking when they were written, and content cannot
/// lie.
fn read(path: &Path) -> Seen {
    fs::read(path).map_or(Seen::Missing, |content| seen(&content))
}

/// Size, time and number of a file, or of each below a folder.
fn stamp(path: &Path, depth: usize, hasher: &mut impl Hasher) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        if depth == 0 {
            return Ok(());
        }
        let entries = fs::read_dir(path)?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            file.file_name().hash(hasher);
            stamp(&file, depth - 1, hasher)?;
        }
        return Ok(());
    }
    metadata.len().hash(hasher);
    let written = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH);
    written.unwrap_or_default().hash(hasher);
    #[cfg(unix)]
    std::os::unix::fs::MetadataExt::ino(&metadata).hash(hasher);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        let source = schema::Source {
            id: schema::SourceId(0),
            name: "test.kdl".to_owned(),
            text: text.to_owned(),
        };
        let (document, problems) = schema::parse(&source, &|_| None);
        assert!(problems.is_empty(), "{problems:?}");
        document
    }

    #[test]
    fn an_empty_file_has_yet_to_be_written() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("graph.kdl");
        let look = || Named::text(path.clone()).look(Path::new("elsewhere"));
        assert_eq!(look(), Seen::Missing);
        fs::write(&path, "").unwrap();
        assert_eq!(look(), Seen::Missing);
        fs::write(&path, "graph g").unwrap();
        assert_ne!(look(), Seen::Missing);
    }

    #[test]
    fn files_that_are_exchanged_are_told_apart() {
        let document = document(
            r#"
            model one { source "file:one.gguf" }
            model many { source "hf:example/many"; source "file:many" }
            model far { source "hf:example/far" }
            graph g {
                python a { file "a.py"; function "f"; requirements "needs.txt" }
                python b { file "a.py"; function "g" }
                output { a "{{ a }}"; b "{{ b }}" }
            }
            "#,
        );
        let named = of_document(&document);
        assert_eq!(named.len(), 4, "{named:?}");
        let folder = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let gathered = || gather(&named, folder.path());
        assert_eq!(gathered(), Content::default());
        fs::create_dir(folder.path().join("many")).unwrap();
        for name in ["one.gguf", "many/config.json", "a.py", "needs.txt"] {
            write(name, "first");
        }
        let before = gathered();
        assert_eq!((before.files.len(), before.models.len()), (2, 2));
        assert_eq!(before, gathered());
        assert!(
            named
                .iter()
                .all(|one| one.look(folder.path()) == one.seen(&before))
        );
        write("many/weights.safetensors", "more");
        write("a.py", "second");
        let after = gathered();
        let (many, one) = (Name::new("many"), Name::new("one"));
        assert_ne!(before.models[&many], after.models[&many]);
        assert_eq!(before.models[&one], after.models[&one]);
        assert_ne!(before.files["a.py"], after.files["a.py"]);
        assert_eq!(before.files["needs.txt"], after.files["needs.txt"]);
    }
}
