//! A file and its includes, from disk to a checked [`Program`].

use crate::{
    content::{self, Named},
    reload::watch::Seen,
};
use graphs::{Facts, Machine, Program};
use schema::{Diagnostic, Document, Source, Sources, Spanned, Text};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Where texts come from.
#[derive(Debug, Clone, Default)]
pub enum Origin {
    /// The disk.
    #[default]
    Disk,
    /// These, by the paths under which they are named; nothing else exists.
    Given(Vec<Given>),
}

/// A text and the path under which it is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The path, as the main file or an include leads to it.
    pub path: PathBuf,
    /// The text.
    pub text: String,
}

/// A file that has been read and checked.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub program: Program,
    /// What is probably not meant as it stands, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// The texts that it was read from.
    pub sources: Sources,
    /// The files behind `sources`, in their order.
    pub files: Vec<PathBuf>,
}

/// A file that cannot be run, with every reason.
#[derive(Debug, Default)]
pub struct Rejected {
    /// What is wrong, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that the places are in.
    pub sources: Sources,
    /// The files that were read: once one of them changes it is worth another try.
    pub files: Vec<PathBuf>,
    /// Files that could not be read, and what lay there: once that changes it is worth another try too.
    pub unread: Vec<(PathBuf, Seen)>,
    /// What else on the disk it names, and what lay there.
    pub named: Vec<(Named, Seen)>,
}

/// Reads and checks `path` and what it includes. `facts` is asked what is known of the declared
/// models and indexes.
///
/// # Errors
/// Every problem of all the files at once.
pub fn load(path: &Path, facts: impl FnOnce(&Document) -> Facts) -> Result<Loaded, Rejected> {
    load_from(Origin::Disk, path, facts)
}

/// The text of a file and of what it includes, whatever is wrong with them.
pub fn texts(path: &Path) -> Vec<Given> {
    let sources = match load(path, |_| Facts::default()) {
        Ok(loaded) => loaded.sources,
        Err(rejected) => rejected.sources,
    };
    let given = sources.iter().map(|source| Given {
        path: PathBuf::from(&source.name),
        text: source.text.clone(),
    });
    given.collect()
}

/// Reads and checks texts from anywhere.
///
/// # Errors
/// Every problem of all the texts at once.
pub fn load_from(
    origin: Origin,
    path: &Path,
    facts: impl FnOnce(&Document) -> Facts,
) -> Result<Loaded, Rejected> {
    let mut reader = Reader {
        origin,
        ..Reader::default()
    };
    let mut document = Document::default();
    if let Err(problem) = reader.read(path, None, &mut document) {
        reader.diagnostics.push(problem);
    }
    let Reader {
        sources,
        files,
        diagnostics: read,
        unread,
        ..
    } = reader;
    let facts = facts(&document);
    let named = content::of_document(&document);
    let (program, checked) = match graphs::check(document, &facts) {
        Ok(program) => {
            let warnings = program.warnings().to_vec();
            (Some(program), warnings)
        }
        Err(problems) => (None, problems),
    };
    let diagnostics = Diagnostic::joined(read, checked);
    match program {
        Some(program) if !diagnostics.iter().any(Diagnostic::is_error) => Ok(Loaded {
            program,
            warnings: diagnostics,
            sources,
            files,
        }),
        _ => Err(Rejected {
            diagnostics,
            sources,
            files,
            unread,
            named: content::with_seen(named, &facts.content),
        }),
    }
}

/// The machine that this process runs on, as far as the operating system says.
pub fn machine() -> Machine {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Machine {
        cpus: cpus as f64,
        gpus: 0.0,
        memory: total_memory().unwrap_or(u64::MAX),
    }
}

/// Bytes of memory, from Linux's `/proc/meminfo`.
fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

impl Origin {
    /// The one path of a text that may have several.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        match self {
            Origin::Disk => path.canonicalize(),
            Origin::Given(_) => Ok(path.to_owned()),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self {
            Origin::Disk => std::fs::read(path),
            Origin::Given(texts) => {
                let found = texts.iter().find(|given| given.path == path);
                let found = found.map(|given| given.text.clone().into_bytes());
                found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            }
        }
    }
}

#[derive(Default)]
struct Reader {
    origin: Origin,
    sources: Sources,
    files: Vec<PathBuf>,
    diagnostics: Vec<Diagnostic>,
    unread: Vec<(PathBuf, Seen)>,
    /// Files on the way from the main file to the one being read: meeting one again is a circle.
    open: Vec<PathBuf>,
}

impl Reader {
    /// Reads one file and, depth first, what it includes, and joins all of it to `document`.
    fn read(
        &mut self,
        path: &Path,
        from: Option<&Spanned<Text>>,
        document: &mut Document,
    ) -> Result<(), Diagnostic> {
        let place = from.map(|include| include.span).unwrap_or_default();
        let cannot = |reason: String| {
            let message = format!("cannot read {}: {reason}", path.display());
            Diagnostic::error(schema::codes::UNREADABLE_FILE, message, place)
        };
        let canonical = self.origin.canonical(path).map_err(|error| {
            self.unread.push((path.to_owned(), Seen::Missing));
            cannot(error.to_string())
        })?;
        if self.open.contains(&canonical) {
            return Err(Diagnostic::error(
                schema::codes::INCLUDE_CYCLE,
                format!("{} includes itself", path.display()),
                place,
            ));
        }
        if self.files.contains(&canonical) {
            return Ok(());
        }
        let bytes = self.origin.read(&canonical);
        let bytes = bytes.map_err(|error| {
            self.unread.push((path.to_owned(), Seen::Missing));
            cannot(error.to_string())
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            self.unread
                .push((path.to_owned(), content::seen(error.as_bytes())));
            let at = error.utf8_error().valid_up_to();
            cannot(format!("it is not UTF-8 (byte {at})"))
        })?;
        let id = self.sources.add(path.display().to_string(), text.clone());
        self.files.push(canonical.clone());
        self.open.push(canonical);
        let source = Source {
            id,
            name: path.display().to_string(),
            text,
        };
        let (mut part, problems) = schema::parse(&source, &|name| std::env::var(name).ok());
        self.diagnostics.extend(problems);
        let folder = path.parent().unwrap_or(Path::new("."));
        for include in std::mem::take(&mut part.includes) {
            let next = folder.join(include.expose());
            if let Err(problem) = self.read(&next, Some(&include), document) {
                self.diagnostics.push(problem);
            }
        }
        self.diagnostics.extend(document.join(part));
        self.open.pop();
        Ok(())
    }
}
